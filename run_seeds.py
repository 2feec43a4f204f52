"""Run one configuration under several seeds with Ray Tune and say what they show.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.cli.options import Parser, above, whole
from golf.cli.terminal import python_line, quiet_when_closed
from golf.compliance.points import brief
from golf.config.config import to_plain
from golf.config.presets import PRESETS
from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, P_CLAIM, TRACK_SECONDS
from golf.data.dataset import Dataset
from golf.runtime.results import digest
from golf.submission.study_check import kept_check
from tune.cache.store import Store
from tune.cli.console import dry_table, ending_of
from tune.cli.session import Session, add_machines, add_places, guarded_anywhere
from tune.cli.study_target import Target, dataset_nats_per_bpb, find_data, find_target, size_of, stream_factor
from tune.cluster.sweep import finished
from tune.records.ledger import STAMPS, Ledger
from tune.records.layout import Storage
from tune.records.provenance import versions
from tune.records.queries import latest, trials_of
from tune.search.search import Search
from tune.search.space import REPEAT, SEED, Space
from tune.study.baseline import Baseline, baseline_of, check_same_text
from tune.study.export import export_study
from tune.study.noise import PUBLISHED, Noise, needed, pooled
from tune.study.paired import compare
from tune.study.preregistration import (
    SEEDS,
    Plan,
    Sequential,
    agreed,
    entry_of,
    fixed_seeds,
    fresh_seeds,
    known_seeds,
    plan_in,
)
from tune.study.runs import Study, check_unmixed, config_key, study_of
from tune.study.sequential_test import nominal_levels
from tune.study.text import comparison_text, power_text, verdict_text
from tune.study.verdict import TEXT, VERDICT, due, judge, plain
from tune.tracking.tracker import runs_page
from tune.workloads.gepa.outcome import CHECK
from tune.workloads.gepa.stages import code_digest

EXAMPLES = """
examples:
  run_seeds.py demo                                       three seeds, and what they show
  run_seeds.py demo --split int5-mlp --baseline demo-seeds    three of another split against them
  run_seeds.py --from-sweep demo --best --seeds 7 8 9     of the winner of a sweep
  run_seeds.py pr598 --baseline 1.12 --until-decided --max-seeds 8
  run_seeds.py demo --power --gain-nats 0.01              how many seeds that gain needs; runs nothing
  run_seeds.py --compare demo-seeds demo-int5-mlp-seeds   two studies, chunk by chunk and seed by seed

exit status: 0, also when some runs failed, which is said; 1 when no run gave a score and some failed; 2 for what
cannot be run; 130 when it was stopped and can be continued
"""
MAX_SEEDS = 10


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("run_seeds.py", description=__doc__, epilog=EXAMPLES, formatter_class=form)
    what = f"one of {', '.join(PRESETS)}, the path of a config.json, or a trial's id in the ledger (or its beginning)"
    parser.add_argument("preset", nargs="?", help=what)
    parser.add_argument("--from-sweep", metavar="NAME", help="a configuration of this sweep, with --best")
    parser.add_argument("--best", action="store_true", help="the sweep's best trial under the cap")
    parser.add_argument("--dry-run", action="store_true", help="print the runs with their work and stop")
    runs = parser.add_argument_group("runs")
    runs.add_argument("--seeds", type=whole(most=2**63 - 1), nargs="+", help=f"({' '.join(map(str, SEEDS))})")
    runs.add_argument("--split", help="another quantisation split")
    runs.add_argument("--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE", help="fields to change")
    runs.add_argument("--repeat", type=whole(), default=0, metavar="K", help="run the first seed K more times")
    runs.add_argument("--cold", action="store_true", help="compute all anew, share nothing: what a record claims")
    test = parser.add_argument_group("test")
    test.add_argument(
        "--baseline",
        nargs="+",
        metavar="NAME|VALUE",
        help="a study, SWEEP:TRIAL or trial in the ledger, the values of its seeds, or one published mean, in BPB",
    )
    test.add_argument("--baseline-nats", action="store_true", help="values of --baseline are nats per token")
    test.add_argument("--margin-nats", type=float, help=f"that a gain has to exceed ({MARGIN_NATS}; 0 for --compare)")
    test.add_argument(
        "--track", choices=list(TRACK_SECONDS), default=NON_RECORD, help="whose seconds count (%(default)s)"
    )
    test.add_argument("--until-decided", action="store_true", help="add seeds until the gain is shown or denied")
    test.add_argument("--max-seeds", type=whole(), default=MAX_SEEDS, help="for --until-decided (%(default)s)")
    others = parser.add_argument_group("without running anything")
    others.add_argument("--compare", nargs="+", metavar="NAME", help="compare with the first, on one stream")
    others.add_argument("--power", action="store_true", help="how many seeds a gain needs")
    others.add_argument("--gain-bpb", type=above("BPB"), nargs="+", default=[], help="true gains, for --power")
    others.add_argument("--gain-nats", type=above("nats"), nargs="+", default=[], help="the same in nats per token")
    others.add_argument("--noise-bpb", type=float, help="deviation from seed to seed, for --power (the ledger's)")
    add_places(parser, "the study's name (made of preset or trial and changes); the same name continues")
    add_machines(parser)
    return parser.parse_args(arguments)


def make_plan(
    parsed: argparse.Namespace,
    target: Target,
    dataset: Dataset,
    baseline: Baseline | None,
    known: Mapping[int, str],
    earlier: Plan | None,
) -> Plan:
    """The plan that the command line asks for.

    Args: known: see `fresh_seeds`; earlier: the study's own.
    Raises: ValueError for options that do not fit each other.
    """
    if any(text.partition("=")[0] == SEED for text in parsed.set):
        raise ValueError("--set seed=... is not for a study: give the seeds with --seeds")
    if parsed.repeat < 0 or parsed.repeat == 1:
        raise ValueError(f"--repeat takes 2 or more runs, one shows no noise; got {parsed.repeat}")
    sequential, given = None, SEEDS if parsed.seeds is None else parsed.seeds
    seeds = fixed_seeds(given, len(given))
    if parsed.until_decided:
        if baseline is None:
            raise ValueError("--until-decided needs a --baseline: a study, its values or a published mean")
        if parsed.max_seeds < MIN_SEEDS:
            raise ValueError(f"--max-seeds must be at least {MIN_SEEDS}, got {parsed.max_seeds}")
        seeds = fresh_seeds(parsed.seeds, parsed.max_seeds, known, earlier)
        looks = tuple(range(MIN_SEEDS, parsed.max_seeds + 1))
        nominal_levels(None if baseline.published else len(baseline.bpb), looks, P_CLAIM)
        sequential = Sequential(looks, baseline.name, baseline.bpb, baseline.published, margin_of(parsed))
    key = digest(config_key(target.config))
    return Plan(key, dataset.digest, seeds, parsed.repeat, parsed.cold, sequential)


def margin_of(parsed: argparse.Namespace, default: float = MARGIN_NATS) -> float:
    """The margin in nats per token. Raises: ValueError unless it is finite."""
    margin = default if parsed.margin_nats is None else parsed.margin_nats
    if not math.isfinite(margin):
        raise ValueError(f"--margin-nats must be finite, got {margin}")
    return float(margin)


def study(parsed: argparse.Namespace) -> int:
    """Run or continue a study and say what it shows."""
    storage = Storage(parsed.storage.resolve())
    ledger = Ledger(storage.ledger)
    entries = ledger.entries()
    target = find_target(parsed, entries)
    name = parsed.name or target.name
    if not re.fullmatch(r"[\w.\-+=]+", name):
        raise ValueError(f'a study\'s name has letters, digits and . - + = _ only, got "{name}"')
    dataset, margin = find_data(parsed, target, storage), margin_of(parsed)
    factor = dataset_nats_per_bpb(dataset)
    baseline = None
    if parsed.baseline:
        baseline = baseline_of(parsed.baseline, entries, factor, parsed.baseline_nats)
        if baseline.study is not None and baseline.study.stream is not None:
            check_same_text(name, size_of(dataset), baseline.name, baseline.study.stream.size)
    known, earlier = finished(name, storage), plan_in(name, entries)
    wanted = make_plan(parsed, target, dataset, baseline, known_seeds(target.config, name, entries), earlier)
    if known:
        same = {field: known[-1].get(field) for field in ("code", "environment")}
        check_unmixed(name, known, coming(target, dataset) | same)
    plan = agreed(name, earlier, wanted, len(trials_of(entries, name)))
    if parsed.dry_run:
        planned = make_search(target, dataset, plan, plan.seeds, known).planned()
        print(f"study {name}: seeds {' '.join(map(str, plan.seeds))}")
        print(dry_table(planned, dataset, len(known)))
        return 0
    if plan != earlier:
        ledger.append(entry_of(name, plan))
    with Session(parsed, storage, target.preset) as session:
        run_due(name, target, dataset, plan, session)
    code = conclude(parsed, name, plan, baseline, margin, session, dataset)
    session.finish_mirror()
    return code


def coming(target: Target, dataset: Dataset) -> dict[str, Any]:
    """An entry as this command makes them, without its result."""
    now = {"data": dataset.digest, "code": code_digest(), "environment": versions()}
    return {"kind": "trial", "config": to_plain(target.config), **now}


def make_search(
    target: Target, dataset: Dataset, plan: Plan, seeds: Sequence[int], known: list[dict[str, Any]]
) -> Search:
    """A search that gives these seeds, and the plan's repeats of the first."""
    spaces: list[Space] = [{SEED: list(seeds)}]
    if plan.repeats:
        spaces.append({SEED: [plan.seeds[0]], REPEAT: list(range(1, plan.repeats + 1))})
    return Search(target.config, spaces, "grid", None, 0, dataset.digest, known)


def current(name: str, storage: Storage) -> Study | None:
    """The study as the ledger has it now; None before its first run."""
    entries = Ledger(storage.ledger).entries()
    return study_of(name, entries) if trials_of(entries, name) else None


def run_due(name: str, target: Target, dataset: Dataset, plan: Plan, session: Session) -> None:
    """Run the seeds of one look after the other until none is due; a look that gave no value is not tried twice."""
    last: tuple[int, ...] = ()
    while not session.stopped and (seeds := due(current(name, session.storage), plan)) and seeds != last:
        last, known = seeds, finished(name, session.storage)
        search = make_search(target, dataset, plan, seeds, known)
        if search.num_trials > len(search.given):
            check_unmixed(name, known, coming(target, dataset))
            session.run(name, search, dataset, known, what="study", reuse=not plan.cold, tags={"study": name})


def conclude(
    parsed: argparse.Namespace,
    name: str,
    plan: Plan,
    baseline: Baseline | None,
    margin: float,
    session: Session,
    dataset: Dataset,
) -> int:
    """Print the verdict; when the runs came to their end, keep it in the ledger and export the study."""
    ledger, found = Ledger(session.storage.ledger), current(name, session.storage)
    history = ledger.find(kind=VERDICT, study=name)
    if found is not None:
        verdict = judge(found, plan, baseline, margin, parsed.track, history)
        text = verdict_text(verdict)
        print(f"\n{text}\n")
        entry = {**plain(verdict), TEXT: text}
        if not session.stopped:
            store = Store(parsed.store or session.storage.store)
            folder = export_study(session.storage, name, entry, dataset, store)
            entry[CHECK] = kept_check(folder)
            last = {field: value for field, value in history[-1].items() if field not in STAMPS} if history else None
            if entry != last:
                ledger.append(entry)
            print(f"checks: {brief(entry[CHECK])} (all of it: {python_line('golf', 'check', str(folder))})")
            submit = python_line("golf", "submit", str(folder))
            print(f"a record folder: {submit} --author NAME --github-id ID --name TITLE")
        problem = session.send(name)
        print(f"every number: {ledger.path}\n{problem or runs_page(session.uri, session.preset, name)}")
    if session.stopped:
        print("stopped: what was finished is kept; the same command continues")
        return 130
    entries = latest(ledger.entries(), name)
    ending = ending_of(entries, cap_of(entries), session.storage.root, "run")
    if ending.text:
        print(ending.text)
    return ending.status


def cap_of(entries: Sequence[Mapping[str, Any]]) -> int:
    """The byte cap of a study's runs."""
    return int(entries[0]["config"]["cap_bytes"]) if entries else 0


def show_comparison(parsed: argparse.Namespace) -> int:
    """Compare what the ledger holds."""
    if parsed.preset is not None:
        raise ValueError(f'--compare takes its names alone; put "{parsed.preset}" behind it')
    entries = Ledger(Storage(parsed.storage.resolve()).ledger).entries()
    print(comparison_text(compare(parsed.compare, entries, margin_of(parsed, 0.0))))
    return 0


def show_power(parsed: argparse.Namespace) -> int:
    """How many seeds a gain needs, by the noise given, the ledger's, and the published one."""
    storage = Storage(parsed.storage.resolve())
    entries = Ledger(storage.ledger).entries()
    preset = find_target(parsed, entries).preset
    factor, stream = stream_factor(parsed, entries, preset, storage)
    margin = margin_of(parsed) / factor
    gains = [*parsed.gain_bpb, *(gain / factor for gain in parsed.gain_nats)]
    baseline = baseline_of(parsed.baseline, entries, factor, parsed.baseline_nats) if parsed.baseline else None
    num_baseline = None if baseline is None or baseline.published else len(baseline.bpb)
    noises = [PUBLISHED]
    if parsed.noise_bpb is not None:
        noises = [Noise(parsed.noise_bpb, None, "as given")]
    elif (own := pooled(entries, preset)) is not None:
        noises = [own, PUBLISHED]
    texts = []
    for noise in noises:
        table = needed(noise.sd_bpb, margin, gains, num_baseline)
        texts.append(power_text(noise, table, margin * factor, factor, stream, num_baseline))
    print("\n\n".join(texts))
    return 0


@quiet_when_closed
def main(arguments: list[str]) -> int:
    """Run, compare or plan; errors of input are one line and exit code 2."""
    parsed = parse(arguments)
    act = show_comparison if parsed.compare else show_power if parsed.power else study
    return guarded_anywhere(Path(__file__).name, arguments, act, parsed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

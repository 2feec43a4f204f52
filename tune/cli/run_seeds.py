"""The command run_seeds.py: runs a seed study and reports what it shows, compares studies, or plans one."""

import argparse
import re
from collections.abc import Sequence

from msgspec.structs import replace

from golf.cli.terminal import python_line
from golf.compliance.points import brief
from golf.config.config import to_plain
from golf.config.rules import MIN_SEEDS, P_CLAIM
from golf.runtime.results import digest
from golf.submission.study import StudyVerdict
from golf.submission.study_check import saved_check
from tune.cache.store import Store
from tune.cli.console import ending_of
from tune.cli.options import run_anywhere
from tune.cli.seed_options import SeedStudyOptions, options_of
from tune.cli.session import Runs, Session
from tune.cli.study_target import (
    dataset_nats_per_bpb,
    find_data,
    find_target,
    likely_nats_per_bpb,
    stream_size,
)
from tune.cluster.sweep import finished
from tune.records.entries import (
    REPEAT,
    SEED,
    PlanEntry,
    SequentialPlan,
    StudyPlan,
    TrialEntry,
    VerdictEntry,
    WorldShape,
)
from tune.records.ledger import Ledger
from tune.records.provenance import versions
from tune.search.search import Search, SearchConfig
from tune.search.space import Space
from tune.study.baseline import Baseline, baseline_of, check_same_text
from tune.study.conditions import GEPA, check_unmixed, configuration_key
from tune.study.export import export_study
from tune.study.noise import PUBLISHED, Noise, pooled_noise, seeds_table
from tune.study.paired import compare
from tune.study.preregistration import SEEDS, agreed_plan, fixed_seeds, fresh_seeds, known_seeds
from tune.study.runs import Study, study_of
from tune.study.sequential_test import NO_GAIN_ALPHA, nominal_levels
from tune.study.text import comparison_text, power_text, verdict_text
from tune.study.verdict import due_seeds, judge
from tune.tracking.tracker import runs_page
from tune.workloads.gepa.describe import describe_text_passes, dry_run_table
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.workload import GepaWorkload


class SeedStudyCommand:
    """A seed study from the command line: shown, or run and judged."""

    def __init__(self, options: SeedStudyOptions) -> None:
        """Reads configuration, data, baseline and ledger. Raises: ValueError, OSError for what cannot be run."""
        self.options, self.storage = options, options.places.storage
        self.ledger = Ledger(self.storage.ledger)
        self.target = find_target(options.target, self.ledger.trials())
        self.name = options.name or self.target.name
        if not re.fullmatch(r"[\w.\-+=]+", self.name):
            raise ValueError(f'a study\'s name has letters, digits and . - + = _ only, got "{self.name}"')
        self.dataset = find_data(options.target, self.target, self.storage)
        self.configuration = configuration_key(to_plain(self.target.config), GEPA)
        self.code = self.workload(options.machines.planned_workers().world).code
        self.baseline = self.find_baseline()

    def workload(self, world: WorldShape) -> GepaWorkload:
        """Returns what the runs are, on the machines of one run."""
        return GepaWorkload.of(self.target.config, self.target.preset, self.dataset, world)

    def find_baseline(self) -> Baseline | None:
        """Returns the baseline, None where none is asked for. Raises: ValueError for one on another stream."""
        names, in_nats = self.options.baseline, self.options.baseline_in_nats
        if not names:
            return None
        baseline = baseline_of(names, self.ledger, dataset_nats_per_bpb(self.dataset), in_nats)
        if baseline.study is not None and baseline.study.stream is not None:
            check_same_text(self.name, stream_size(self.dataset), baseline.name, baseline.study.stream.size)
        return baseline

    def run(self) -> int:
        """Shows the study, or runs or continues it and reports what it shows. Returns: the exit status."""
        wanted, known = self.wanted_plan(), self.finished()
        self.check_known(known, will_run=False)
        plan = agreed_plan(self.name, self.earlier_plan(), wanted, len(self.ledger.trials(self.name)))
        if self.options.dry_run:
            search = self.search(plan, plan.seeds, known)
            print(f"study {self.name}: seeds {' '.join(map(str, plan.seeds))}")
            print(dry_run_table(search.planned(), self.dataset, len(known)))
            return 0
        if plan != self.earlier_plan():
            self.ledger.append(PlanEntry(study=self.name, plan=plan))
        with Session(self.options.places, self.options.machines, self.target.preset) as session:
            self.run_due(plan, session)
        status = self.conclude(plan, session)
        session.finish_mirror()
        return status

    def earlier_plan(self) -> StudyPlan | None:
        """Returns the study's plan in the ledger."""
        plans = self.ledger.plans(self.name)
        return plans[-1].plan if plans else None

    def wanted_plan(self) -> StudyPlan:
        """Returns the plan that the command line asks for. Raises: ValueError for seeds that cannot be planned."""
        options = self.options
        given, sequential = SEEDS if options.seeds is None else options.seeds, None
        seeds = fixed_seeds(given, len(given))
        if options.max_seeds is not None and self.baseline is not None:
            known = known_seeds(self.configuration, self.name, self.ledger.trials())
            seeds = fresh_seeds(options.seeds, options.max_seeds, known, self.earlier_plan())
            looks = tuple(range(MIN_SEEDS, options.max_seeds + 1))
            nominal_levels(None if self.baseline.published else len(self.baseline.bpb), looks, P_CLAIM)
            sequential = SequentialPlan(
                looks=looks,
                baseline=self.baseline.name,
                baseline_bpb=self.baseline.bpb,
                published=self.baseline.published,
                margin_nats=options.margin_nats,
                alpha=P_CLAIM,
                no_gain_alpha=NO_GAIN_ALPHA,
            )
        return StudyPlan(
            configuration=digest(self.configuration),
            data=self.dataset.digest,
            seeds=seeds,
            repeats=options.repeats,
            cold=options.cold,
            sequential=sequential,
        )

    def check_known(self, known: Sequence[TrialEntry], will_run: bool) -> None:
        """Raises: ValueError where the study's runs are not what this command runs.

        Args: will_run: whether anything is run: only then other code and versions matter.
        """
        if known:
            coming = replace(known[-1], config=to_plain(self.target.config), data=self.dataset.digest, device=None)
            coming = replace(coming, code=self.code, environment=versions()) if will_run else coming
            check_unmixed(self.name, known, coming)

    def finished(self) -> list[TrialEntry]:
        """Returns the runs that are not run again."""
        return finished(self.name, self.storage, self.code, keep_screened=False)

    def search(self, plan: StudyPlan, seeds: Sequence[int], known: Sequence[TrialEntry]) -> Search:
        """Returns a search that gives these seeds, and the plan's repeats of the first."""
        spaces: list[Space] = [{SEED: list(seeds)}]
        if plan.repeats:
            spaces.append({SEED: [plan.seeds[0]], REPEAT: list(range(1, plan.repeats + 1))})
        workload = self.workload(self.options.machines.planned_workers().world)
        return Search(SearchConfig(spaces=tuple(spaces), strategy="grid"), workload.trial, known)

    def current(self) -> Study | None:
        """Returns the study as the ledger has it now; None before its first run."""
        return study_of(self.name, self.ledger) if self.ledger.trials(self.name) else None

    def run_due(self, plan: StudyPlan, session: Session) -> None:
        """Runs the seeds of one look after another until none is due; a look that gave no value is not tried twice."""
        last: tuple[int, ...] = ()
        while not session.stopped and (seeds := due_seeds(self.current(), plan)) and seeds != last:
            last, known = seeds, self.finished()
            search = self.search(plan, seeds, known)
            if search.num_trials > len(search.given):
                self.check_known(known, will_run=True)
                passes = describe_text_passes(list(map(config_of, search.candidates())), self.dataset)
                session.run(
                    Runs(
                        name=self.name,
                        search=search,
                        make_workload=self.workload,
                        known=known,
                        what="study",
                        headline=f", cap {self.target.config.cap_bytes:,} bytes; {passes}",
                        share=not plan.cold,
                        keep_screened=False,
                        tags={"study": self.name},
                    )
                )

    def conclude(self, plan: StudyPlan, session: Session) -> int:
        """Prints the verdict; when the runs came to their end, keeps it in the ledger and exports the study."""
        study = self.current()
        if study is not None:
            history = [entry.verdict for entry in self.ledger.verdicts(self.name)]
            verdict = judge(study, plan, self.baseline, self.options.margin_nats, self.options.track, history)
            verdict = replace(verdict, text=verdict_text(study, verdict))
            print(f"\n{verdict.text}\n")
            if not session.stopped:
                self.keep(verdict, history)
            problem = session.send(self.name)
            page = problem or runs_page(session.uri, session.preset, self.name)
            print(f"every number: {self.ledger.path}\n{page}")
        if session.stopped:
            print("stopped: what was finished is kept; the same command continues")
            return 130
        ending = ending_of(self.ledger.latest(self.name), self.storage.root, "run")
        if ending.text:
            print(ending.text)
        return ending.status

    def keep(self, verdict: StudyVerdict, history: Sequence[StudyVerdict]) -> None:
        """Exports the study, checks what was exported, and writes a verdict that is new into the ledger."""
        folder = export_study(self.storage, self.name, verdict, self.dataset, Store(self.options.places.store))
        verdict = replace(verdict, check=saved_check(folder))
        if not history or verdict != history[-1]:
            self.ledger.append(VerdictEntry(study=self.name, verdict=verdict))
        check = python_line("golf", "check", str(folder))
        print(f"checks: {'none' if verdict.check is None else brief(verdict.check)} (all of it: {check})")
        submit = python_line("golf", "submit", str(folder))
        print(f"a record folder: {submit} --author NAME --github-id ID --name TITLE")


def show_comparison(options: SeedStudyOptions) -> int:
    """Compares what the ledger holds."""
    ledger = Ledger(options.places.storage.ledger)
    print(comparison_text(compare(options.compare, ledger, options.margin_nats)))
    return 0


def show_power(options: SeedStudyOptions) -> int:
    """Prints how many seeds a gain needs, by the noise given, the ledger's, and the published one."""
    storage = options.places.storage
    ledger = Ledger(storage.ledger)
    trials = ledger.trials()
    preset = find_target(options.target, trials).preset
    factor, stream = likely_nats_per_bpb(options.target.data, trials, preset, storage)
    margin = options.margin_nats / factor
    gains = [*options.gains_bpb, *(gain / factor for gain in options.gains_nats)]
    num_baseline = None
    if options.baseline:
        baseline = baseline_of(options.baseline, ledger, factor, options.baseline_in_nats)
        num_baseline = None if baseline.published else len(baseline.bpb)
    noises = [PUBLISHED]
    if options.noise_bpb is not None:
        noises = [Noise(sd_bpb=options.noise_bpb, source="as given")]
    elif (own := pooled_noise(trials, preset)) is not None:
        noises = [own, PUBLISHED]
    texts = []
    for noise in noises:
        table = seeds_table(noise.sd_bpb, margin, gains, num_baseline)
        texts.append(power_text(noise, table, margin * factor, factor, stream, num_baseline))
    print("\n\n".join(texts))
    return 0


def run(parsed: argparse.Namespace) -> int:
    """Compares, plans or runs, here or on a cluster. Returns: the exit status."""

    def act(local: argparse.Namespace) -> int:
        options = options_of(local)
        if options.compare:
            return show_comparison(options)
        return show_power(options) if options.power else SeedStudyCommand(options).run()

    return run_anywhere("seeds", parsed, act)

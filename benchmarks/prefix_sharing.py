"""What sharing saves: naive Ray Tune, every trial alone, against our sweep with shared stages, side by side in one run.

The grid is 3 warmdown starts x 2 step counts x 3 splits x 4 TTT settings, 72 trials, at a hundredth of the record's
steps, two trials at a time on CPUs, one thread each, Ray started once for all. "Alone" is a random sample of whole
trials as plain Ray Tune trials, unless --alone 72. It is scaled by the work: by what all 72 trials would cost alone
over what the sampled ones would, both as the shared sweep recorded them. Every sampled trial and the winner are
compared with their shared twins bit for bit. Screening runs the grid again in a store of its own, in the
order that the search gives it: what it expects to be best goes first.
Last, the driver's own cost when everything is stored. Prints tables and, at the end, one JSON object.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from golf.config.config import RunConfig, ScheduleConfig, override_all
from golf.config.presets import PRESETS
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import open_dataset
from golf.data.text import prepare_text
from golf.runtime.process_group import ProcessGroup
from golf.train.hooks import discard_point
from tune.cache.prefix_tree import unshared_steps
from tune.cli.progress import best_of
from tune.cluster.ray_cluster import start_ray, stop_ray
from tune.cluster.sweep import SweepConfig, run_sweep
from tune.cluster.workers import Workers
from tune.records.entries import Outcome, TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.search.space import Space, Trial
from tune.search.successive_halving import SuccessiveHalving
from tune.workloads.base import CacheConfig, RankContext, StageRequest, TrialSpec
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.stages import training_trees
from tune.workloads.gepa.workload import GepaWorkload
from tune.workloads.trial_process import read_outcome, run_trial

SPACE: Space = {
    "schedule.warmdown_start": [35, 45, 55],
    "schedule.steps": [70, 90],
    "split": ["mixed-int6-int8", "pure-int6", "int5-mlp"],
    "ttt.lr": [0.005, 0.02],
    "ttt.epochs": [2, 3],
}
NUM_CPUS = 2
SCREENING = SuccessiveHalving(fraction=0.1, top=0.35)
RECORD_TRAIN_SECONDS, RECORD_TTT_SECONDS = 3490.0, 2194.0
"""Of one trial on 4xA100-40GB (PR #598)."""
PUBLISHED = {7: 3.5, 9: 5, 12: 7, 15: 9, 20: 12, 25: 12, 30: 12}
"""Thousands of steps -> of warmdown start: the series that was published trial by trial."""
STORED_COUNTS = (10, 100, 1000)


def base_config(seed: int, quick: bool) -> RunConfig:
    """A small model whose training and TTT cost what the record's do to each other."""
    shape: dict[str, Any] = {"model.num_layers": 2, "model.value_layers": [1], "model.xsa_layers": 1} if quick else {}
    changes: dict[str, Any] = {
        "model.model_dim": 64,
        "model.mlp_hidden": 128,
        "model.rope_dims": 8,
        "schedule.momentum_steps": 15,
        "batch.sequence_length": 64,
        "batch.tokens_per_step": 1024,
        "score.sequence_length": 64,
        "score.stride": 64,
        "score.batch_windows": 8,
        "score.chunk_tokens": 512,
        "ttt.batch_sequences": 8,
        "cap_bytes": 16_000_000,
        "seed": seed,
    }
    return override_all(PRESETS["demo"], shape | changes)


def workload_of(base: RunConfig, data: Path, **fields: Any) -> GepaWorkload:
    """Returns the workload of a configuration on one CPU a trial."""
    return replace(GepaWorkload.of(base, "demo", open_dataset(data), Workers().world), **fields)


def sweep(name: str, base: RunConfig, data: Path, root: Path, **options: Any) -> tuple[list[TrialEntry], float]:
    """Returns the entries of the grid's trials, in the order in which they ended, and the wall-clock seconds.

    Args: options: space, strategy and seed of the search; screening.
    """
    storage, space = Storage(root), options.get("space", SPACE)
    workload = workload_of(base, data)
    if options.get("screening") is not None:
        workload = replace(workload, screening=options["screening"], screening_file=storage.screened(name))
    config = SearchConfig(
        spaces=(space,),
        strategy=options.get("strategy", "grid"),
        num_trials=None if space is not SPACE else 72,
        seed=options.get("seed", 0),
    )
    search = Search(config, workload.trial)
    cache = CacheConfig(store=str(storage.store))
    started = time.perf_counter()
    run_sweep(SweepConfig(name=name, one_machine=True, concurrent=NUM_CPUS, cache=cache), workload, search, storage, [])
    seconds = time.perf_counter() - started
    entries = Ledger(storage.ledger).latest(name)
    for entry in entries:
        if entry.state == TrialState.FAILED:
            raise SystemExit(f"trial {entry.name} failed: {entry.reason}")
    return entries, seconds


def run_alone(trials: Sequence[Trial], workload: GepaWorkload, root: Path) -> tuple[dict[str, Outcome], float]:
    """Returns the outcomes of trials as plain Ray Tune trials, by their ids, and the wall-clock seconds."""

    def trainable(spec: TrialSpec) -> None:
        def execute(request: StageRequest) -> None:
            workload.run_stage(request, RankContext(ProcessGroup(), discard_point))

        run_trial(workload, spec, execute)
        tune.report({"trial": spec.trial.trial})

    specs = [TrialSpec(trial=trial, directory=root / trial.trial) for trial in trials]
    started = time.perf_counter()
    run_tune(trainable, specs, root)
    seconds = time.perf_counter() - started
    outcomes = {spec.trial.trial: read_outcome(spec.directory) for spec in specs}
    return {trial: left[0] for trial, left in outcomes.items() if left is not None}, seconds


def run_tune(trainable: Callable[[Any], None], specs: Sequence[Any], root: Path) -> None:
    """Run plain Ray Tune trials, one CPU each, in processes that are used again."""
    found = tune.Tuner(
        tune.with_resources(lambda chosen: trainable(chosen["spec"]), {"CPU": 1}),
        param_space={"spec": tune.grid_search(specs)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="alone", storage_path=str(root / "ray"), verbose=0),
    ).fit()
    if found.errors:
        raise SystemExit(f"a trial failed: {found.errors[0]}")


def timeless(outcome: Outcome) -> tuple[object, ...]:
    """Returns the figures that do not depend on how long it took."""
    rungs = tuple((rung.name, rung.bpb, rung.nats_per_token) for rung in outcome.rungs)
    return outcome.state, outcome.bpb, outcome.size, rungs


def seconds_of(outcomes: Iterable[Outcome]) -> float:
    """Returns the seconds of trials, each by itself."""
    return sum(outcome.total_seconds for outcome in outcomes)


def stage_seconds(outcomes: Iterable[Outcome], stage: str) -> float:
    """Returns the seconds of one stage."""
    return sum(outcome.seconds[stage] for outcome in outcomes)


def computed_seconds(outcomes: Iterable[Outcome]) -> float:
    """Returns the seconds that were computed."""
    return sum(outcome.computed_seconds for outcome in outcomes)


def study(seed: int, parsed: argparse.Namespace, data: Path, root: Path) -> dict[str, Any]:
    """One seed of the grid: shared, alone, shared with screening."""
    base = base_config(seed, parsed.quick)
    workload = workload_of(base, data)
    trials = Search(SearchConfig(spaces=(SPACE,), strategy="grid"), workload.trial).certain()
    say(f"seed {seed}: {len(trials)} trials shared")
    entries, shared_wall = sweep("shared", base, data, root / "shared")
    shared = {entry.trial: entry for entry in entries}
    winner = best_of(entries)
    assert winner is not None
    sample = random.Random(seed).sample(trials, parsed.alone)
    say(f"seed {seed}: {len(sample)} of them alone")
    alone, sample_wall = run_alone(sample, workload, root / "alone")
    scale = seconds_of(entries) / seconds_of(shared[trial] for trial in alone)
    alone |= run_alone([trial for trial in trials if trial.trial == winner.trial], workload, root / "winner")[0]
    same = all(timeless(outcome) == timeless(shared[trial]) for trial, outcome in alone.items())
    say(f"seed {seed}: shared with screening")
    screened, screened_wall = sweep("screened", base, data, root / "screened", screening=SCREENING)
    measured = [outcome for trial, outcome in alone.items() if trial in {one.trial for one in sample}]
    naive = seconds_of(measured) * scale
    best = best_of(screened)
    trees = training_trees({trial.trial: config_of(trial) for trial in trials})
    chunks = len(Ledger(Storage(root / "shared").ledger).series(winner).chunks["ttt"])
    return {
        "training_to_ttt": stage_seconds(measured, "train") / stage_seconds(measured, "ttt"),
        "alone_over_recorded": seconds_of(measured) / seconds_of(shared[trial.trial] for trial in sample),
        "steps_naive": unshared_steps(trees),
        "steps_shared": sum(tree.steps for tree in trees),
        "steps_ratio": unshared_steps(trees) / sum(tree.steps for tree in trees),
        "ttt_chunks_naive": chunks * len(trials),
        "ttt_chunks_screened": sum(ttt_chunks(entry, chunks) for entry in screened),
        "accelerator_seconds_naive": naive,
        "accelerator_seconds_shared": computed_seconds(entries),
        "accelerator_seconds_ratio": naive / computed_seconds(entries),
        "accelerator_seconds_ratio_screened": naive / computed_seconds(screened),
        "wall_seconds_naive": sample_wall * scale,
        "wall_seconds_ratio": sample_wall * scale / shared_wall,
        "wall_seconds_ratio_screened": sample_wall * scale / screened_wall,
        "same_winner": same,
        "same_winner_screened": best is not None and best.trial == winner.trial,
        "screened_out": sum(entry.state == TrialState.SCREENED for entry in screened),
        "place_of_screened_winner": place(entries, best),
    }


def ttt_chunks(entry: TrialEntry, chunks: int) -> int:
    """Chunks of TTT that a screened sweep's trial ran."""
    counts = SCREENING.chunk_counts(chunks)
    screened = sum(score.name == "ttt" for score in entry.screening)
    return chunks if entry.done else (0, *counts)[screened]


def place(entries: Sequence[TrialEntry], found: TrialEntry | None) -> int:
    """Where a trial stands among all by BPB, 1 the best; beyond the last without one."""
    if found is None or found.bpb is None:
        return len(entries) + 1
    return 1 + sum(entry.bpb is not None and entry.bpb < found.bpb for entry in entries)


def driver_milliseconds(seed: int, parsed: argparse.Namespace, data: Path, root: Path) -> dict[str, float]:
    """Milliseconds of the driver for a trial all of whose results are stored, beyond what one such trial takes.

    The trials differ in the cap alone, which no result depends on. Beside them: an empty trial of Ray Tune's own.
    """
    found, base = {}, base_config(seed, parsed.quick)
    one = {"schedule.warmdown_start": [35], "schedule.steps": [70], "split": ["int4"], "ttt.epochs": [1]}
    sweep("first", base, data, root, space=one)
    _, least = sweep("stored-1", base, data, root, space={**one, "cap_bytes": [16_000_000]})
    for count in STORED_COUNTS:
        caps = [16_000_000 + number for number in range(1, count + 1)]
        entries, seconds = sweep(f"stored-{count}", base, data, root, space={**one, "cap_bytes": caps})
        assert len(entries) == count
        assert not any(entry.computed for entry in entries)
        found[f"{count}"] = 1000 * max(seconds - least, 0.0) / count
    times = []
    for count in (2, 102):
        started = time.perf_counter()
        run_tune(lambda spec: tune.report({"bpb": 0.0}), [{"number": n} for n in range(count)], root / f"empty-{count}")
        times.append(time.perf_counter() - started)
    found["empty trial of Ray Tune"] = 1000 * (times[1] - times[0]) / 100
    return found


def at_scale() -> dict[str, float]:
    """The arithmetic of the tree at the record's steps."""
    series = {
        str(steps): override_all(
            RunConfig(), {"schedule.steps": 1000 * steps, "schedule.warmdown_start": int(1000 * start)}
        )
        for steps, start in PUBLISHED.items()
    }
    late = {name: config for name, config in series.items() if int(name) >= 9}
    trees = training_trees(late)
    schedules = [
        ScheduleConfig(steps=100 * steps, warmdown_start=100 * start)
        for start in SPACE["schedule.warmdown_start"]
        for steps in SPACE["schedule.steps"]
    ]
    record = {str(n): RunConfig(schedule=schedule) for n, schedule in enumerate(schedules)}
    shared = sum(tree.steps for tree in training_trees(record))
    naive = 12 * sum(schedule.steps for schedule in schedules)
    hours = (naive / 7000 * RECORD_TRAIN_SECONDS + 72 * RECORD_TTT_SECONDS) / 3600
    hours_shared = (shared / 7000 * RECORD_TRAIN_SECONDS + 72 * RECORD_TTT_SECONDS) / 3600
    return {
        "published_naive_steps": unshared_steps(trees),
        "published_shared_steps": sum(tree.steps for tree in trees),
        "record_grid_naive_steps": naive,
        "record_grid_shared_steps": shared,
        "record_grid_naive_hours": hours,
        "record_grid_shared_hours": hours_shared,
    }


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model, at most 10 minutes a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="seeds of the grid (%(default)s)")
    parser.add_argument("--alone", type=int, default=6, help="trials that are also run alone (%(default)s)")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder), Path(folder) / CORPUS_NAME
        prepare_text(documents()[::2], data, CORPUS_NAME, log=lambda line: None)
        start_ray(None, NUM_CPUS, NUM_CPUS, worker_groups=False)
        try:
            studies = []
            for seed in parsed.seeds:
                studies.append(study(seed, parsed, data, root / str(seed)))
                say(f"seed {seed}: {json.dumps(studies[-1])}")
            say("the driver alone")
            driver = driver_milliseconds(parsed.seeds[0], parsed, data, root / "driver")
        finally:
            stop_ray()
    print_results(parsed.seeds, studies, driver)
    return 0


def print_results(seeds: list[int], studies: list[dict[str, Any]], driver: dict[str, float]) -> None:
    """The tables, and the JSON object."""
    print(f"\n{'':38s}" + "".join(f"{f'seed {seed}':>14s}" for seed in seeds))
    for name in studies[0]:
        cells = (one[name] for one in studies)
        print(f"{name:38s}" + "".join(f"{f'{c:,.2f}' if isinstance(c, float) else str(c):>14s}" for c in cells))
    scale = at_scale()
    print("\nat the record's scale, by the tree alone")
    for name, value in scale.items():
        print(f"{name:38s}{value:14,.0f}")
    print("\nmilliseconds of the driver for a trial that is stored")
    for name, value in driver.items():
        print(f"{name:38s}{value:14,.1f}")
    numbers = {name: statistics.fmean(one[name] for one in studies) for name in studies[0] if "winner" not in name}
    wins = {name: sum(one[name] for one in studies) for name in studies[0] if name.startswith("same_winner")}
    total = {name: value == len(studies) for name, value in wins.items()}
    counts = {f"{name}_seeds": f"{value} of {len(studies)}" for name, value in wins.items()}
    print(json.dumps(numbers | total | counts | {"driver_ms_per_trial": driver[str(STORED_COUNTS[-1])]} | scale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

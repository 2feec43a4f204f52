"""What sharing saves: a grid of trials alone against the same grid through the stage store, side by side in one run.

The grid is 3 warmdown starts x 2 step counts x 3 splits x 4 TTT settings, 72 trials, at a hundredth of the record's
steps, on one CPU thread, every stage in this process, so that seconds are of computing and of the store alone. "Alone"
is a random sample of whole trials, scaled, unless --alone 72. Every sampled trial is compared with its shared twin bit
for bit. Screening runs the grid again in a store of its own, in a random order. Prints tables and, last, one JSON
object.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.config import RunConfig, ScheduleConfig, override_all, to_plain
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import open_dataset
from golf.data.text import prepare_text
from golf.dist import Group
from golf.files import read_json
from golf.presets import PRESETS
from tune.space import Space, Trial, make_trial, points_of
from tune.tree import branch_points, grow, naive_steps, training_key
from tune.trial import DONE, OUTCOME, run_stage, run_trial

SPACE: Space = {
    "schedule.warmdown_start": [35, 45, 55],
    "schedule.steps": [70, 90],
    "split": ["mixed-int6-int8", "pure-int6", "int5-mlp"],
    "adapt": [(0.005, 6), (0.005, 8), (0.02, 6), (0.02, 8)],
}
"""The last: learning rate and epochs of TTT."""
WORLD = {"ranks": 1, "cpus": 1, "device": "cpu"}
RECORD_TRAIN_SECONDS, RECORD_TTT_SECONDS = 3490.0, 2194.0
"""Of one trial on 4xA100-40GB (PR #598)."""
PUBLISHED = {7: 3.5, 9: 5, 12: 7, 15: 9, 20: 12, 25: 12, 30: 12}
"""Thousands of steps -> of warmdown start: the series that was published trial by trial."""


def base_config(seed: int, quick: bool) -> RunConfig:
    """A small model whose training and TTT cost what the record's do to each other."""
    width: dict[str, Any] = {"model.model_dim": 64, "model.mlp_hidden": 128, "model.rope_dims": 8} if quick else {}
    length = 64 if quick else 256
    changes: dict[str, Any] = {
        "schedule.momentum_steps": 15,
        "batch.sequence_length": length,
        "batch.tokens_per_step": 8 * length,
        "score.sequence_length": length,
        "score.stride": length,
        "score.batch_windows": 8,
        "score.chunk_tokens": 512 if quick else 2048,
        "adapt.batch_sequences": 4,
        "cap_bytes": 16_000_000,
        "seed": seed,
    }
    return override_all(PRESETS["demo"], width | changes)


def grid(seed: int, quick: bool, data: str) -> list[Trial]:
    """The 72 trials."""
    base, trials = base_config(seed, quick), []
    for point in points_of(SPACE):
        fields = {field: value for field, value in point.items() if field != "adapt"}
        fields |= {"adapt.lr": point["adapt"][0], "adapt.epochs": point["adapt"][1]}
        trials.append(make_trial(base, fields, data))
    return trials


def here(stage: str, spec: Mapping[str, Any]) -> None:
    """A stage in this process."""
    run_stage(stage, spec, Group(), lambda curve, step, value: None)


def run_all(trials: list[Trial], data: Path, root: Path, share: bool, screen: bool = False) -> list[dict[str, Any]]:
    """The outcomes of trials, one after the other."""
    points, outcomes = branch_points(trial.config for trial in trials), []
    for number, trial in enumerate(trials):
        folder = root / trial.trial
        spec: dict[str, Any] = {"trial": trial.trial, "config": to_plain(trial.config)}
        spec |= {"data": str(data), "folder": str(folder)}
        spec |= {"save_seconds": 1e9}
        if share:
            branches = points[training_key(trial.config)]
            spec |= {"store": str(root / "store"), "branches": branches, "world": WORLD}
        if screen:
            spec |= {"screening": {"fraction": 0.1, "top": 0.25}, "sweep": "s", "ledger": str(root / "ledger.jsonl")}
        run_trial(spec, here, here)
        outcomes.append(read_json(folder / OUTCOME))
        if outcomes[-1]["status"] == "failed":
            raise SystemExit(f"trial {trial.name} failed: {outcomes[-1]['cause']}")
        if (number + 1) % 12 == 0:
            print(f"  {number + 1} of {len(trials)}", flush=True)
    return outcomes


def timeless(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that do not tell how long it took."""
    return {name: value for name, value in outcome["metrics"].items() if "seconds" not in name} | outcome["chunks"]


def winner(trials: list[Trial], outcomes: list[dict[str, Any]]) -> str:
    """The trial with the least BPB."""
    done = [(o["metrics"]["bpb"], t.trial) for t, o in zip(trials, outcomes, strict=True) if o["status"] == DONE]
    return min(done)[1]


def driver_milliseconds(trial: Trial, data: Path, root: Path, counts: list[int]) -> dict[int, float]:
    """Milliseconds of a trial whose results are all stored, for growing numbers of them."""
    points, found = branch_points([trial.config]), {}
    spec = {"trial": "x", "config": to_plain(trial.config), "data": str(data), "save_seconds": 1e9, "world": WORLD}
    spec |= {"store": str(root / "store"), "branches": points[training_key(trial.config)]}
    run_trial(spec | {"folder": str(root / "first")}, here, here)
    for count in counts:
        started = time.perf_counter()
        for number in range(count):
            run_trial(spec | {"folder": str(root / f"{count}-{number % 20}")}, here, here)
        found[count] = 1000 * (time.perf_counter() - started) / count
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
    trees = grow(late)
    schedules = [
        ScheduleConfig(steps=100 * steps, warmdown_start=100 * start)
        for start in SPACE["schedule.warmdown_start"]
        for steps in SPACE["schedule.steps"]
    ]
    record = {str(n): RunConfig(schedule=schedule) for n, schedule in enumerate(schedules)}
    shared = sum(tree.steps for tree in grow(record))
    naive = 12 * sum(schedule.steps for schedule in schedules)
    hours = (naive / 7000 * RECORD_TRAIN_SECONDS + 72 * RECORD_TTT_SECONDS) / 3600
    hours_shared = (shared / 7000 * RECORD_TRAIN_SECONDS + 72 * RECORD_TTT_SECONDS) / 3600
    return {
        "published_naive_steps": naive_steps(trees),
        "published_shared_steps": sum(tree.steps for tree in trees),
        "record_grid_naive_steps": naive,
        "record_grid_shared_steps": shared,
        "record_grid_naive_hours": hours,
        "record_grid_shared_hours": hours_shared,
    }


def study(seed: int, parsed: argparse.Namespace, data: Path, root: Path) -> dict[str, Any]:
    """One seed of the grid: alone, shared, shared with screening."""
    trials = grid(seed, parsed.quick, open_dataset(data).digest)
    print(f"seed {seed}: {len(trials)} trials shared", flush=True)
    started = time.perf_counter()
    shared = run_all(trials, data, root / "shared", share=True)
    shared_wall = time.perf_counter() - started
    sample = random.Random(seed).sample(range(len(trials)), parsed.alone)
    print(f"seed {seed}: {len(sample)} of them alone", flush=True)
    started = time.perf_counter()
    alone = run_all([trials[n] for n in sample], data, root / "alone", share=False)
    alone_wall = (time.perf_counter() - started) / len(sample) * len(trials)
    for number, outcome in zip(sample, alone, strict=True):
        assert timeless(outcome) == timeless(shared[number]), trials[number].name
    order = random.Random(seed).sample(trials, len(trials))
    print(f"seed {seed}: shared with screening", flush=True)
    screened = run_all(order, data, root / "screened", share=True, screen=True)
    trees = grow({trial.trial: trial.config for trial in trials})
    seconds = [sum(outcome["metrics"][name] for outcome in shared) for name in ("seconds", "seconds_now")]
    chunks = len(shared[0]["chunks"]["ttt"])
    ttt_screened = sum(chunks * (o["status"] == DONE) + 2 * (o["status"] != DONE) for o in screened)
    return {
        "training_to_ttt": sum(o["metrics"]["train_seconds"] for o in alone)
        / sum(o["metrics"]["ttt_seconds"] for o in alone),
        "steps_naive": naive_steps(trees),
        "steps_shared": sum(tree.steps for tree in trees),
        "steps_ratio": naive_steps(trees) / sum(tree.steps for tree in trees),
        "ttt_chunks_naive": chunks * len(trials),
        "ttt_chunks_screened": ttt_screened,
        "accelerator_seconds_naive": seconds[0],
        "accelerator_seconds_ratio": seconds[0] / seconds[1],
        "accelerator_seconds_ratio_screened": seconds[0] / sum(o["metrics"]["seconds_now"] for o in screened),
        "wall_seconds_ratio": alone_wall / shared_wall,
        "same_winner": all(timeless(o) == timeless(shared[n]) for n, o in zip(sample, alone, strict=True)),
        "same_winner_screened": winner(order, screened) == winner(trials, shared),
        "screened_out": sum(outcome["status"] == "screened" for outcome in screened),
    }


def main(arguments: list[str]) -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model, at most 10 minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="seeds of the grid (%(default)s)")
    parser.add_argument("--alone", type=int, default=6, help="trials that are also run alone (%(default)s)")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root, data = Path(place), Path(place) / CORPUS_NAME
        texts = documents()[:: 4 if parsed.quick else 1]
        prepare_text(texts, data, CORPUS_NAME, say=lambda line: None)
        studies = [study(seed, parsed, data, root / str(seed)) for seed in parsed.seeds]
        first = grid(parsed.seeds[0], parsed.quick, open_dataset(data).digest)[0]
        driver = driver_milliseconds(first, data, root / str(parsed.seeds[0]) / "shared", [10, 100, 1000])
    for seed, result in zip(parsed.seeds, studies, strict=True):
        print(f"\nseed {seed}")
        for name, value in result.items():
            print(f"  {name:38s} {value:12,.2f}" if isinstance(value, float) else f"  {name:38s} {value!s:>12s}")
    print("\nat the record's scale, by the tree alone")
    for name, value in (scale := at_scale()).items():
        print(f"  {name:38s} {value:12,.0f}")
    print("\nmilliseconds a trial when all is stored:", {count: round(value, 1) for count, value in driver.items()})
    numbers = {name: sum(s[name] for s in studies) / len(studies) for name in studies[0] if "winner" not in name}
    wins = {name: sum(s[name] for s in studies) for name in studies[0] if "winner" in name}
    total = {name: value == len(studies) for name, value in wins.items()}
    counts = {f"{name}_seeds": f"{value} of {len(studies)}" for name, value in wins.items()}
    print(json.dumps(numbers | total | counts | {"driver_ms_per_trial": driver[1000]} | scale))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

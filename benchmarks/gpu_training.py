"""A run of the demo with all stages, or steps of a record's preset at its full shape, on this machine's device.

    python -m benchmarks.gpu_training pr598 [--steps 200] [--seconds 180]

Reads real tokens where `golf data fineweb` put them, or the built-in text for the demo, and drawn ones otherwise. The
matrices of a preset that packs by GPTQ are calibrated and packed after the training. Prints a line for each form that a
step has (with or without its loop and fake quantisation), and last one JSON object, which is there after the training
already.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import matrix_rate
from benchmarks.train_step import operations
from golf.cli.main import main as golf
from golf.config.config import RunConfig, override_all
from golf.config.presets import PRESETS
from golf.config.schedule import Row, make_plan
from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import Dataset, open_dataset
from golf.data.shards import Tokens, TokenStream
from golf.data.text import prepare_corpus
from golf.data.token_bytes import ByteTable
from golf.data.variants import VARIANTS
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.progress import ladder_lines
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json
from golf.runtime.process_group import device_name, join
from golf.runtime.results import digest
from golf.train.hooks import Hooks
from golf.train.loop import Preempted

SHAPES = {"demo": "demo", "pr598": "demo", "pr1493": "demo-april"}
"""Preset -> one that computes alike and that a CPU gets through, for --quick."""
QUICK_STEPS = 8
ENDING_SECONDS = 15.0
"""Before the end of its time a training stops: what it measured has to be printed."""


class StepTimes:
    """Receives the points of a training's curve, and ends it when its time is over."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.began = deadline, time.perf_counter()
        self.ends: list[float] = []
        self.losses: list[float] = []

    def event(self, curve: str, step: int, value: float) -> None:
        """Notes when a step ended, and its loss in nats."""
        if curve == "train_loss":
            self.ends.append(time.perf_counter())
            self.losses.append(value)

    def preemption(self) -> bool:
        """Returns whether there is time for no further step."""
        return time.perf_counter() > self.deadline

    def seconds_by_form(self, config: RunConfig) -> dict[Row, float]:
        """Returns the median seconds of the steps of each form, by a row of the plan that has it."""
        seconds, rows = defaultdict[tuple[bool, bool], list[float]](list), {}
        plan = make_plan(config.schedule)
        for step in range(1, len(self.ends)):
            form = plan[step].looped, plan[step].qat
            rows[form] = plan[step]
            seconds[form].append(self.ends[step] - self.ends[step - 1])
        return {row: statistics.median(seconds[form]) for form, row in rows.items()}


def configuration(preset: str, quick: bool, steps: int) -> RunConfig:
    """Returns the preset with so many steps, whose learning rate falls over the second half."""
    config = PRESETS[SHAPES[preset] if quick else preset]
    if preset == "demo" and not quick:
        return config
    changes: dict[str, Any] = {"schedule.steps": steps, "validate_every": None}
    if config.schedule.warmdown_fraction is None:
        changes["schedule.warmdown_start"] = steps // 2
    return override_all(config, changes)


def dataset_for(config: RunConfig, preset: str, quick: bool, folder: Path) -> Dataset:
    """Returns the built-in text for the demo, the competition's tokens where they are there, else drawn ones."""
    readable = importlib.util.find_spec("sentencepiece") is not None and not quick
    if readable and preset == "demo":
        prepare_corpus(folder / CORPUS_NAME)
        return open_dataset(folder / CORPUS_NAME, config.model.vocab_size)
    variant = VARIANTS.get(f"sp{config.model.vocab_size}")
    if readable and variant is not None and variant.folder.is_dir():
        return open_dataset(variant.folder, config.model.vocab_size)
    return drawn_dataset(config, 200_000 if quick else 20_000_000, 8192 if quick else 100_000)


def drawn_dataset(config: RunConfig, num_train: int, num_validation: int) -> Dataset:
    """Returns tokens drawn independently, low ids more often than high ones, each of one byte."""
    size, generator = config.model.vocab_size, np.random.default_rng(1)

    def draw(count: int) -> Tokens:
        return (size * generator.random(count) ** 3).astype(np.uint16)

    train, no = draw(num_train), np.zeros(size, np.bool_)
    stream = TokenStream((Path("drawn_train_000000.bin"),), (train,), np.array([num_train]), size)
    table = ByteTable(np.ones(size, np.int16), no, no)
    files = {name: digest(name, size, num_train) for name in ("drawn_train_000000.bin", "drawn_val_000000.bin")}
    return Dataset(Path("drawn"), stream, draw(num_validation), table, size, files)


def run_demo(run: StageContext, folder: Path) -> dict[str, float]:
    """Runs all stages, by the command where all that it needs is there; returns the artifact's scores in BPB.

    Args: folder: an empty one, for the command.
    """
    if run.dataset.folder.is_dir() and importlib.util.find_spec("python_minifier") is not None:
        if golf(["run", "demo", "--data", str(run.dataset.folder), "--out", str(folder)]):
            raise SystemExit("golf run demo failed")
        ladder = read_json(folder / "record.json")["ladder"]
        scores = {str(rung["name"]): float(rung["bpb"]) for rung in ladder}
    else:
        print("all stages without the command, which needs sentencepiece and python-minifier")
        results = run_stages(run, b"")
        print(*ladder_lines(results), sep="\n")
        scores = {rung.name: rung.bpb for rung in results.ladder}
    return {"bpb": scores["sliding"], "ttt_bpb": scores["ttt"]}


def run_training(run: StageContext, seconds: float) -> dict[str, float]:
    """Trains until the steps or the time are over, prints where the time went, and returns the figures."""
    device, config = run.group.device, run.config
    rate = matrix_rate(device)
    times = StepTimes(time.perf_counter() + seconds - ENDING_SECONDS)
    stopped = ""
    try:
        train_stage(run, Hooks(event=times.event, preemption=times.preemption))
    except Preempted:
        stopped = f", for want of time; {config.schedule.steps} were planned"
    print(f"{len(times.ends)} steps of {config.batch.tokens_per_step:,} tokens on {device_name(device)}{stopped}")
    figures: dict[str, float] = {
        "steps": len(times.ends),
        "startup_seconds": times.ends[0] - times.began,
        "first_loss": times.losses[0],
        "last_loss": times.losses[-1],
        "matrix_operations_per_second": rate,
    }
    if device.type == "cuda":
        figures["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    for row, step_seconds in times.seconds_by_form(config).items():
        tokens = config.batch.tokens_per_step / step_seconds
        share = operations(config, row.looped) * tokens / rate
        words = ("looped, " if row.looped and config.model.loop else "") + ("QAT" if row.qat else "no QAT")
        print(f"{1000 * step_seconds:10.1f} ms/step, {tokens:,.0f} tokens/s, {share:.1%} of the matrix rate: {words}")
        figures |= {"seconds_per_step": step_seconds, "tokens_per_second": tokens, "share_of_matrix_rate": share}
    if not times.losses[-1] < times.losses[0]:
        raise SystemExit(f"the loss did not fall: {times.losses[0]} to {times.losses[-1]}")
    print(json.dumps(figures), flush=True)
    if config.quant.calibrated and not stopped:
        packed = pack_trained(run, b"")
        print(f"packed by GPTQ in {packed.seconds:.1f} s, {packed.model_bytes:,} bytes")
        figures["pack_seconds"] = packed.seconds
    return figures


def main() -> int:
    """Runs the preset. Returns: the exit status."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", choices=SHAPES)
    parser.add_argument("--quick", action="store_true", help="a small model and few steps, for a CPU")
    parser.add_argument("--steps", type=int, default=200, help="of a record's preset (%(default)s)")
    parser.add_argument("--seconds", type=float, default=600.0, help="for the training to end in (%(default)s)")
    parsed = parser.parse_args()
    config = configuration(parsed.preset, parsed.quick, QUICK_STEPS if parsed.quick else parsed.steps)
    with tempfile.TemporaryDirectory() as folder, join() as group:
        dataset = dataset_for(config, parsed.preset, parsed.quick, Path(folder))
        print(f"{parsed.preset} on {dataset.name}, {'tiny' if parsed.quick else 'full'} shape", flush=True)
        run = StageContext(config=config, dataset=dataset, directory=RunDirectory(Path(folder)), group=group)
        figures = run_demo(run, Path(folder) / "demo") if parsed.preset == "demo" else run_training(run, parsed.seconds)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

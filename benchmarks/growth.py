"""How the stages grow: seconds and peak memory at 1, 2, 4 and 8 times the tokens, layers and windows.

    python -m benchmarks.growth [--quick]

From the demo's shape, with random tokens and weights, on this machine's device; every measurement is a process of its
own, so that its peak is its own. "Memory" is what a stage takes above a process that has loaded its inputs. Prints a
table, the exponent of each row (1: a straight line through nothing; below 1: a part that does not grow), and last one
JSON object. Needs golf and torch only.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.scoring import random_model, random_tokens
from golf.artifact.pack import pack
from golf.config.config import BatchConfig, RunConfig
from golf.config.presets import PRESETS
from golf.config.schedule import make_plan
from golf.evaluate.sliding import Stream, score
from golf.evaluate.ttt import score_with_ttt
from golf.runtime.process_group import ProcessGroup, device_name, pick_device
from golf.train.loop import train
from golf.train.microbatching import passes_per_step, ready_to_train
from golf.train.train_state import TrainState

FACTORS = (1, 2, 4, 8)
GROWN = {
    "train": ("tokens", "layers"),
    "pack": ("layers",),
    "score": ("windows", "layers"),
    "ttt": ("windows", "layers"),
}
"""Stage -> what it grows with."""
STEPS = 3


def grown(axis: str, factor: int) -> tuple[RunConfig, int]:
    """The demo with `factor` times the axis, and the targets to score."""
    config = PRESETS["demo"]
    if axis == "layers":
        layers = factor * config.model.num_layers
        config = replace(config, model=replace(config.model, num_layers=layers, value_layers=(layers - 2, layers - 1)))
    if axis == "tokens":
        config = replace(config, batch=replace(config.batch, tokens_per_step=factor * config.batch.tokens_per_step))
    targets = 4 * config.score.chunk_tokens * (factor if axis == "windows" else 1)
    return config, targets


def prepare(stage: str, config: RunConfig, targets: int) -> Callable[[], object]:
    """The stage's inputs in memory; what computes it."""
    group = ProcessGroup(device=pick_device())
    model = random_model(config, group.device)
    tokens = random_tokens(targets, config.model.vocab_size)
    stream = Stream(tokens.to(group.device), np.ones(targets, dtype=np.int64))
    if stage == "pack":
        weights = {name: parameter.detach().float().cpu() for name, parameter in model.named_parameters()}
        return lambda: pack(weights, config.model, config.quant)
    if stage == "score":
        return lambda: score(model, stream, config.score, group)
    if stage == "ttt":
        assert config.ttt is not None
        adapting = config.ttt
        return lambda: score_with_ttt(model, stream, config.score, adapting, group)
    return training(config, group, model_tokens=tokens)


def training(config: RunConfig, group: ProcessGroup, model_tokens: Tensor) -> Callable[[], object]:
    """Some steps on the same tokens."""
    state = TrainState(random_model(config, group.device), config.optimizer, group)
    forward, passes = ready_to_train(state.model, config, group), passes_per_step(config.batch, group)
    ids, plan = ids_of(config.batch, passes, model_tokens), make_plan(config.schedule)[:STEPS]
    clip = config.optimizer.gradient_clip
    return lambda: train(state, plan, lambda step, number: ids, clip, group, lambda step: None, forward, passes)


def ids_of(batch: BatchConfig, passes: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The ids of one of `passes` passes: these tokens, over and over."""
    count = batch.tokens_per_step // passes + 1
    ids = tokens.repeat(-(-count // len(tokens)))[:count]
    return ids[:-1].view(-1, batch.sequence_length), ids[1:].view(-1, batch.sequence_length)


def measure(stage: str, axis: str, factor: int, threads: int) -> tuple[float, int]:
    """Seconds, and bytes above what was taken before; for a process of its own."""
    torch.set_num_threads(threads)
    run, device = prepare(stage, *grown(axis, factor)), pick_device()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return time.perf_counter() - began, max(0, peak - before)


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def exponent(factors: list[int], values: list[float]) -> float:
    """Slope of the logarithms, least squares."""
    return float(np.polyfit(np.log(factors), np.log(np.maximum(values, 1e-9)), 1)[0])


def main() -> None:
    """Measure every stage along what it grows with."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="up to 4 times only")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads on a CPU (all)")
    parsed = parser.parse_args()
    factors = [factor for factor in FACTORS if factor <= (4 if parsed.quick else math.inf)]
    rows: list[dict[str, Any]] = []
    print(f"{'stage':6s} {'with':8s}" + "".join(f"{factor:>9d}x s {'MiB':>7s}" for factor in factors) + "   exponents")
    for stage, axes in GROWN.items():
        for axis in axes:
            seconds, memory = [], []
            for factor in factors:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    taken, size = pool.apply(measure, (stage, axis, factor, parsed.threads))
                seconds.append(taken)
                memory.append(size)
            slopes = exponent(factors, seconds), exponent(factors, [float(size) for size in memory])
            cells = "".join(f"{s:12.3f} {size / 2**20:7.0f}" for s, size in zip(seconds, memory, strict=True))
            print(f"{stage:6s} {axis:8s}{cells}   {slopes[0]:.2f} s, {slopes[1]:.2f} memory", flush=True)
            rows.append({"stage": stage, "with": axis, "factors": factors, "seconds": seconds, "bytes": memory})
            rows[-1] |= {"seconds_exponent": slopes[0], "bytes_exponent": slopes[1]}
    print(json.dumps({"device": device_name(pick_device()), "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()

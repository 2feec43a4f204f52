"""The clip search beside the same search one candidate after the other; GPTQ beside the clip search.

    python -m benchmarks.quantiser [--quick] [--device cuda] [--gptq]

The plain search takes, for every percentile, `torch.quantile` of each row's magnitudes, codes, the error of what comes
back, and keeps the better rows. Both search the blocks' matrices of the public record and of the demo, with the spread
that `golf.artifact.size_predictor` gives them: on the record's grid, below whose floor of the scale most rows lie,
without a floor, and with the 15 clips of PR #668. Prints a table and, last, one JSON object: `ratio` (the smallest over
the cases of plain seconds to ours) and `largest_difference` (by how much a row's squared error is above that of the
best candidate, relative to it; at most 0: nowhere).

--gptq also trains the demo under several seeds and packs the same weights by both methods on grids of several
coarseness: bytes, bits per byte, what is left of the outputs' error, seconds. Its gain is read at equal bytes, on the
line between the clip search's grids. It needs sentencepiece and zstandard; without it golf and torch are enough.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.side_by_side import time_in_turns
from golf.artifact.calibration import calibrate
from golf.artifact.gptq import gptq_codes
from golf.artifact.pack import group_of, pack, quantise_tensors
from golf.artifact.quantizer import SMALLEST_SCALE, Quantised, dequantise, quantise_all
from golf.artifact.size_predictor import weight_std
from golf.config.config import GridConfig, RunConfig, override_all
from golf.config.presets import PRESETS
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.model.gepa import GEPA
from golf.pipeline.evaluation import measure
from golf.pipeline.run_directory import RunDirectory, load_model
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import write_bytes
from golf.runtime.process_group import ProcessGroup, device_name, pick_device
from golf.runtime.results import AVERAGED, QUANTISED, WEIGHTS
from golf.runtime.tensors import read_tensors

CASES = {
    "record, its grid": ("pr598", PRESETS["pr598"].quant.mlp),
    "record, no floor": ("pr598", GridConfig()),
    "record, 15 clips, no floor": ("pr668", replace(PRESETS["pr668"].quant.mlp, scale_floor=None)),
    "demo, its grid": ("demo", PRESETS["demo"].quant.mlp),
    "demo, no floor": ("demo", GridConfig()),
}
"""Case -> preset whose matrices are searched, and the grid."""
FLOORS = (31, 24, 20, 15, 12, 8)
"""Grids of the demo's matrices by the floor of their scale, 1 / so much; the first is the record's."""


def drawn(config: RunConfig, device: torch.device) -> dict[str, Tensor]:
    """The blocks' matrices of a model, normal with the spread that training gives them."""
    generator = torch.Generator().manual_seed(1)
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in GEPA(config.model).named_parameters()}
    return {
        name: (torch.randn(shape, generator=generator) * weight_std(name, shape, config)).to(device)
        for name, shape in shapes.items()
        if group_of(name) in ("attention", "mlp")
    }


def plain_search(weight: Tensor, grid: GridConfig, exact: bool = False) -> Quantised:
    """The search in its plainest form; exact: with percentiles in float64."""
    largest = 2 ** (grid.bits - 1) - 1
    magnitudes = weight.abs().double() if exact else weight.abs()
    codes, scales = torch.zeros_like(weight), torch.zeros_like(weight[:, 0])
    least = torch.full_like(scales, torch.inf)
    for percentile in grid.percentiles:
        clip = torch.quantile(magnitudes, percentile, dim=1).float()
        scale = (clip / largest).clamp_min(grid.scale_floor or SMALLEST_SCALE).half().float()
        tried = torch.clamp(torch.round(weight / scale[:, None]), -largest - 1, largest)
        error = (tried * scale[:, None] - weight).square().sum(dim=1)
        better = error < least
        least = torch.where(better, error, least)
        codes = torch.where(better[:, None], tried, codes)
        scales = torch.where(better, scale, scales)
    return Quantised(codes.to(torch.int8), scales.half())


def plain_search_all(weights: Mapping[str, Tensor], grid: GridConfig, exact: bool = False) -> dict[str, Quantised]:
    """One matrix after the other."""
    return {name: plain_search(weight, grid, exact) for name, weight in weights.items()}


def row_errors(found: Mapping[str, Quantised], weights: Mapping[str, Tensor]) -> Tensor:
    """Squared error of every row, float64."""
    lost = (
        (dequantise(found[name]).double() - weight.double()).square().sum(dim=1) for name, weight in weights.items()
    )
    return torch.cat(list(lost))


def race(preset: str, grid: GridConfig, quick: bool, device: torch.device) -> dict[str, Any]:
    """Seconds of both searches, taken in turns, and how what they found differs; quick: for a third of the record."""
    weights, turns = drawn(PRESETS[preset], device), 7
    if quick:
        weights, turns = dict(islice(weights.items(), 24)), 3
    work: dict[str, Callable[[], dict[str, Quantised]]] = {
        "plain": lambda: plain_search_all(weights, grid),
        "ours": lambda: quantise_all(weights, grid),
    }
    work["ours"]()  # the first call of a kernel is its slowest
    timed = time_in_turns(work, turns, device)
    found = {**timed.results, "best": plain_search_all(weights, grid, exact=True)}
    ours, plain, best = (row_errors(found[name], weights) for name in ("ours", "plain", "best"))
    return {
        "weights": sum(weight.numel() for weight in weights.values()),
        "plain_seconds": timed.median("plain"),
        "seconds": timed.median("ours"),
        "ratio": timed.ratio("plain", "ours"),
        "largest_difference": float(((ours - best) / best).max()),
        "rows_differing_from_float32_percentiles": float((ours != plain).double().mean()),
        "error_over_that_of_float32_percentiles": float(ours.sum() / plain.sum()),
    }


def gptq_seconds(device: torch.device) -> float:
    """Seconds of GPTQ's codes for all of the record's matrices, their Hessians given."""
    weights, grid = drawn(PRESETS["pr598"], device), PRESETS["pr598"].quant.mlp
    nearest, hessians = quantise_all(weights, grid), {}
    for width in {weight.shape[1] for weight in weights.values()}:
        inputs = torch.randn(4096, width, generator=torch.Generator().manual_seed(2)).to(device)
        hessians[width] = (inputs.T @ inputs / 4096).double()

    def codes() -> list[Tensor]:
        found = ((weight, hessians[weight.shape[1]], nearest[name].scale) for name, weight in weights.items())
        return [gptq_codes(*parts, grid, 0.01) for parts in found]

    return time_in_turns({"codes": codes}, 1, device).median("codes")


def demo_config(seed: int, steps: int, floor: int, method: str) -> RunConfig:
    """The demo with so many steps and this grid of its matrices."""
    changes: dict[str, Any] = {"seed": seed, "schedule.steps": steps, "schedule.warmdown_start": min(30, steps // 2)}
    for group in ("attention", "mlp"):
        changes |= {f"quant.{group}.scale_floor": 1 / floor, f"quant.{group}.method": method}
    return override_all(PRESETS["demo"], changes)


def output_error(weights: Mapping[str, Tensor], stored: Mapping[str, Any], hessians: Mapping[str, Tensor]) -> float:
    """Squared error of the matrices' outputs on the calibration's inputs over the outputs' squares, mean of all."""
    shares = []
    for name, hessian in hessians.items():
        weight, hessian_II = weights[name].double(), hessian.cpu()
        lost = dequantise(stored[name]).double() - weight
        shares.append(float(((lost @ hessian_II) * lost).sum() / ((weight @ hessian_II) * weight).sum()))
    return statistics.mean(shares)


def compare_methods(
    seed: int, steps: int, dataset: Dataset, folder: RunDirectory, group: ProcessGroup
) -> list[dict[str, Any]]:
    """A demo trained once and packed by both methods on every grid, a row for each."""
    finest = demo_config(seed, steps, FLOORS[0], "gptq")
    trained = train_stage(StageContext(config=finest, dataset=dataset, directory=folder, group=group))
    weights, stream = read_tensors(folder.file(WEIGHTS[AVERAGED])), dataset.train
    assert stream is not None
    began = time.perf_counter()
    hessians = calibrate(load_model(folder, AVERAGED, finest, group), stream, finest)
    common = {"seed": seed, "train_seconds": trained.seconds, "calibration_seconds": time.perf_counter() - began}
    rows = []
    for floor in FLOORS:
        for method in ("clip", "gptq"):
            config = demo_config(seed, steps, floor, method)
            began = time.perf_counter()
            stored = quantise_tensors(weights, config.quant, hessians)
            seconds = time.perf_counter() - began
            data = pack(weights, config.model, config.quant, hessians)
            write_bytes(folder.file("artifact.golf"), data)
            scored = measure(StageContext(config=config, dataset=dataset, directory=folder, group=group), QUANTISED)
            row = {"floor": floor, "method": method, "bytes": len(data), "bpb": scored.bpb, "seconds": seconds}
            rows.append(common | row | {"output_error": output_error(weights, stored, hessians)})
    return rows


def at_bytes(rows: Sequence[Mapping[str, Any]], size: int) -> float:
    """BPB of the clip search at so many bytes: on the line between its two nearest grids, or beyond the last one."""
    curve = sorted((row["bytes"], row["bpb"]) for row in rows if row["method"] == "clip")
    (x0, y0), (x1, y1) = min(pairwise(curve), key=lambda pair: abs(sum(x for x, _ in pair) / 2 - size))
    return float(y0 + (y1 - y0) * (size - x0) / (x1 - x0))


def print_races(races: Mapping[str, Mapping[str, Any]]) -> None:
    """The table of the clip search."""
    print(f"{'case':28s} {'weights':>12s} {'plain s':>9s} {'ours s':>9s} {'ratio':>7s} {'difference':>11s}")
    for name, row in races.items():
        times = f"{row['plain_seconds']:9.3f} {row['seconds']:9.4f} {row['ratio']:7.1f}"
        print(f"{name:28s} {row['weights']:12,d} {times} {row['largest_difference']:11.1e}", flush=True)


def print_methods(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The table of one demo; returns GPTQ's gains in BPB at equal bytes."""
    gains = []
    names = f"{'seed':>4s} {'floor':>6s} {'method':6s} {'bytes':>9s} {'BPB':>9s} {'output error':>12s}"
    print(f"\n{names} {'codes s':>8s} {'gain':>8s}")
    for row in rows:
        shown = f"{row['bytes']:9,d} {row['bpb']:9.5f} {row['output_error']:12.2e} {row['seconds']:8.2f}"
        gain = ""
        if row["method"] == "gptq":
            gains.append(at_bytes(rows, row["bytes"]) - row["bpb"])
            gain = f"{gains[-1]:8.5f}"
        print(f"{row['seed']:4d} 1/{row['floor']:<4d} {row['method']:6s} {shown} {gain}", flush=True)
    return gains


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns, one seed, few steps: 3 minutes on 2 cores")
    parser.add_argument("--device", type=torch.device, help="cpu or cuda (a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="on a CPU (%(default)s)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="of the clip search (all)")
    parser.add_argument("--gptq", action="store_true", help="GPTQ as well, on the trained demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1337, 2025], help="of the demo (%(default)s)")
    parser.add_argument("--data", type=Path, help="prepared data (the built-in corpus, prepared for this)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure."""
    parsed = parse(arguments)
    torch.set_num_threads(parsed.threads)
    device = parsed.device or pick_device(0)
    print(f"{device_name(device)}, torch {torch.__version__}")
    chosen = {name: CASES[name] for name in parsed.cases}
    races = {name: race(preset, grid, parsed.quick, device) for name, (preset, grid) in chosen.items()}
    print_races(races)
    result: dict[str, Any] = {
        "device": device_name(device),
        "ratio": min(row["ratio"] for row in races.values()),
        "largest_difference": max(row["largest_difference"] for row in races.values()),
        "cases": races,
    }
    if parsed.gptq:
        seeds, steps = (parsed.seeds[:1], 60) if parsed.quick else (parsed.seeds, PRESETS["demo"].schedule.steps)
        rows, gains = list[dict[str, Any]](), list[float]()
        with tempfile.TemporaryDirectory() as path:
            data = parsed.data or Path(path) / CORPUS_NAME
            if parsed.data is None:
                prepare_text(documents(), data, CORPUS_NAME, log=lambda line: None)
            dataset = open_dataset(data, PRESETS["demo"].model.vocab_size)
            for seed in seeds:
                folder = RunDirectory(Path(path) / str(seed))
                folder.path.mkdir()
                packed = compare_methods(seed, steps, dataset, folder, ProcessGroup(device=device))
                rows += packed
                gains += print_methods(packed)
        record = gptq_seconds(device)
        print(f"calibration {rows[0]['calibration_seconds']:.1f} s, training {rows[0]['train_seconds']:.1f} s")
        print(f"codes of the record's matrices by GPTQ: {record:.1f} s")
        result["gptq"] = {"gains": gains, "record_codes_seconds": record, "rows": rows}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

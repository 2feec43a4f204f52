"""A race of codecs on the codes of trained weights: bytes against their order-0 entropy and against one zstd-22 stream.

    python -m benchmarks.bytes
    python -m benchmarks.bytes --quick --split int4

Two sets of codes. "demo": the demo preset, trained here. "record": the shapes of pr598 with drawn weights, because 27
million parameters cannot be trained here: normal, of the standard deviation that `golf.artifact.size_predictor` gives,
times a factor of the row and one of the column. These are those of the demo's tensors of the same kind at the same
depth, drawn with replacement, less the scatter that so few elements have by chance; "record, plain" has no factors and
is the worst case for a codec that models them. What an ordering needs is paid for: a permutation at log2(rows!) bits,
tables and spreads as they are stored. Codecs that are not installed are left out and named. Prints tables and, last,
one JSON object.
"""

import argparse
import functools
import json
import lzma
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from torch import Tensor

from golf.artifact.byte_breakdown import entropy_bytes
from golf.artifact.codec import compress
from golf.artifact.container import decode, encode
from golf.artifact.entropy_model import (
    Spread,
    class_tables,
    code_classes,
    code_spreads,
    pack_codes,
    table_frequencies,
    unpack_codes,
)
from golf.artifact.pack import quantise_tensors
from golf.artifact.quantizer import Quantised
from golf.artifact.size_predictor import weight_std
from golf.cli.inputs import find_dataset
from golf.config.config import RunConfig, to_plain
from golf.config.presets import SPLITS, find_preset, with_split
from golf.data.corpus import CORPUS_DATA
from golf.model.gepa import GEPA
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import AVERAGED, WEIGHTS
from golf.runtime.tensors import read_tensors

try:
    import brotli
except ModuleNotFoundError:
    brotli = None  # type: ignore[assignment]
try:
    import constriction
except ModuleNotFoundError:
    constriction = None

QUICK_STEPS = 40
"""Training steps of the demo with --quick."""
ORDERS = ("by name", "by kind", "rows by spread")
"""Orders of the codes in one stream: tensors by name, tensors of one kind together, and that with sorted rows."""
Matrix = NDArray[np.int8]
Named = dict[str, Matrix]


@dataclass(frozen=True)
class Runner:
    """What one codec made of all codes."""

    name: str
    bytes: float
    pack_seconds: float
    unpack_seconds: float
    """NaN where it was not unpacked."""


def trained_demo(steps: int | None, data: Path | None) -> dict[str, Tensor]:
    """The averaged weights of the demo after its own or so many steps."""
    config = find_preset("demo")
    if steps is not None:
        schedule = replace(config.schedule, steps=steps, warmdown_start=min(config.schedule.warmdown_start, steps // 2))
        config = replace(config, schedule=schedule)
    dataset = find_dataset(data, config, ProcessGroup())
    with tempfile.TemporaryDirectory() as name:
        folder = RunDirectory(Path(name))
        train_stage(StageContext(config=config, dataset=dataset, directory=folder))
        return read_tensors(folder.file(WEIGHTS[AVERAGED]))


def record_weights(demo: dict[str, Tensor], structured: bool, seed: int = 0) -> dict[str, Tensor]:
    """Weights of pr598's shapes, drawn as the module says; small and one-dimensional ones are normal."""
    config, source = find_preset("pr598"), np.random.default_rng(seed)
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in GEPA(config.model).named_parameters()}
    weights = {}
    for name, shape in shapes.items():
        drawn = source.standard_normal(tuple(shape), dtype=np.float32)
        if len(shape) == 2:
            drawn *= weight_std(name, shape, config)
            rows, columns = factors(demo[demo_name(name, config, demo)]) if structured else (np.ones(1), np.ones(1))
            drawn *= source.choice(rows, (shape[0], 1)).astype(np.float32)
            drawn *= source.choice(columns, (1, shape[1])).astype(np.float32)
        weights[name] = torch.from_numpy(drawn)
    return weights


def demo_name(name: str, config: RunConfig, demo: dict[str, Tensor]) -> str:
    """The demo's tensor of the same kind at the same depth."""
    parts = name.split(".")
    if parts[0] == "blocks":
        layers = find_preset("demo").model.num_layers
        parts[1] = str(int(parts[1]) * layers // config.model.num_layers)
    found = ".".join(parts)
    return found if found in demo else "value.table.weight"


def factors(weight: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factors of a matrix's rows and columns, around 1, less what chance does."""
    square = weight.double().numpy() ** 2 + 1e-12
    columns = np.ones(square.shape[1])
    for _ in range(3):
        rows = (square / columns).mean(axis=1)
        columns = (square / rows[:, None]).mean(axis=0)
    found = []
    for part, samples in ((rows, square.shape[1]), (columns, square.shape[0])):
        logs = np.log(part) / 2
        chance = 1 / (2 * samples)  # variance of the log of a deviation that so many normal samples show
        found.append(np.exp((logs - logs.mean()) * math.sqrt(max(0.0, 1 - chance / max(logs.var(), 1e-12)))))
    return found[0], found[1]


def codes_of(stored: dict[str, Quantised | Tensor]) -> Named:
    """The codes alone."""
    return {name: tensor.codes.numpy() for name, tensor in stored.items() if isinstance(tensor, Quantised)}


def ordered(codes: Named, order: str) -> tuple[bytes, float]:
    """The codes as one stream, and the bytes that its order takes to tell."""
    if order == "by name":
        return b"".join(matrix.tobytes() for matrix in codes.values()), 0.0
    kinds = sorted(codes, key=lambda name: (".".join(p for p in name.split(".") if not p.isdigit()), name))
    if order == "by kind":
        return b"".join(codes[name].tobytes() for name in kinds), 0.0
    sorted_rows, bits = [], 0.0
    for name in kinds:
        matrix = codes[name]
        spread = (matrix.astype(np.float32) ** 2).sum(axis=1)
        sorted_rows.append(matrix[np.argsort(spread, kind="stable")].tobytes())
        bits += math.lgamma(len(matrix) + 1) / math.log(2)
    return b"".join(sorted_rows), bits / 8


Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def byte_codecs() -> dict[str, Codec]:
    """General compressors, to and fro; the fast ones first."""
    found: dict[str, Codec] = {}
    for level in (1, 22):
        packer = zstandard.ZstdCompressor(level=level)
        found[f"zstd -{level}"] = packer.compress, zstandard.ZstdDecompressor().decompress
    found["lzma -9"] = functools.partial(lzma.compress, preset=9), lzma.decompress
    if brotli is not None:
        found["brotli -11"] = functools.partial(brotli.compress, quality=11, lgwin=24), brotli.decompress
    return found


def race(codes: Named, entrants: Sequence[tuple[str, int]]) -> list[Runner]:
    """For each order so many of `byte_codecs`, and the coders with a model, rans last."""
    runners = []
    for order, most in entrants:
        stream, paid = ordered(codes, order)
        for name, (pack, unpack) in list(byte_codecs().items())[:most]:
            started = time.perf_counter()
            packed = pack(stream)
            middle = time.perf_counter()
            assert unpack(packed) == stream, name
            times = middle - started, time.perf_counter() - middle
            runners.append(Runner(f"{name}, {order}", len(packed) + paid, *times))
    matrices = list(codes.values())
    if constriction is not None:
        zero = [(np.zeros(m.shape[0], np.uint8), np.full(m.shape[1], i, np.uint8)) for i, m in enumerate(matrices)]
        runners.append(ranged(matrices, zero, "constriction, a table per tensor"))
        runners.append(ranged(matrices, code_spreads(matrices), "constriction, the classes of rans"))
    started = time.perf_counter()
    side, words = pack_codes(matrices)
    size = len(compress(side, "lzma2")) + len(words)
    middle = time.perf_counter()
    read = unpack_codes(side, words, [(m.shape[0], m.shape[1]) for m in matrices])
    assert np.array_equal(read, np.concatenate([m.ravel() for m in matrices])), "rans"
    runners.append(Runner("rans", size, middle - started, time.perf_counter() - middle))
    return runners


def ranged(matrices: Sequence[Matrix], spreads: Sequence[Spread], name: str) -> Runner:
    """constriction's range coder under the tables of these classes, which are paid for as rans stores them."""
    started = time.perf_counter()
    stored, classes = class_tables(matrices, spreads), code_classes(spreads)
    flat = np.concatenate([m.ravel() for m in matrices]).view(np.uint8)
    shares = table_frequencies(stored).astype(np.float64)
    # A categorical of constriction leaves every symbol at least one part: these are exactly the table's frequencies.
    models = [constriction.stream.model.Categorical(row / row.sum(), perfect=False) for row in shares]
    groups = [np.flatnonzero(classes == number) for number in range(len(models))]
    encoder = constriction.stream.queue.RangeEncoder()
    for model, group in zip(models, groups, strict=True):
        encoder.encode(flat[group].astype(np.int32), model)
    words = encoder.get_compressed()
    side = b"".join(part.tobytes() for spread in spreads for part in spread) + stored.tobytes()
    size = 4 * len(words) + len(compress(side, "lzma2"))
    middle = time.perf_counter()
    decoder, found = constriction.stream.queue.RangeDecoder(words), np.empty(len(flat), np.uint8)
    for model, group in zip(models, groups, strict=True):
        found[group] = decoder.decode(model, len(group))
    assert np.array_equal(found, flat), name
    return Runner(name, size, middle - started, time.perf_counter() - middle)


def contest(
    weights: dict[str, Tensor], config: RunConfig, entrants: Sequence[tuple[str, int]], whole: Sequence[str]
) -> dict[str, Any]:
    """One set of codes: the race's table is printed, its figures come back.

    Args: entrants: see `race`; whole: codecs that the whole artifact is packed with, rans last.
    """
    stored = quantise_tensors(weights, config.quant)
    codes = codes_of(stored)
    entropy = sum(entropy_bytes(matrix) for matrix in codes.values())
    runners = race(codes, entrants)
    zstd = next(runner.bytes for runner in runners if runner.name == "zstd -22, by name")
    count = sum(matrix.size for matrix in codes.values())
    print(f"{count:,} codes, order-0 entropy by tensor {entropy:,.0f} bytes ({8 * entropy / count:.3f} bits a code)")
    print(f"{'':38s} {'bytes':>12s} {'to entropy':>10s} {'to zstd-22':>10s} {'pack s':>8s} {'unpack s':>8s}")
    for runner in sorted(runners, key=lambda runner: -runner.bytes):
        over, under = 100 * (runner.bytes / entropy - 1), 100 * (runner.bytes / zstd - 1)
        times = f"{runner.pack_seconds:8.2f} {runner.unpack_seconds:8.2f}"
        print(f"{runner.name:38s} {runner.bytes:12,.0f} {over:+9.2f}% {under:+9.2f}% {times}", flush=True)
    sizes = {}
    for codec in whole:
        data = encode(stored, to_plain(config.model), codec)
        started = time.perf_counter()
        decode(data)
        sizes[codec] = len(data)
        seconds = time.perf_counter() - started
        print(f"whole artifact, {codec:4s}                   {len(data):12,d} {'':30s} {seconds:8.2f}", flush=True)
    mine = runners[-1].bytes
    return {
        "codes": count,
        "over_entropy_percent": round(100 * (mine / entropy - 1), 3),
        "under_zstd_percent": round(100 * (1 - mine / zstd), 3),
        "decode_seconds": round(seconds, 3),
        "artifact_bytes": sizes,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Race."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.bytes", allow_abbrev=False, description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, one split, the record against zstd")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=f"prepared data ({CORPUS_DATA}, made when missing)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="average.safetensors of a demo trained before")
    parser.add_argument("--split", default="mixed-int6-int8", help="of the record's codes (%(default)s)")
    parsed = parser.parse_args(arguments)
    for name, codec in (("brotli", brotli), ("constriction", constriction)):
        if codec is None:
            print(f"{name} is not installed and not in the race: pip install {name}")
    steps = QUICK_STEPS if parsed.quick else None
    demo = read_tensors(parsed.weights) if parsed.weights else trained_demo(steps, parsed.data)
    results: dict[str, Any] = {}
    for split in [parsed.split] if parsed.quick else SPLITS:
        print(f"\ndemo, trained, {split}")
        entrants = [(order, 4) for order in (ORDERS[:1] if parsed.quick else ORDERS)]
        config = with_split(find_preset("demo"), split)
        results[f"demo {split}"] = contest(demo, config, entrants, ("zstd", "rans"))
    record, by_name, by_spread = with_split(find_preset("pr598"), parsed.split), ORDERS[0], ORDERS[2]
    print(f"\nrecord, drawn, {parsed.split}")
    entrants = [(by_name, 2)] if parsed.quick else [(by_name, 4), (by_spread, 2)]
    results["record"] = contest(
        record_weights(demo, True), record, entrants, ("rans",) if parsed.quick else ("zstd", "rans")
    )
    if not parsed.quick:
        print(f"\nrecord, plain, drawn, {parsed.split}")
        results["record, plain"] = contest(record_weights(demo, False), record, [(by_name, 2)], ("rans",))
    main_figures = {name: results["record"][name] for name in list(results["record"])[1:4]}
    print(json.dumps({**main_figures, "split": parsed.split, "contests": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Opening a ledger of many record-size trials: CPU seconds until every number of every trial is at hand.

    python -m benchmarks.ledger_open [--trials 1000]

Each trial has a configuration, five rungs, the byte groups of its artifact, a check of 25 points, a curve of 20,000
steps and 1,893 chunk sums (62 million validation tokens). "Inline" is the same data with the curves inside the lines,
read by `json` from 20 of the trials. The last line is one JSON object.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch

from golf.compliance.points import POINTS, passed, summary_of
from golf.config.config import RunConfig, to_plain
from golf.runtime.process_group import device_name
from golf.runtime.results import LADDER
from tune.records.entries import ArtifactSize, Device, RungScore, Series, TrialEntry, TrialState
from tune.records.ledger import Ledger
from tune.records.lines import encode_line

STEPS, CHUNKS, INLINE_TRIALS = 20_000, 1893, 20


def record_size_trial(number: int) -> TrialEntry:
    """Returns an entry as large as that of a run of the record."""
    evidence = {"artifact_bytes": 15_900_000, "largest_difference": 1.1e-7, "targets": 62_021_632, "shards": ["a" * 64]}
    stages = {f"prefix-{n}": 100.0 for n in range(5)} | dict.fromkeys(("train", "pack", *LADDER), 100.0)
    columns = {"elements": 1e6, "raw_bytes": 1.1e6, "entropy_bytes": 7.5e5, "packed_bytes": 7.6e5}
    return TrialEntry(
        sweep="record",
        trial=f"{number:012x}",
        name="steps=20000 warmdown_start=8000 warmdown_shape=cosine split=pure-int6 ttt_lr=0.002 ttt_epochs=10",
        preset="pr668",
        workload="gepa",
        parameters={"schedule.steps": STEPS, "split": "pure-int6", "optimizer.matrix_lr": 0.001 * number},
        config=to_plain(RunConfig()),
        data="d" * 64,
        dataset="fineweb10B_sp1024",
        code="c" * 64,
        environment={f"package-{n}": "2.13.0" for n in range(12)},
        tags={"host": "node-1", "commit": "e" * 40, "searched": "schedule.steps, split, ttt.lr, optimizer.matrix_lr"},
        started=1.7e9,
        ended=1.7e9 + 1200,
        state=TrialState.DONE,
        bpb=1.1,
        nats_per_token=1.9,
        rungs=tuple(RungScore(name=name, bpb=1.1 + number / 1e5, nats_per_token=1.9, seconds=99.5) for name in LADDER),
        size=ArtifactSize(model_bytes=15_850_000, code_bytes=61_500, cap_bytes=16_000_000),
        seconds=stages,
        computed=stages,
        cold=False,
        train_tokens=STEPS * 786_432,
        device=Device(count=8, name="NVIDIA H100 80GB HBM3", kind="cuda"),
        code_sha256="f" * 64,
        keys=tuple(f"{n:064x}" for n in range(len(stages))),
        check=summary_of([passed(point, evidence) for point in POINTS]),
        byte_groups=dict.fromkeys(("attention", "mlp", "tables", "token_embedding", "float", "header"), columns),
    )


def record_size_series() -> Series:
    """Returns curves and chunk sums as long as those of a run of the record."""
    random = np.random.default_rng(0)
    curve = np.stack([np.arange(STEPS), 1.7e9 + np.arange(STEPS) * 0.08, random.normal(3, 0.1, STEPS)], axis=1)
    sums = np.stack([random.normal(61_000, 900, CHUNKS), np.full(CHUNKS, 32_768), np.full(CHUNKS, 79_000)], axis=1)
    running = np.stack([np.arange(CHUNKS), 1.7e9 + np.arange(CHUNKS), random.normal(1.1, 0.01, CHUNKS)], axis=1)
    return Series({"train_loss": curve, "ttt_bpb": running}, {"sliding": sums, "ttt": sums})


def best_seconds(run: Callable[[], object], times: int = 5) -> float:
    """Returns the least seconds of this process, system calls included, of several calls."""
    best = math.inf
    for _ in range(times):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return best


def inline_lines(entries: list[TrialEntry], series: Series) -> bytes:
    """Returns lines that hold the curves and chunk sums themselves."""
    inside = {"curves": {name: curve.tolist() for name, curve in series.curves.items()}}
    inside |= {"chunks": {name: sums.tolist() for name, sums in series.chunks.items()}}
    return b"\n".join(json.dumps(msgspec.to_builtins(entry) | inside).encode() for entry in entries)


def main() -> None:
    """Writes a ledger, opens it, and prints the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger, series = Ledger(Path(folder) / "ledger.jsonl"), record_size_series()
        digest = ledger.write_series(series)
        entries = [msgspec.structs.replace(record_size_trial(n), series=digest) for n in range(parsed.trials)]
        data = b"".join(encode_line(entry, "2026-01-01T00:00:00Z") + b"\n" for entry in entries)

        def open_anew() -> None:
            ledger.path.write_bytes(data)  # a file that has changed is read again
            assert len(ledger.latest()) == len(entries)

        inline = inline_lines(entries[:INLINE_TRIALS], series)
        results = {
            "trials": parsed.trials,
            "bytes_a_line": len(data) // parsed.trials,
            "open_seconds": best_seconds(open_anew),
            "series_seconds": best_seconds(lambda: ledger.series(entries[0])),
            "series_bytes": ledger.series_path(digest).stat().st_size,
            "inline_bytes_a_line": len(inline) // INLINE_TRIALS,
            "inline_seconds": best_seconds(lambda: [json.loads(line) for line in inline.splitlines()], 2)
            * parsed.trials
            / INLINE_TRIALS,
        }
    print(f"{device_name(torch.device('cpu'))}, Python {platform.python_version()}")
    for name, value in results.items():
        print(f"{name:20s} {value:>14,.4f}" if isinstance(value, float) else f"{name:20s} {value:>14,}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()

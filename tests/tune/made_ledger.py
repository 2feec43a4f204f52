"""Ledgers of made-up trials, of any size and kind, for what is made from a ledger."""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from golf.config.config import RunConfig, to_plain
from golf.runtime.results import LADDER
from tune.records.entries import (
    ArtifactSize,
    Device,
    Failure,
    FailureKind,
    Record,
    RungScore,
    ScreeningScore,
    Series,
    TrialEntry,
    TrialState,
)
from tune.records.ledger import Ledger
from tune.records.lines import encode_line

SPACE: dict[str, list[Any]] = {
    "schedule.steps": [130, 200],
    "schedule.warmdown_start": [30, 60],
    "schedule.warmdown_shape": ["linear", "cosine"],
    "split": ["mixed-int6-int8", "pure-int6", "int5-mlp"],
    "ttt.lr": [0.005, 0.01],
    "ttt.epochs": [1, 2, 3],
}
"""144 points."""
CAP, CODE = 430_000, 61_500
START = 1_700_000_000.0


Made = tuple[TrialEntry, Series]
"""An entry with its curves and chunk sums."""


def made_trial(
    sweep: str, number: int, state: str, parameters: Mapping[str, Any], num_chunks: int = 40, seed: int = 42
) -> Made:
    """Returns an entry as a sweep writes it. Args: state: a value of `TrialState`."""
    dice = random.Random(f"{sweep} {number}")
    values = {name: value for name, value in parameters.items() if "." in name}
    config = to_plain(replace(RunConfig(), seed=seed, cap_bytes=CAP))
    for field, value in values.items():
        part, _, last = field.partition(".")
        config[part][last] = value
    config["quant"]["split"] = parameters.get("split")
    started = START + 60 * number
    entry = TrialEntry(
        sweep=sweep,
        trial=f"{hash_of(sweep, number):012x}"[:12],
        name=" ".join(f"{field.rpartition('.')[2]}={value}" for field, value in parameters.items()),
        preset="demo",
        workload="gepa",
        parameters=dict(parameters),
        config=config,
        data="d" * 64,
        dataset="made-up",
        code="c" * 64,
        environment={"torch": "2.0", "python": "3.11"},
        tags={"host": "here"},
        started=started,
        ended=started + 50,
        state=TrialState(state),
    )
    if state == "failed":
        failure = Failure(kind=FailureKind.DIVERGED, message="the loss became NaN at step 7")
        return msgspec.structs.replace(entry, reason=str(failure), failure=failure), Series()
    curves = _curves(started, dice, int(parameters.get("schedule.steps", 130)))
    size = 390_000 + dice.randrange(8_000) + 22_000 * (parameters.get("split") == "int5-mlp")
    size += 48_000 if state == "infeasible" else 0
    entry = msgspec.structs.replace(
        entry,
        size=ArtifactSize(model_bytes=size - CODE, code_bytes=CODE, cap_bytes=CAP),
        byte_groups=_byte_groups(size - CODE),
        device=Device(count=1, name="made up", kind="cpu"),
        seconds={"train": 40.0, "pack": 0.3},
        computed={"train": 19.7, "pack": 0.3},
        cold=False,
    )
    if state == "infeasible":
        return msgspec.structs.replace(entry, reason=f"over the cap by {size - CAP:,} bytes"), Series(curves)
    if state == "screened":
        rank = "3rd of 4, 0.0095 +- 0.0016 BPB behind abcdef"
        screening = (ScreeningScore(name="sliding", bpb=2.5, seconds=1.0, rank=rank),)
        on = "3rd of 4 on the first 10 % of validation, 0.0095 +- 0.0016 BPB behind abcdef"
        reason = f"stopped early: {on} (top 50 % go on; --no-screening runs all)"
        return msgspec.structs.replace(entry, reason=reason, screening=screening), Series(curves)
    return _scored(entry, curves, dice, num_chunks)


def hash_of(sweep: str, number: int) -> int:
    """The same in every process."""
    return random.Random(f"id {sweep} {number}").getrandbits(48)


def _curves(started: float, dice: random.Random, steps: int) -> dict[str, Any]:
    floor = 3.9 + 0.05 * dice.random()
    curve = [
        [s, started + s / 10, floor + 3 * math.exp(-8 * s / steps) + 0.06 * dice.gauss(0, 1)] for s in range(steps)
    ]
    validation = [[s, started, 2.4 + 1.5 * math.exp(-6 * s / steps)] for s in range(20, steps, 30)]
    return {"train_loss": curve, "validation_bpb": validation}


def _byte_groups(model_bytes: int) -> dict[str, dict[str, float]]:
    shares = {"attention": 0.2, "mlp": 0.3, "tables": 0.24, "token_embedding": 0.18, "float": 0.07}
    groups = {
        group: {
            "elements": 1000.0,
            "raw_bytes": 1100.0,
            "entropy_bytes": 0.0 if group == "float" else share * model_bytes / 1.06,
            "packed_bytes": float(int(share * model_bytes)),
        }
        for group, share in shares.items()
    }
    rest = model_bytes - sum(row["packed_bytes"] for row in groups.values())
    return groups | {"header": {"elements": 0.0, "raw_bytes": 2844.0, "entropy_bytes": 0.0, "packed_bytes": rest}}


def _scored(entry: TrialEntry, curves: dict[str, Any], dice: random.Random, num_chunks: int) -> Made:
    parameters = entry.parameters
    level = 2.40 - 0.02 * (parameters.get("ttt.lr", 0) == 0.01) + 0.03 * (parameters.get("split") == "int5-mlp")
    text = random.Random("text")
    chunks = []
    own = dice.gauss(0, 0.004)
    for number in range(num_chunks):
        tokens, num_bytes = 4096, 9000 + text.randrange(900)
        bpb = level + own + 0.1 * text.gauss(0, 1) + 0.004 * dice.gauss(0, 1) - 0.02 * number / num_chunks
        chunks.append([bpb * num_bytes * math.log(2), tokens, num_bytes])
    total = sum(chunk[2] for chunk in chunks) * math.log(2)
    last = math.fsum(chunk[0] for chunk in chunks) / total
    tokens = sum(chunk[1] for chunk in chunks)
    offsets = [-0.0018, 0.0021, 0.0147, 0.0038, 0.0]
    rungs = tuple(
        RungScore(name=rung, bpb=last + offset, nats_per_token=(last + offset) * total / tokens, seconds=3.0)
        for rung, offset in zip(LADDER, offsets, strict=True)
    )
    running, nats, size = [], 0.0, 0.0
    for number, (chunk_nats, _, num_bytes) in enumerate(chunks):
        nats, size = nats + chunk_nats, size + num_bytes
        running.append([number, entry.ended, nats / math.log(2) / size])
    rung_seconds = {rung.name: rung.seconds for rung in rungs}
    entry = msgspec.structs.replace(
        entry,
        bpb=last,
        nats_per_token=last * total / tokens,
        rungs=rungs,
        seconds=entry.seconds | rung_seconds,
        computed=entry.computed | rung_seconds,
    )
    return entry, Series(curves | {"ttt_bpb": running}, {"sliding": chunks, "ttt": chunks})


def made_sweep(sweep: str, num: int, states: Sequence[str] = ("done",), num_chunks: int = 40) -> list[Made]:
    """So many trials at points of `SPACE`, or of many with a random learning rate, their states in turn."""
    dice = random.Random(f"points {sweep}")
    points = [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]
    dice.shuffle(points)
    trials = []
    for number in range(num):
        point = dict(points[number % len(points)])
        if num > 72:
            point["optimizer.matrix_lr"] = round(10 ** dice.uniform(-2.5, -1), 5)
        trials.append(made_trial(sweep, number, states[number % len(states)], point, num_chunks))
    return trials


def made_study(study: str, seeds: Sequence[int], repeats: int = 0, split: str = "pure-int6") -> list[Made]:
    """One configuration under these seeds, and the first seed again so many times."""
    trials = []
    for number, seed in enumerate([*seeds, *[seeds[0]] * repeats]):
        parameters = {"seed": seed} | ({"repeat": number - len(seeds) + 1} if number >= len(seeds) else {})
        entry, series = made_trial(study, number, "done", parameters, seed=seed)
        entry.config["quant"]["split"] = split
        trials.append((entry, series))
    return trials


def write_ledger(path: Path, records: Iterable[Record | Made]) -> Path:
    """A ledger of these records, written at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger, lines = Ledger(path), []
    for made in records:
        record, series = made if isinstance(made, tuple) else (made, Series())
        if series and isinstance(record, TrialEntry):
            record = msgspec.structs.replace(record, series=ledger.write_series(series))
        lines.append(encode_line(record, "2023-11-14T22:13:20Z") + b"\n")
    path.write_bytes(b"".join(lines))
    return path

"""Ledgers of made-up trials, of any size and kind, for what is made from a ledger."""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, to_plain
from golf.runtime.results import LADDER
from tune.records.journal import LEDGER_VERSION, encode

SPACE: dict[str, list[Any]] = {
    "schedule.steps": [130, 200],
    "schedule.warmdown_start": [30, 60],
    "schedule.warmdown_shape": ["linear", "cosine"],
    "split": ["mixed-int6-int8", "pure-int6", "int5-mlp"],
    "ttt.lr": [0.005, 0.01],
    "ttt.epochs": [1, 2, 3],
}
"""144 points."""
CAP = 430_000
START = 1_700_000_000.0


def made_trial(
    sweep: str, number: int, status: str, parameters: Mapping[str, Any], num_chunks: int = 40, seed: int = 42
) -> dict[str, Any]:
    """An entry as a sweep writes it.

    Args: status: "done", "infeasible", "screened" or "failed".
    """
    dice = random.Random(f"{sweep} {number}")
    values = {name: value for name, value in parameters.items() if "." in name}
    name = " ".join(f"{field.rpartition('.')[2]}={value}" for field, value in parameters.items())
    config = to_plain(replace(RunConfig(), seed=seed, cap_bytes=CAP))
    for field, value in values.items():
        part, _, last = field.partition(".")
        config[part][last] = value
    config["quant"]["split"] = parameters.get("split")
    entry: dict[str, Any] = {
        "kind": "trial",
        "sweep": sweep,
        "trial": f"{abs(hash_of(sweep, number)):012x}"[:12],
        "name": name,
        "preset": "demo",
        "parameters": dict(parameters),
        "config": config,
        "data": "d" * 64,
        "code": "c" * 64,
        "environment": {"torch": "2.0", "python": "3.11"},
        "started": START + 60 * number,
        "ended": START + 60 * number + 50,
        "status": status,
        "cause": None,
        "metrics": {},
        "curves": {},
        "chunks": {},
        "files": {},
        "tags": {"device": "1 x made up", "host": "here"},
    }
    if status == "failed":
        return entry | {"cause": "the loss became NaN at step 7"}
    _train(entry, dice, parameters)
    size = 390_000 + dice.randrange(8_000) + 22_000 * (parameters.get("split") == "int5-mlp")
    size += 48_000 if status == "infeasible" else 0
    _pack(entry, size)
    if status == "infeasible":
        return entry | {"cause": f"over the cap by {size - CAP:,} bytes"}
    if status == "screened":
        entry["metrics"]["bpb_sliding-screen"] = 2.5
        return entry | {"cause": "not promoted after the first chunks of sliding: place 3 of 4, +0.0095 +- 0.0016 BPB"}
    _score(entry, dice, parameters, num_chunks)
    return entry


def hash_of(sweep: str, number: int) -> int:
    """The same in every process."""
    return random.Random(f"id {sweep} {number}").getrandbits(48)


def _train(entry: dict[str, Any], dice: random.Random, parameters: Mapping[str, Any]) -> None:
    steps = int(parameters.get("schedule.steps", 130))
    floor = 3.9 + 0.05 * dice.random()
    curve = [
        [s, entry["started"] + s / 10, floor + 3 * math.exp(-8 * s / steps) + 0.06 * dice.gauss(0, 1)]
        for s in range(steps)
    ]
    validation = [[s, entry["started"], 2.4 + 1.5 * math.exp(-6 * s / steps)] for s in range(20, steps, 30)]
    entry["curves"] = {"train_loss": curve, "validation_bpb": validation}
    entry["metrics"] = {"train_seconds": 40.0, "pack_seconds": 0.3, "seconds": 40.3, "seconds_now": 20.0}


def _pack(entry: dict[str, Any], size: int) -> None:
    code = 61_500
    model = size - code
    over = max(0, size - CAP)
    entry["metrics"] |= {"artifact_bytes": size, "model_bytes": model, "code_bytes": code, "overflow_bytes": over}
    shares = {"attention": 0.2, "mlp": 0.3, "tables": 0.24, "token_embedding": 0.18, "float": 0.07}
    ledger = {
        group: {
            "elements": 1000.0,
            "raw_bytes": 1100.0,
            "entropy_bytes": 0.0 if group == "float" else share * model / 1.06,
            "packed_bytes": float(int(share * model)),
        }
        for group, share in shares.items()
    }
    rest = model - sum(row["packed_bytes"] for row in ledger.values())
    entry["ledger"] = ledger | {
        "header": {"elements": 0.0, "raw_bytes": 2844.0, "entropy_bytes": 0.0, "packed_bytes": rest}
    }


def _score(entry: dict[str, Any], dice: random.Random, parameters: Mapping[str, Any], num_chunks: int) -> None:
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
    for rung, offset in zip(LADDER, offsets, strict=True):
        entry["metrics"] |= {f"bpb_{rung}": last + offset, f"nats_{rung}": (last + offset) * total / tokens}
        entry["metrics"][f"{rung}_seconds"] = 3.0
    entry["metrics"] |= {"bpb": last, "nats": last * total / tokens, "seconds": 55.3, "seconds_now": 35.0}
    entry["chunks"] = {"sliding": chunks, "ttt": chunks}
    running, nats, size = [], 0.0, 0.0
    for number, (chunk_nats, _, num_bytes) in enumerate(chunks):
        nats, size = nats + chunk_nats, size + num_bytes
        running.append([number, entry["ended"], nats / math.log(2) / size])
    entry["curves"]["ttt_bpb"] = running


def made_sweep(sweep: str, num: int, statuses: Sequence[str] = ("done",), num_chunks: int = 40) -> list[dict[str, Any]]:
    """So many trials at points of `SPACE`, or of many with a random learning rate, their statuses in turn."""
    dice = random.Random(f"points {sweep}")
    points = [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]
    dice.shuffle(points)
    entries = []
    for number in range(num):
        point = dict(points[number % len(points)])
        if num > 72:
            point["optimizer.matrix_lr"] = round(10 ** dice.uniform(-2.5, -1), 5)
        entries.append(made_trial(sweep, number, statuses[number % len(statuses)], point, num_chunks))
    return entries


def made_study(study: str, seeds: Sequence[int], repeats: int = 0, split: str = "pure-int6") -> list[dict[str, Any]]:
    """One configuration under these seeds, and the first seed again so many times."""
    entries = []
    for number, seed in enumerate([*seeds, *[seeds[0]] * repeats]):
        parameters = {"seed": seed} | ({"repeat": number - len(seeds) + 1} if number >= len(seeds) else {})
        entry = made_trial(study, number, "done", parameters, seed=seed)
        entry["config"]["quant"]["split"] = split
        entries.append(entry)
    return entries


def write_ledger(path: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    """A ledger of these entries, made at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamps = {"ledger_version": LEDGER_VERSION, "time": "2023-11-14T22:13:20Z"}
    path.write_bytes(b"".join(encode({**entry, **stamps}) + b"\n" for entry in entries))
    return path

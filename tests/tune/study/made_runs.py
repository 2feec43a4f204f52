"""Runs of seed studies with given values, as a sweep writes them into the ledger."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from golf.config.config import RunConfig, override_all, to_plain
from golf.runtime.results import digest
from tests.tune.made_ledger import Made
from tune.records.entries import ArtifactSize, Device, RungScore, Series, TrialEntry, TrialState
from tune.records.ledger import Ledger

InLedger = Callable[[Sequence[Made]], Ledger]
"""Type of the fixture `in_ledger`."""
CHUNKS = tuple((100 + 7 * (n % 3), 240 + 11 * (n % 5)) for n in range(24))
"""(tokens, bytes) of a made-up stream."""
TOKENS, BYTES = (sum(chunk[part] for chunk in CHUNKS) for part in (0, 1))
NATS_PER_BPB = math.log(2) * BYTES / TOKENS
_number = itertools.count()


def made_run(
    sweep: str, seed: int, bpb: float | None, *, repeat: int = 0, fields: dict[str, Any] | None = None, **changes: Any
) -> Made:
    """Returns an entry and its chunk sums.

    Args:
        sweep: of the run.
        seed: of the run.
        bpb: its score; None: it is not done.
        repeat: number of a further run of the seed.
        fields: dotted fields of the configuration that are not the default.
        changes: fields of the entry that are not as usual.
    """
    config = to_plain(override_all(RunConfig(), {"seed": seed, "cap_bytes": 1000, **(fields or {})}))
    started = 1e9 + next(_number)
    entry = TrialEntry(
        sweep=sweep,
        trial=digest(config, *([repeat] if repeat else []))[:12],
        name=f"seed={seed}",
        preset="tiny",
        workload="gepa",
        parameters={"seed": seed} | ({"repeat": repeat} if repeat else {}),
        config=config,
        data="d" * 64,
        dataset="made-up",
        code="c" * 64,
        environment={"torch": "2", "numpy": "3"},
        started=started,
        ended=started + 800.0,
        state=TrialState.FAILED if bpb is None else TrialState.DONE,
        reason="killed: its process died" if bpb is None else None,
        keys=("0" * 64,),
    )
    entry = msgspec.structs.replace(entry, **{"state": entry.state, **changes})
    if entry.state == TrialState.FAILED:
        return entry, Series()
    size = ArtifactSize(model_bytes=800 + seed % 10, code_bytes=100, cap_bytes=1000)
    packed = {"size": size, "device": Device(count=8, name="H100", kind="cuda"), "cold": True}
    packed |= {"seconds": {"train": 500.0, "pack": 0.0}, "computed": {"train": 500.0, "pack": 0.0}}
    if bpb is None:
        return msgspec.structs.replace(entry, **packed | changes), Series()
    noise = [0.1 * ((seed * 7 + n * 13) % 11 - 5) for n in range(len(CHUNKS))]
    mean, per_token = sum(noise) / len(noise), bpb * NATS_PER_BPB
    sums = [[per_token * tokens + e - mean, tokens, num] for (tokens, num), e in zip(CHUNKS, noise, strict=True)]
    rungs = tuple(RungScore(name=n, bpb=bpb, nats_per_token=per_token, seconds=300.0) for n in ("sliding", "ttt"))
    scored = {"bpb": bpb, "nats_per_token": per_token, "rungs": rungs}
    return msgspec.structs.replace(entry, **packed | scored | changes), Series({}, {"sliding": sums, "ttt": sums})


def made_runs(sweep: str, values: Sequence[float], **changes: Any) -> list[Made]:
    """Returns runs of seeds 0, 1, 2, ... with these scores."""
    return [made_run(sweep, seed, value, **changes) for seed, value in enumerate(values)]


def changed(made: Made, **changes: Any) -> Made:
    """Returns a run with other fields of its entry."""
    return msgspec.structs.replace(made[0], **changes), made[1]

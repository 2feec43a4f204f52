"""What a trial's results say, as plain values for the ledger: status, metrics, curves, sums of chunks, files.

Results of stages and the folder that they stand in enter; an outcome leaves. Nothing is written here, and nothing
computed but where an artifact's bytes go.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from golf.artifact.byte_breakdown import group_ledger
from golf.data.dataset import hash_file
from golf.evaluate.sliding import Scored
from golf.pipeline.stages import RunFolder
from golf.runtime.files import read_json
from golf.runtime.results import SCREEN, SLIDING, TTT
from golf.train.checkpoint_policy import SAVE_FACTS
from tune.search.successive_halving import STRIDE_ERROR, ScreeningRank

DONE, INFEASIBLE, SCREENED, FAILED = "done", "infeasible", "screened", "failed"
CHECK = "check"
"""Field of the last rung's result: what the rules' points came to, see `golf.compliance.points.to_json`."""
CONFIG = "config.json"
LOG = "failure.log"
"""The last words of what failed."""
CURVES = ("train_loss", "validation_bpb", f"{TTT}_bpb")
"""Curves that are kept: the loss in nats and the BPB by step, the running BPB of TTT by chunk."""


def outcome_of(
    results: Mapping[str, Any], folder: RunFolder, ranks: Mapping[str, ScreeningRank] = MappingProxyType({})
) -> dict[str, Any]:
    """Status, cause, metrics, curves, chunk sums and files of a finished trial, and how it stood when screened."""
    train, packed, ladder = results["train"], results["pack"], results["ladder"]
    metrics = {
        "artifact_bytes": packed["artifact_bytes"],
        "model_bytes": packed["model_bytes"],
        "code_bytes": packed["code_bytes"],
        "overflow_bytes": packed["over_bytes"],
        "train_seconds": train["seconds"],
        "train_tokens": train["tokens"],
        "pack_seconds": packed["seconds"],
    }
    for rung in ladder:
        metrics |= {f"bpb_{rung['name']}": rung["bpb"], f"nats_{rung['name']}": rung["nats_per_token"]}
        metrics[f"{rung['name']}_seconds"] = rung["seconds"]
    metrics |= of_ranking(folder, ladder)
    if ladder:
        metrics |= {"bpb": ladder[-1]["bpb"], "nats": ladder[-1]["nats_per_token"]}
    metrics["seconds"] = metrics["seconds_now"] = sum(v for name, v in metrics.items() if name.endswith("_seconds"))
    curves = {name: points for name, points in read_json(folder.file("curves.json")).items() if name != "seconds"}
    chunks = {rung["name"]: rung["chunks"] for rung in ladder if rung["name"] in (SLIDING, TTT)}
    if TTT in chunks:
        curves[f"{TTT}_bpb"] = running_bpb(chunks[TTT])
    return {
        "status": DONE if packed["fits"] else INFEASIBLE,
        "cause": None if packed["fits"] else f"over the cap by {packed['over_bytes']:,} bytes",
        "tags": {"device": train["device"], "code_sha256": packed["code_sha256"]},
        "metrics": metrics,
        "curves": curves,
        "chunks": chunks,
        "check": ladder[-1].get(CHECK) if ladder else None,
        "ledger": ledger_of(folder.file("artifact.golf")),
        "saving": {name: train[name] for name in SAVE_FACTS if name in train},
        "standings": {rung: str(rank) for rung, rank in ranks.items()},
        "files": {"artifact": str(folder.file("artifact.golf")), "config": str(folder.file(CONFIG))},
    }


@dataclass(frozen=True)
class Artifact:
    """An artifact by its bytes, wherever it lies."""

    sha256: str
    path: Path = field(compare=False)


def ledger_of(path: Path) -> dict[str, dict[str, float]]:
    """`group_ledger` of the file; trials that share an artifact share its decoding."""
    shared = _ledger_of(Artifact(hash_file(path), path))
    return {group: dict(row) for group, row in shared.items()}


@lru_cache(maxsize=1024)
def _ledger_of(artifact: Artifact) -> dict[str, dict[str, float]]:
    return group_ledger(artifact.path.read_bytes())


def of_ranking(folder: RunFolder, ladder: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of first chunks that were scored with a stride of their own, beside the exact score: seconds and error."""
    file = folder.file(f"{SLIDING}{SCREEN}.json")
    exact = [rung["chunks"] for rung in ladder if rung["name"] == SLIDING]
    if not exact or not file.exists():
        return {}
    first = read_json(file)["result"]
    same = exact[0][: len(first["chunks"])]
    if first["chunks"] == same:
        return {}
    return {f"{SLIDING}{SCREEN}_seconds": first["seconds"], STRIDE_ERROR: first["bpb"] - Scored.of(same).bpb}


def running_bpb(chunks: list[list[float]]) -> list[list[float]]:
    """[chunk, unix seconds, BPB of the stream up to and with the chunk] for every chunk, from the first with text."""
    scores = Scored.of(chunks).chunks
    first = next(number for number, chunk in enumerate(scores) if chunk.num_bytes)
    return [[number, time.time(), Scored(scores[: number + 1]).bpb] for number in range(first, len(scores))]


def failed(cause: str, folder: RunFolder) -> dict[str, Any]:
    """The outcome of a trial that gave no numbers, with the log of its failure where there is one."""
    files = {"log": str(folder.file(LOG))} if folder.file(LOG).exists() else {}
    return {"status": FAILED, "cause": cause, "metrics": {}, "curves": {}, "chunks": {}, "tags": {}, "files": files}

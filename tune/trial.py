"""What one trial does: its stages in order, and what came out of them.

A trial's arguments enter as plain values, files in its folder leave. Where a stage runs is its caller's choice: a
`Runner` takes the stage's name, in this process or on a worker group. Knows neither Ray nor MLflow.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golf.artifact.bundle import code_bytes
from golf.config import RunConfig, from_plain
from golf.data.dataset import Dataset, open_dataset
from golf.dist import Group
from golf.files import read_json, write_json
from golf.record import ADAPTED, SLIDING
from golf.score.sliding import ChunkScore, Scored
from golf.stages import Event, RunFolder, pack_trained, run_stages, train_stage
from tune.failures import explain

DONE, INFEASIBLE, FAILED = "done", "infeasible", "failed"
TRAIN, EVALUATE = "train", "evaluate"
OUTCOME = "outcome.json"
STOPPED = "stopped.json"
CURVES = ("train_loss", "validation_bpb", f"{ADAPTED}_bpb")
"""Curves that are kept: the loss in nats and the BPB by step, the running BPB of TTT by chunk."""
Runner = Callable[[str, Mapping[str, Any]], None]
"""(stage, trial's arguments): runs TRAIN or EVALUATE, which leaves its results in the trial's folder."""


class Failed(Exception):
    """A stage ended for good; the message is the cause in one line."""


def open_trial(spec: Mapping[str, Any]) -> tuple[RunConfig, Dataset, RunFolder]:
    """The configuration, data and folder that a trial's arguments name.

    Args: spec: "config" (plain), "data" and "folder" (paths), "save_seconds".
    """
    config = from_plain(RunConfig, spec["config"])
    return config, open_dataset(Path(spec["data"]), config.model.vocab_size), RunFolder(Path(spec["folder"]))


def run_stage(stage: str, spec: Mapping[str, Any], group: Group, event: Event) -> None:
    """Run TRAIN or EVALUATE on this rank of `group`; the results are left in the trial's folder."""
    config, dataset, folder = open_trial(spec)
    if stage == TRAIN:
        train_stage(config, dataset, folder, group, event, spec["save_seconds"])
    else:
        run_stages(config, dataset, folder, group, code_bytes(config), event, stop_over_cap=True)


def run_trial(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> None:
    """Train, pack and, where the artifact fits, evaluate; the outcome is written to the trial's folder.

    Whatever a stage raises becomes the outcome of this trial alone.
    """
    folder = RunFolder(Path(spec["folder"]))
    folder.file(STOPPED).unlink(missing_ok=True)
    try:
        if not folder.file("train.json").exists():
            train(TRAIN, spec)
        config, dataset, folder = open_trial(spec)
        if pack_trained(config, dataset, folder, Group(), code_bytes(config))["fits"]:
            evaluate(EVALUATE, spec)
        quiet: Event = lambda curve, step, value: None  # noqa: E731
        # All is kept in the folder by now: this only gathers it.
        results = run_stages(config, dataset, folder, Group(), code_bytes(config), quiet, stop_over_cap=True)
        outcome = outcome_of(results, folder)
    except Failed as failure:
        outcome = failed(str(failure))
    except Exception as error:
        outcome = failed(explain(error))
    write_json(folder.file(OUTCOME), outcome)


def failed(cause: str) -> dict[str, Any]:
    """The outcome of a trial that gave no numbers."""
    return {"status": FAILED, "cause": cause, "metrics": {}, "curves": {}, "chunks": {}, "tags": {}, "files": {}}


def outcome_of(results: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Status, cause, metrics, curves, chunk sums and files of a finished trial."""
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
    if ladder:
        metrics |= {"bpb": ladder[-1]["bpb"], "nats": ladder[-1]["nats_per_token"]}
    metrics["seconds"] = sum(value for name, value in metrics.items() if name.endswith("_seconds"))
    curves = {name: points for name, points in read_json(folder.file("curves.json")).items() if name != "seconds"}
    chunks = {rung["name"]: rung["chunks"] for rung in ladder if rung["name"] in (SLIDING, ADAPTED)}
    if ADAPTED in chunks:
        curves[f"{ADAPTED}_bpb"] = running_bpb(chunks[ADAPTED])
    return {
        "status": DONE if packed["fits"] else INFEASIBLE,
        "cause": None if packed["fits"] else f"over the cap by {packed['over_bytes']:,} bytes",
        "tags": {"device": train["device"]},
        "metrics": metrics,
        "curves": curves,
        "chunks": chunks,
        "ledger": packed["ledger"],
        "files": {"artifact": str(folder.file("artifact.golf")), "config": str(folder.file("config.json"))},
    }


def running_bpb(chunks: list[list[float]]) -> list[list[float]]:
    """[chunk, unix seconds, BPB of the stream up to and with the chunk] for every chunk."""
    scores = [ChunkScore(nats, int(tokens), int(num_bytes)) for nats, tokens, num_bytes in chunks]
    return [[number, time.time(), Scored(tuple(scores[: number + 1])).bpb] for number in range(len(scores))]

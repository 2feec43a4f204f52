"""What one trial does: its stages in order, and what came out of them.

A trial's arguments enter as plain values, files in its folder leave. Where a stage runs is its caller's choice: a
`Runner` takes the stage's name, in this process or on a worker group. Knows neither Ray nor MLflow.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.artifact.bundle import code_bytes
from golf.config import RunConfig, from_plain
from golf.data.dataset import Dataset, open_dataset
from golf.dist import Group
from golf.files import read_json, write_json
from golf.record import ADAPTED, SLIDING
from golf.score.sliding import ChunkScore, Scored
from golf.stages import Event, RunFolder, measure, pack_trained, run_stages, rungs_of, train_stage
from tune.failures import explain
from tune.lease import Patience
from tune.reuse import Reuse
from tune.stages import Wanted, stages_of
from tune.store import Store

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

    Args: spec: "config" (plain), "data" and "folder" (paths), "save_seconds"; to share stages also "store" (path or
        URI), "branches" (steps), "world" and, if wanted, "budget_bytes" and "patience".
    """
    config = from_plain(RunConfig, spec["config"])
    return config, open_dataset(Path(spec["data"]), config.model.vocab_size), RunFolder(Path(spec["folder"]))


def run_stage(stage: str, spec: Mapping[str, Any], group: Group, event: Event) -> None:
    """Run TRAIN or EVALUATE on this rank of `group`; the results are left in the trial's folder."""
    config, dataset, folder = open_trial(spec)
    if stage == TRAIN:
        start = Path(spec["start"]) if spec.get("start") else None
        keep = {int(steps): Path(place) for steps, place in spec.get("keep", {}).items()}
        train_stage(config, dataset, folder, group, event, spec["save_seconds"], start, keep)
    else:
        for rung in spec["rungs"]:
            measure(config, dataset, folder, group, event, rung)


def run_trial(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> None:
    """Train, pack and, where the artifact fits, evaluate; the outcome is written to the trial's folder.

    Whatever a stage raises becomes the outcome of this trial alone.
    """
    folder = RunFolder(Path(spec["folder"]))
    folder.file(STOPPED).unlink(missing_ok=True)
    try:
        outcome = shared(spec, train, evaluate) if spec.get("store") else alone(spec, train, evaluate)
    except Failed as failure:
        outcome = failed(str(failure))
    except Exception as error:
        outcome = failed(explain(error))
    write_json(folder.file(OUTCOME), outcome)


def alone(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> dict[str, Any]:
    """The outcome of a trial that computes all by itself."""
    config, dataset, folder = open_trial(spec)
    if not folder.file("train.json").exists():
        train(TRAIN, spec)
    packed = pack_trained(config, dataset, folder, Group(), code_bytes(config))
    if packed["fits"]:
        evaluate(EVALUATE, {**spec, "rungs": rungs_of(config)})
    return outcome_of(gathered(config, dataset, folder), folder)


def shared(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> dict[str, Any]:
    """The outcome of a trial that takes what others computed from the store, and publishes what it computes."""
    config, dataset, folder = open_trial(spec)
    stages = stages_of(config, dataset.digest, spec["world"], spec["branches"])
    store = Store(spec["store"], budget_bytes=spec.get("budget_bytes"), patience=Patience(**spec.get("patience", {})))
    reuse = Reuse(store, folder.path, spec["trial"])
    store.pin(stages.keys, spec["trial"])

    def train_from(start: Path | None, keep: Mapping[int, Path]) -> None:
        kept = {str(steps): str(place) for steps, place in keep.items()}
        train(TRAIN, {**spec, "start": None if start is None else str(start), "keep": kept})

    def pack(wanted: Sequence[Wanted]) -> None:
        pack_trained(config, dataset, folder, Group(), code_bytes(config))

    def score(wanted: Sequence[Wanted]) -> None:
        evaluate(EVALUATE, {**spec, "rungs": [one.name for one in wanted]})

    try:
        reuse.train(stages.training, train_from)
        reuse.obtain([stages.pack], pack)
        packed = pack_trained(config, dataset, folder, Group(), code_bytes(config))
        if packed["fits"]:
            reuse.obtain(stages.rungs, score)
    finally:
        store.unpin(spec["trial"])
    outcome = outcome_of(gathered(config, dataset, folder), folder)
    outcome["metrics"]["seconds_now"] = sum(reuse.computed.values())
    return outcome | {"keys": stages.keys, "computed": reuse.computed}


def gathered(config: RunConfig, dataset: Dataset, folder: RunFolder) -> dict[str, Any]:
    """All results, each of which is kept in the folder by now."""
    quiet: Event = lambda curve, step, value: None  # noqa: E731
    return run_stages(config, dataset, folder, Group(), code_bytes(config), quiet, stop_over_cap=True)


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
    metrics["seconds"] = metrics["seconds_now"] = sum(v for name, v in metrics.items() if name.endswith("_seconds"))
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

"""What one trial does: its stages in order, and what came out of them.

A trial's arguments enter as plain values, files in its folder leave. Where a stage runs is its caller's choice: a
`Runner` takes the stage's name, in this process or on a worker group. Knows neither Ray nor MLflow.
"""

import contextlib
import json
import re
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from golf.compliance.run import cheap_check
from golf.config.config import RunConfig, from_plain
from golf.data.dataset import Dataset, open_dataset
from golf.pipeline.bundle import counted_code
from golf.pipeline.stages import (
    Event,
    RunFolder,
    measure,
    pack_trained,
    run_stages,
    rungs_of,
    train_stage,
    training_identity,
    with_code,
)
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import AVERAGED, LIVE, SCREEN, SLIDING, STATE
from golf.train.checkpoint_policy import MTBF_HOURS, CheckpointPolicy
from golf.train.loop import Preempted, PreemptionCheck, never
from golf.train.run_log import LOG_FILE, LogFile, head_lines, rung_line
from tune.cache.cached_runner import CachedStageRunner
from tune.cache.entries import Damaged
from tune.cache.lease import LeaseConfig
from tune.cache.stage_graph import StageOutput
from tune.cache.store import Store
from tune.cache.world_history import describe_world_history
from tune.records.journal import Ledger
from tune.search.successive_halving import ScreeningRank, SuccessiveHalving, first_chunks_of, screening_rank
from tune.workloads.failures import explain, log_text
from tune.workloads.gepa.outcome import CHECK, CONFIG, DONE, LOG, SCREENED, failed, outcome_of
from tune.workloads.gepa.resume import alike, link_latest_checkpoint
from tune.workloads.gepa.stages import SCREENED_RUNGS, GepaStages, code_digest, gepa_stages, seconds_of

TRAIN, EVALUATE = "train", "evaluate"
OUTCOME = "outcome.json"
STOPPED = "stopped.json"
PROVENANCE = "provenance.json"
"""Says which code and machines filled the trial's folder."""
POINT = "point.json"
GIVEN = (CONFIG, POINT)
"""Files that the trial's caller wrote into its folder."""
Runner = Callable[[str, Mapping[str, Any]], None]
"""(stage, trial's arguments): runs TRAIN or EVALUATE, which leaves its results in the trial's folder."""


class Failed(Exception):
    """A stage ended for good; the message is the cause in one line."""


def open_trial(spec: Mapping[str, Any]) -> tuple[RunConfig, Dataset, RunFolder]:
    """The configuration, data and folder that a trial's arguments name.

    Args: spec: "config" (plain), "data" and "folder" (paths), "save_seconds" (None: chosen from what a save costs and
        "mtbf_hours"), "world"; to share stages also "store" (path or URI), "branches" (steps) and, if wanted,
        "budget_bytes" and "patience"; to be screened "screening" (fields of Screening) and "screened" (path of what
        the sweep's trials scored on the first chunks).
    """
    config = from_plain(RunConfig, spec["config"])
    return config, open_dataset(Path(spec["data"]), config.model.vocab_size), RunFolder(Path(spec["folder"]))


def use_own_threads(spec: Mapping[str, Any]) -> None:
    """Compute with the threads of the trial's CPUs, whatever OMP_NUM_THREADS or MKL_NUM_THREADS of a shell says.

    Their number changes the last bits of sums, and results are shared by a key that holds the trial's own.
    """
    threads = (spec.get("world") or {}).get("threads")
    if threads is not None:
        torch.set_num_threads(threads)


def run_stage(
    stage: str, spec: Mapping[str, Any], group: ProcessGroup, event: Event, preemption: PreemptionCheck = never
) -> None:
    """Run TRAIN or EVALUATE on this rank of `group`; the results are left in the trial's folder.

    Args: notice: whether this rank knows that the stage has to stop soon.
    Raises: Preempted once the state is saved after a notice.
    """
    use_own_threads(spec)
    config, dataset, folder = open_trial(spec)
    saving = CheckpointPolicy(seconds=spec["save_seconds"], mtbf_hours=spec.get("mtbf_hours", MTBF_HOURS))
    log = LogFile(folder.file(LOG_FILE), group, begin=stage == TRAIN)
    if stage == TRAIN:
        for line in head_lines(config, dataset):
            log(line)
        start = Path(spec["start"]) if spec.get("start") else None
        keep = {int(steps): Path(place) for steps, place in spec.get("keep", {}).items()}
        train_stage(config, dataset, folder, group, event, saving, start, keep, preemption, log)
    else:
        first = spec.get("first_chunks")
        for rung in spec["rungs"]:
            one = config if first is None else SuccessiveHalving(**spec["screening"]).ranked_by(config, rung)
            measured = measure(one, dataset, folder, group, event, rung, first, saving, preemption)
            if first is None:
                log(rung_line(measured))
        if first is None and rungs_of(config)[-1] in spec["rungs"]:
            add_check(config, dataset, folder, group, spec["code_bytes"])


def add_check(config: RunConfig, dataset: Dataset, folder: RunFolder, group: ProcessGroup, code: int) -> None:
    """Check the rules' points in the cheap form, where the evaluation ran; kept with the last rung's result."""
    path = folder.file(f"{rungs_of(config)[-1]}.json")
    if group.first and CHECK not in (kept := read_json(path))["result"]:
        told = cheap_check(config, dataset, folder, ProcessGroup(device=group.device), code)
        write_json(path, {**kept, "result": {**kept["result"], CHECK: told}})
    group.wait()


def run_trial(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> None:
    """Train, pack and, where the artifact fits, evaluate; the outcome is written to the trial's folder.

    Whatever a stage raises becomes the outcome of this trial alone.

    Raises: Preempted when this process's machine is being taken away: the trial goes on elsewhere.
    """
    use_own_threads(spec)
    folder = RunFolder(Path(spec["folder"]))
    for name in (STOPPED, LOG):
        folder.file(name).unlink(missing_ok=True)
    try:
        invalidate_stale(folder, spec)
        outcome = run_cached(spec, train, evaluate) if spec.get("store") else run_uncached(spec, train, evaluate)
    except Preempted:
        raise
    except Failed as failure:
        outcome = failed(str(failure), folder)
    except Exception as error:
        cause = explain(error)
        write_log(folder, cause, {"traceback": traceback.format_exc()})
        outcome = failed(cause, folder)
    keep_outcome(folder, spec, outcome)


def keep_outcome(folder: RunFolder, spec: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
    """Write down a trial's outcome: its device as it was asked for, and the ranks where others ran."""
    tags, asked = dict(outcome["tags"]), (spec.get("world") or {}).get("ranks")
    if asked is not None:
        # The last attempt's number would make two seeds of one study runs on different devices.
        tags |= {"device": re.sub(r"^\d+ x ", f"{asked} x ", tags["device"])} if "device" in tags else {}
        said = describe_world_history(folder.path, asked)
        tags |= {} if said is None else {"ranks": said}
    if outcome["status"] != DONE:
        with contextlib.suppress(OSError):  # as with `write_log`
            LogFile(folder.file(LOG_FILE), ProcessGroup(), begin=False)(
                f"no result: {outcome['status']}, {outcome['cause']}"
            )
    write_json(folder.file(OUTCOME), {**outcome, "tags": tags})


def invalidate_stale(folder: RunFolder, spec: Mapping[str, Any]) -> None:
    """Empty the trial's folder of what other code or other machines left there, which would pass for this trial's."""
    made_by = {"code": code_digest(), "torch": str(torch.__version__), "world": spec.get("world")}
    mark = folder.file(PROVENANCE)
    if mark.exists() and read_json(mark) == made_by:
        return
    for path in folder.path.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in GIVEN:
            path.unlink()
    write_json(mark, made_by)


def load_from_cache(spec: Mapping[str, Any]) -> bool:
    """Write the outcome of a trial all of whose results are stored, computing nothing and waiting for nobody.

    Returns: False, and no outcome is written, when a result is missing.
    """
    config, dataset, folder = open_trial(spec)
    stages = stages_in_store(spec, config, dataset)
    store = Store(spec["store"])
    try:
        if store.find(stages.training[-1].key) is None or (packed := store.find(stages.pack.key)) is None:
            return False
        result = json.loads(store.read(packed, "pack.json"))["result"]
        fits = with_code(result, counted_code(config), config.cap_bytes)["fits"]
        if fits and not all(store.find(one.key) for one in (*stages.screens, *stages.rungs)):
            return False
        invalidate_stale(folder, spec)
        outcome = run_cached(spec, _must_be_stored, _must_be_stored)
    except (Damaged, _Missing, OSError):  # run in the ordinary way, the trial alone fails, and says why
        return False
    keep_outcome(folder, spec, outcome)
    return True


class _Missing(Exception):
    """A result that was thought to be stored is not."""


def _must_be_stored(stage: str, spec: Mapping[str, Any]) -> None:
    """The runner of a trial that is only recalled."""
    raise _Missing(stage)


def run_uncached(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> dict[str, Any]:
    """The outcome of a trial that computes all by itself."""
    config, dataset, folder = open_trial(spec)
    first_chunks = chunks_to_screen(spec, config, dataset)
    if not folder.file("train.json").exists():
        train(TRAIN, spec)
    ranks: dict[str, ScreeningRank] = {}
    if pack_trained(config, dataset, folder, ProcessGroup(), counted_code(config))["fits"]:
        for rung in rungs_to_screen(config, first_chunks):
            evaluate(EVALUATE, {**spec, "rungs": [rung], "first_chunks": first_chunks})
            ranks[rung] = apply_screening(spec, folder, rung)
            if not ranks[rung].promoted:
                return screened_out(config, dataset, folder, ranks)
        evaluate(EVALUATE, {**spec, "rungs": rungs_of(config), "code_bytes": len(counted_code(config))})
    return outcome_of(gathered(config, dataset, folder), folder, ranks)


def run_cached(spec: Mapping[str, Any], train: Runner, evaluate: Runner) -> dict[str, Any]:
    """The outcome of a trial that takes what others computed from the store, and publishes what it computes."""
    config, dataset, folder = open_trial(spec)
    first_chunks = chunks_to_screen(spec, config, dataset)
    stages = stages_in_store(spec, config, dataset)
    store = Store(
        spec["store"], budget_bytes=spec.get("budget_bytes"), lease_config=LeaseConfig(**spec.get("patience", {}))
    )
    reuse = CachedStageRunner(store, folder.path, spec["trial"], seconds_of)
    store.pin(stages.needed(lambda key: store.find(key) is not None), spec["trial"])

    def train_from(start: Path | None, keep: Mapping[int, Path]) -> None:
        identity = partial(training_identity, config, dataset)
        link_latest_checkpoint(folder.path, alike(folder.file(PROVENANCE)), start, keep, identity)
        kept = {str(steps): str(place) for steps, place in keep.items()}
        train(TRAIN, {**spec, "start": None if start is None else str(start), "keep": kept})

    def trained(with_weights: bool = False) -> None:
        reuse.train(stages.training, train_from, with_weights)
        folder.file(STATE).unlink(missing_ok=True)  # of a training that another trial went on with

    def pack(wanted: Sequence[StageOutput]) -> None:
        trained(with_weights=True)
        pack_trained(config, dataset, folder, ProcessGroup(), counted_code(config))

    def first(wanted: Sequence[StageOutput]) -> None:
        rungs = [one.name.kind for one in wanted]
        evaluate(EVALUATE, {**spec, "rungs": rungs, "first_chunks": first_chunks})

    def rest(wanted: Sequence[StageOutput]) -> None:
        names = [str(one.name) for one in wanted]
        if {LIVE, AVERAGED} & set(names):
            trained(with_weights=True)
        for screen in stages.screens:
            if screen.name.kind in names:
                reuse.obtain([screen], first, with_weights=True)
        evaluate(EVALUATE, {**spec, "rungs": names, "code_bytes": len(counted_code(config))})

    def stages_in_order() -> dict[str, Any]:
        ranks: dict[str, ScreeningRank] = {}
        trained()
        reuse.obtain([stages.pack], pack, with_weights=True)
        if pack_trained(config, dataset, folder, ProcessGroup(), counted_code(config))["fits"]:
            for one in stages.screens:
                reuse.obtain([one], first)
                rung = one.name.kind
                ranks[rung] = apply_screening(spec, folder, rung)
                if not ranks[rung].promoted:
                    return screened_out(config, dataset, folder, ranks)
            reuse.obtain(stages.rungs, rest)
        return outcome_of(gathered(config, dataset, folder), folder, ranks)

    try:
        outcome = stages_in_order()
    finally:
        store.unpin(spec["trial"])
    outcome["metrics"]["seconds_now"] = sum(reuse.computed.values())
    return outcome | {"keys": stages.keys, "computed": reuse.computed}


def stages_in_store(spec: Mapping[str, Any], config: RunConfig, dataset: Dataset) -> GepaStages:
    """The trial's stages and the keys that they are stored under."""
    chunks, stride = chunks_to_screen(spec, config, dataset), (spec.get("screening") or {}).get("stride")
    return gepa_stages(config, dataset.digest, spec["world"], spec["branches"], chunks, stride)


def chunks_to_screen(spec: Mapping[str, Any], config: RunConfig, dataset: Dataset) -> int | None:
    """Chunks of the stream that trials are screened on; None without screening."""
    screening = SuccessiveHalving(**spec["screening"]) if spec.get("screening") is not None else None
    return first_chunks_of(screening, config, len(dataset.validation) - 1)


def rungs_to_screen(config: RunConfig, first_chunks: int | None) -> list[str]:
    """The rungs whose first chunks decide whether a trial goes on."""
    return [] if first_chunks is None else [rung for rung in rungs_of(config) if rung in SCREENED_RUNGS]


def apply_screening(spec: Mapping[str, Any], folder: RunFolder, rung: str) -> ScreeningRank:
    """Keep this trial's first chunks with those of the sweep's other trials, and compare it with them."""
    chunks = read_json(folder.file(f"{rung}{SCREEN}.json"))["result"]["chunks"]
    screening = SuccessiveHalving(**spec["screening"])
    place = {"rung": rung, "stride": screening.stride if rung == SLIDING else None}
    kept, entry = Ledger(spec["screened"]), {**place, "trial": spec["trial"], "chunks": chunks}
    if not kept.find(**entry):
        kept.append(entry)
    seen = {found["trial"]: found["chunks"] for found in kept.find(**place)}
    return screening_rank(spec["trial"], seen, screening)


def screened_out(
    config: RunConfig, dataset: Dataset, folder: RunFolder, ranks: Mapping[str, ScreeningRank]
) -> dict[str, Any]:
    """The outcome of a trial that does not go on."""
    train = train_stage(config, dataset, folder, ProcessGroup(), ignore)
    packed = pack_trained(config, dataset, folder, ProcessGroup(), counted_code(config))
    outcome = outcome_of({"train": train, "pack": packed, "ladder": []}, folder, ranks)
    for rung in ranks:
        first = read_json(folder.file(f"{rung}{SCREEN}.json"))["result"]
        outcome["metrics"][f"bpb_{rung}{SCREEN}"] = first["bpb"]
        for total in ("seconds", "seconds_now"):
            outcome["metrics"][total] += first["seconds"]
    return outcome | {"status": SCREENED, "cause": f"not promoted after the first chunks of {rung}: {ranks[rung]}"}


def gathered(config: RunConfig, dataset: Dataset, folder: RunFolder) -> dict[str, Any]:
    """All results, each of which is kept in the folder by now; the log, whoever computed its parts, is whole then."""
    log = LogFile(folder.file(LOG_FILE), ProcessGroup())
    return run_stages(
        config, dataset, folder, ProcessGroup(), counted_code(config), ignore, stop_over_cap=True, say=log
    )


def ignore(curve: str, step: int, value: float) -> None:
    """The event of a stage that only reads what is kept."""


def write_log(folder: RunFolder, cause: str, parts: Mapping[str, str]) -> None:
    """Keep the last words of a failure; a disk that does not take them must not hide why."""
    with contextlib.suppress(OSError):
        folder.file(LOG).write_text(log_text(cause, parts))

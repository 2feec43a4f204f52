"""A trial in its own process: its directory made ready, the workload run, its outcome written down whatever happens."""

import contextlib
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import torch

from golf.runtime.files import read_json, write_bytes, write_json
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Preempted
from golf.train.run_log import LOG_FILE, LogFile
from tune.cache.entries import Damaged
from tune.cache.world_history import describe_world_history
from tune.records.entries import Device, Failure, Outcome, Series, TrialState, WorldShape
from tune.workloads.base import StageExecutor, StageFailed, StageRequest, TrialSpec, Workload
from tune.workloads.failures import explain, log_text

CONFIG, POINT = "config.json", "point.json"
"""What the sweep writes into a trial's directory before it begins."""
OUTCOME, SERIES = "outcome.json", "series.npz"
"""What a trial leaves for its sweep."""
STOPPED = "stopped.json"
"""The failure of a stage that would fail again; no further attempt is made."""
STOPPED_EARLY = "stopped_early.txt"
"""Why a stage was stopped because others are ahead; its state is saved, and no further attempt is made."""
FAILURE_LOG = "failure.log"
"""The last lines of what failed."""
PROVENANCE = "provenance.json"
"""Says which code and machines filled the trial's directory."""


def run_trial(workload: Workload, spec: TrialSpec, execute: StageExecutor) -> None:
    """Runs a trial; its outcome is in its directory afterwards.

    Whatever a stage raises becomes the outcome of this trial alone.

    A trial that its sweep asks to end leaves no outcome: the next start of the sweep goes on from its saved state.

    Raises: Preempted when this process's machine is being taken away: the trial is begun again elsewhere.
    """
    if spec.is_stopped:
        return
    use_threads(workload.world)
    for name in (STOPPED, STOPPED_EARLY, FAILURE_LOG, OUTCOME):
        (spec.directory / name).unlink(missing_ok=True)
    try:
        invalidate_stale(workload, spec.directory)
        outcome, series = workload.run_trial(spec, execute)
    except Preempted:
        if spec.is_stopped:
            return
        raise
    except StageFailed as stage:
        outcome, series = failed_outcome(stage.failure, spec.directory), Series()
    except Exception as error:
        failure = explain(error)
        write_failure_log(spec.directory, failure, {"traceback": traceback.format_exc()})
        outcome, series = failed_outcome(failure, spec.directory), Series()
    write_outcome(workload, spec, outcome, series)


def load_trial_from_cache(workload: Workload, spec: TrialSpec) -> bool:
    """Writes the outcome of a trial all of whose results are stored, computing nothing and waiting for nobody.

    Returns: False, and no outcome is written, when a result is missing.
    """
    try:
        invalidate_stale(workload, spec.directory)
        loaded = workload.load_from_cache(spec)
    except (Damaged, ResultMissing, OSError):  # run in the ordinary way, the trial alone fails, and says why
        return False
    if loaded is not None:
        write_outcome(workload, spec, *loaded)
    return loaded is not None


class ResultMissing(Exception):
    """A result that was thought to be stored is not."""


def only_stored(request: StageRequest) -> None:
    """The executor of a trial that computes nothing."""
    raise ResultMissing(request.stage)


def use_threads(world: WorldShape) -> None:
    """Computes with the threads of the trial's CPUs, whatever OMP_NUM_THREADS or MKL_NUM_THREADS of a shell says.

    Their number changes the last bits of sums, and results are shared by a key that holds the trial's own.
    """
    torch.set_num_threads(world.threads)


def invalidate_stale(workload: Workload, directory: Path) -> None:
    """Empties a trial's directory of what other code or machines left there, which would pass for this trial's."""
    world = msgspec.to_builtins(workload.world)
    provenance = {"code": workload.code, "torch": str(torch.__version__), "world": world}
    mark = directory / PROVENANCE
    if mark.exists() and read_json(mark) == provenance:
        return
    for path in directory.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (CONFIG, POINT):
            path.unlink()
    write_json(mark, provenance)


def write_outcome(workload: Workload, spec: TrialSpec, outcome: Outcome, series: Series) -> None:
    """Writes a trial's outcome: its device as it was asked for, and the world history where others computed it."""
    asked = workload.world.ranks
    if outcome.device is not None:
        # The last attempt's number would make two seeds of one study runs on different devices.
        device: Device = msgspec.structs.replace(outcome.device, count=asked)
        history = describe_world_history(spec.directory, asked)
        outcome = msgspec.structs.replace(outcome, device=device, world_history=history)
    if outcome.state != TrialState.DONE:
        with contextlib.suppress(OSError):  # as with `write_failure_log`
            log = LogFile(spec.directory / LOG_FILE, ProcessGroup(), append=True)
            log(f"no result: {outcome.state}, {outcome.reason}")
    if series:
        write_bytes(spec.directory / SERIES, series.encode())
    else:
        (spec.directory / SERIES).unlink(missing_ok=True)
    write_bytes(spec.directory / OUTCOME, msgspec.json.encode(outcome))


def read_outcome(directory: Path) -> tuple[Outcome, Series] | None:
    """Returns what a trial left in its directory; None where it left nothing."""
    path, series = directory / OUTCOME, directory / SERIES
    if not path.exists():
        return None
    outcome = msgspec.json.decode(path.read_bytes(), type=Outcome)
    return outcome, Series.decode(series.read_bytes()) if series.exists() else Series()


def failed_outcome(failure: Failure, directory: Path) -> Outcome:
    """Returns the outcome of a trial that failed, with the log of its failure where there is one."""
    log = directory / FAILURE_LOG
    files = {"log": str(log)} if log.exists() else {}
    return Outcome(state=TrialState.FAILED, reason=str(failure), failure=failure, files=files)


def write_failure_log(directory: Path, failure: Failure, parts: Mapping[str, str]) -> None:
    """Keeps the last lines of a failure; a disk that does not take them must not hide why it failed."""
    with contextlib.suppress(OSError):
        write_bytes(directory / FAILURE_LOG, log_text(failure, parts).encode(errors="replace"))


def device_of(text: str) -> Device:
    """Returns the device that a training's result names, such as "8 x NVIDIA H100"."""
    count, _, name = text.partition(" x ")
    kind: Literal["cuda", "cpu"] = "cpu" if name.endswith("thread(s)") else "cuda"
    return Device(count=int(count), name=name, kind=kind)

"""Preempted trainings, alone and on two ranks: the state is saved, and continuing changes no bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from golf.data.dataset import Dataset, open_dataset
from golf.pipeline.evaluation import measure
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.progress import preemption_signals
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json
from golf.runtime.process_group import ProcessGroup, join
from golf.runtime.results import STATE, CheckpointCost
from golf.runtime.tensors import read_stored
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.hooks import Hooks
from golf.train.loop import Preempted
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[3]
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
CONFIG = replace(TINY, score=replace(TINY.score, chunk_tokens=64))
WEIGHTS = ("live.safetensors", "average.safetensors")


def run_in(path: Path, dataset: Dataset, group: ProcessGroup) -> StageContext:
    """A run in a directory."""
    return StageContext(config=CONFIG, dataset=dataset, directory=RunDirectory(path), group=group)


def at_call(number: int) -> Callable[[], bool]:
    """Returns a preemption check that is true at the call of that number."""
    calls = iter(range(1, 10_000))
    return lambda: next(calls) == number


def test_a_preemption_at_any_step_loses_nothing(data: Path, tmp_path: Path) -> None:
    """Fault: a step, a validation or a snapshot that a stop at this very point loses or makes twice."""
    dataset, keep = open_dataset(data), {4: tmp_path / "kept"}
    run = run_in(tmp_path / "told", dataset, ProcessGroup())
    calm, preempted = RunDirectory(tmp_path / "calm"), run.directory
    train_stage(replace(run, directory=calm), snapshots={4: tmp_path / "calm-kept"})
    stops: list[str] = []
    while not preempted.file("train.json").exists():
        try:
            train_stage(run, Hooks(preemption=at_call(len(stops) + 1)), snapshots=keep)
        except Preempted as stop:
            stops.append(str(stop))
    assert sum("after 4 steps" in stop for stop in stops) > 1, "within the validation, at one chunk after the other"
    for name in WEIGHTS:
        assert preempted.file(name).read_bytes() == calm.file(name).read_bytes()
    tensors, plain = read_stored(tmp_path / "kept" / STATE)
    wanted = read_stored(tmp_path / "calm-kept" / STATE)
    assert plain == wanted[1]
    assert all(tensors[name].equal(tensor) for name, tensor in wanted[0].items())
    for directory in (preempted.path, tmp_path / "kept"):
        curves = read_json(directory / "curves.json")
        assert [point[0] for point in curves["train_loss"]] == list(range(len(curves["train_loss"])))
        assert [point[0] for point in curves["validation_bpb"]] == [4]
    assert not preempted.file(STATE).exists()


def test_the_result_holds_the_cost_of_saving(data: Path, tmp_path: Path) -> None:
    """Fault: saves that are not counted; a state after the last step, which nobody needs."""
    dataset = open_dataset(data)
    saved = train_stage(
        run_in(tmp_path / "a", dataset, ProcessGroup()), Hooks(checkpoint_policy=CheckpointPolicy(seconds=0.0))
    )
    cost = saved.checkpoints
    assert cost.saves == CONFIG.schedule.steps - 1
    assert cost.save_seconds is not None
    assert 0 < cost.save_seconds * cost.saves < saved.seconds
    unsaved = train_stage(
        run_in(tmp_path / "b", dataset, ProcessGroup()), Hooks(checkpoint_policy=CheckpointPolicy(seconds=1e6))
    )
    assert unsaved.checkpoints == CheckpointCost()


def run_to_the_end(run: StageContext, preempted: bool) -> list[object]:
    """Trains and scores, again after each stop; returns the exit codes of the stops.

    Args: preempted: whether SIGTERM comes to the last rank alone, in the second step and in the second chunk.
    """

    def event(curve: str, step: int, value: float) -> None:
        if preempted and run.group.rank == 1 and (curve, step) in (("train_loss", 1), ("ttt_bpb", 1)):
            os.kill(os.getpid(), signal.SIGTERM)

    codes: list[object] = []
    while len(codes) < 5:
        try:
            with preemption_signals(run.group.first) as preemption:
                hooks = Hooks(event=event, preemption=preemption)
                train_stage(run, hooks)
                pack_trained(run, b"")
                measure(run, "ttt", hooks)
                break
        except SystemExit as stop:
            codes.append(stop.code)
    return codes


def rank_main(data: Path, root: Path) -> None:
    """One rank of two."""
    with join() as group:
        for preempted in (False, True):
            codes = run_to_the_end(run_in(root / str(preempted), open_dataset(data), group), preempted)
            (root / f"{preempted}{group.rank}").write_text(str(codes))


@pytest.mark.long
def test_two_ranks_stop_together(data: Path, tmp_path: Path) -> None:
    """Fault: ranks wait for one that ended, or part at a preemption that only one has seen; other bits afterwards."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, str(data), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=ROOT, env=HERE)
    assert done.returncode == 0, done.stderr
    codes = {
        (preempted, rank): (tmp_path / f"{preempted}{rank}").read_text()
        for preempted in (False, True)
        for rank in (0, 1)
    }
    assert codes == {(False, 0): "[]", (False, 1): "[]", (True, 0): "[143, 143]", (True, 1): "[143, 143]"}
    assert done.stderr.count("the same command continues") == 2
    for name in WEIGHTS:
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()
    preempted, calm = (read_json(tmp_path / name / "ttt.json")["result"]["chunks"] for name in ("True", "False"))
    assert preempted == calm


if __name__ == "__main__":
    rank_main(Path(sys.argv[1]), Path(sys.argv[2]))

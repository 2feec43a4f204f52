"""Trials of scripts: what tells one from another, what is run again, and what a run comes to."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from golf.train.loop import Preempted
from tests.tune.workloads.script.trials import WORLD, copied, run, settings_of, workload_of
from tune.records.entries import FailureKind, Objective, TrialState
from tune.workloads.base import StageFailed, TrialSpec
from tune.workloads.script.process import Limits
from tune.workloads.script.settings import parse_constraint
from tune.workloads.script.workload import OUTPUT, RUN_DIRECTORY, ScriptWorkload


class Counted:
    """A script that counts its runs, with a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script = folder, copied("train_counted.py", folder / "work")
        self.num_started = 0

    def workload(self, **changes: Any) -> ScriptWorkload:
        """The script as it is now."""
        fixed = {"env": {"COUNTER": str(self.folder / "counter")}, "arg": {}, "constant": {}}
        return workload_of(settings_of(self.script, fixed=fixed, **changes))

    def run(self, workload: ScriptWorkload, point: dict[str, Any], directory: str | None = None, **more: Any) -> Any:
        """The outcome of a trial in a new directory."""
        self.num_started += 1
        name = directory or f"trial{self.num_started}"
        return run(workload, point, self.folder / name, self.folder / "store", **more)[0]

    @property
    def num_runs(self) -> int:
        """How often the script was executed."""
        path = self.folder / "counter"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """The script in a folder of the test."""
    return Counted(tmp_path)


def test_what_tells_trials_apart(counted: Counted) -> None:
    """Fault: a result stands for another script, setting, data, machine or seed; or the order of settings counts."""
    seen: dict[str, str] = {}

    def see(what: str, workload: ScriptWorkload, point: dict[str, Any]) -> None:
        trial = workload.trial(point)
        (output,) = workload.stages(trial).outputs
        assert output.key not in seen.values(), what
        seen[what] = output.key

    plain = counted.workload()
    see("plain", plain, {"LR": 0.1})
    see("variable", plain, {"LR": 0.2})
    see("another variable", plain, {"LR": 0.1, "MODE": "x"})
    see("constant", plain, {"LR": 0.1, "constant.RATE": 2})
    see("seed", plain, {"LR": 0.1, "SEED": 2})
    see("repeat", plain, {"LR": 0.1, "repeat": 1})
    see("processes", counted.workload(nproc=2), {"LR": 0.1})
    see("launcher", counted.workload(launcher="torchrun"), {"LR": 0.1})
    see("metric", counted.workload(metrics=("x=json:x",)), {"LR": 0.1})
    see("data", replace(plain, data="other"), {"LR": 0.1})
    see("device", replace(plain, world=msgspec.structs.replace(WORLD, device="cuda")), {"LR": 0.1})
    see("threads", replace(plain, world=msgspec.structs.replace(WORLD, threads=2)), {"LR": 0.1})
    see("version", replace(plain, machine={"torch": "0.1"}), {"LR": 0.1})
    (counted.script.parent / "beside.py").write_text("x = 1")
    see("a file beside it", counted.workload(), {"LR": 0.1})
    counted.script.write_text(counted.script.read_text() + "\n")
    see("script", counted.workload(), {"LR": 0.1})
    one, other = plain.trial({"LR": 0.1, "MODE": "x"}), plain.trial({"MODE": "x", "LR": 0.1})
    assert one.trial == other.trial
    given = {"A": "1", "B": "2"}
    first, second = (
        replace(plain, settings=msgspec.structs.replace(plain.settings, fixed={"env": env, "arg": {}, "constant": {}}))
        for env in (given, dict(reversed(given.items())))
    )
    assert first.trial({}).trial == second.trial({}).trial
    with pytest.raises(ValueError, match='unknown field "LRR"'):
        plain.trial({"LRR": 1})


def test_flags_tell_trials_apart(tmp_path: Path) -> None:
    """Fault: a flag is not part of a trial."""
    workload = workload_of(settings_of(copied("train_ranks.py", tmp_path / "work")))
    trials = {workload.trial(point).trial for point in ({}, {"arg.lr": 0.1}, {"arg.lr": 0.2}, {"arg.fast": 1})}
    assert len(trials) == 4


def test_the_same_trial_runs_once(counted: Counted) -> None:
    """Fault: what was run is run again, or comes back from the store changed."""
    workload = counted.workload()
    first = counted.run(workload, {"LR": 0.2})
    again = counted.run(workload, {"LR": 0.2})
    assert counted.num_runs == 1
    assert (first.bpb, first.cold, again.cold, again.computed) == (1.2, True, False, {})
    kept = {"computed", "cold", "files"}
    for name in first.__struct_fields__:
        assert name in kept or getattr(again, name) == getattr(first, name), name
    assert all(Path(path).exists() for path in again.files.values())
    assert sorted(again.files) == ["log", "script"]
    counted.script.write_text(counted.script.read_text() + "\n")
    assert counted.run(counted.workload(), {"LR": 0.2}).computed
    assert counted.num_runs == 2


def test_a_stored_result_under_other_questions(counted: Counted) -> None:
    """Fault: a stored result is judged by the objective or the bounds of the sweep that computed it."""
    counted.run(counted.workload(), {})
    loss = counted.run(counted.workload(objective=Objective(name="val_loss")), {})
    assert (loss.score, loss.unit) == (2.1, "val_loss")
    bounded = counted.run(counted.workload(constraints=(parse_constraint("val_loss<=2"),)), {})
    assert (bounded.state, bounded.bpb) == (TrialState.INFEASIBLE, None)
    unknown = counted.workload(objective=Objective(name="core"))
    with pytest.raises(StageFailed, match="shows no core"):
        counted.run(unknown, {})
    spec = TrialSpec(trial=unknown.trial({}), directory=counted.folder / "x")
    assert unknown.load_from_cache(spec) is None
    assert counted.num_runs == 1


def test_a_failed_trial_runs_again(counted: Counted) -> None:
    """Fault: a failure is stored, or a run that failed finds what it left."""
    workload = counted.workload()
    with pytest.raises(StageFailed, match="ValueError: broken") as failed:
        counted.run(workload, {"MODE": "fail"}, "one")
    assert "again from the start" in str(failed.value)
    assert "ValueError: broken" in (counted.folder / "one" / "failure.log").read_text()
    (counted.folder / "counter.repaired").touch()
    assert counted.run(workload, {"MODE": "fail"}, "one").bpb == 1.1
    assert counted.num_runs == 2


def after(path: Path, steps: int) -> Callable[[], bool]:
    """Whether a run has come so far."""
    return lambda: path.exists() and int(path.read_text() or "0") >= steps


@pytest.mark.parametrize("resumes", [False, True])
def test_a_machine_that_is_taken_away(counted: Counted, resumes: bool) -> None:
    """Fault: a preempted run is a failed one; it goes on although it cannot, or begins anew although it could."""
    workload = counted.workload(resume_argument="--resume" if resumes else None)
    preemption = after(counted.folder / "one" / RUN_DIRECTORY / "state.txt", 5)
    began = time.monotonic()
    with pytest.raises(Preempted, match="being taken away"):
        counted.run(workload, {"MODE": "hang"}, "one", preemption=preemption)
    assert time.monotonic() - began < 5
    (counted.folder / "one" / RUN_DIRECTORY / "left.txt").touch()
    if resumes:
        outcome = counted.run(workload, {"MODE": "hang"}, "one")
        assert outcome.bpb == 1.1
        assert "began:5" in (counted.folder / "one" / OUTPUT).read_text()
        assert (counted.folder / "one" / RUN_DIRECTORY / "left.txt").exists()
    else:
        preemption = after(counted.folder / "one" / RUN_DIRECTORY / "state.txt", 5)
        with pytest.raises(Preempted):
            counted.run(workload, {"MODE": "hang"}, "one", preemption=preemption)
        assert not (counted.folder / "one" / RUN_DIRECTORY / "left.txt").exists()
    assert counted.num_runs == 2


def test_a_score_in_the_scripts_own_log(counted: Counted) -> None:
    """Fault: a point of the curve on the output counts, and the score, which only the log has, does not."""
    for given in ({}, {"RUN_ID": "my[run]"}):
        workload = counted.workload()
        settings = workload.settings
        fixed = {**settings.fixed, "env": {**settings.fixed["env"], **given}}
        workload = replace(workload, settings=msgspec.structs.replace(settings, fixed=fixed))
        outcome = counted.run(workload, {"MODE": "log"})
        assert (outcome.bpb, outcome.label) == (1.5, "final_exact")


def test_curves_and_numbers_of_a_run(tmp_path: Path) -> None:
    """Fault: curves lose points, or the score, bytes, seconds or seed of a run in the published form are not read."""
    workload = workload_of(settings_of(copied("train_gpt.py", tmp_path / "work")))
    outcome, series = run(workload, {"SEED": 7, "MATRIX_LR": 0.026}, tmp_path / "trial")
    assert outcome.label == "final_int8_zlib_roundtrip_exact"
    assert outcome.size is not None
    assert outcome.size.model_bytes == 512 * 20
    assert outcome.size.code_bytes == (tmp_path / "work" / "train_gpt.py").stat().st_size
    assert outcome.metrics["artifact_bytes"] == outcome.metrics["artifact_bytes_on_disk"]
    assert outcome.metrics["parameters"] == 512_000
    assert [step for step, _, _ in series.curves["validation_bpb"]] == [10, 20, 30, 40]
    assert len(series.curves["train_loss"]) == 8
    assert str(outcome.device).startswith("1 x ")
    assert workload.trial({"SEED": 7}).trial != workload.trial({"SEED": 8}).trial
    assert workload.trial({"SEED": 1337}).trial == workload.trial({}).trial, "the default seed is a seed"
    assert workload.describe_progress(workload.trial({}), "val_bpb", 20) == ("step 20", 0.0)
    known = replace(workload, settings=msgspec.structs.replace(workload.settings, steps_variable="ITERATIONS"))
    assert known.describe_progress(known.trial({"ITERATIONS": 40}), "val_bpb", 20) == ("step 20 of 40", 0.5)
    assert known.describe_progress(known.trial({"ITERATIONS": 0}), "val_bpb", 0) == ("step 0", 0.0)


def plain(tmp_path: Path, source: str, **changes: Any) -> ScriptWorkload:
    """The workload of a script of a few lines."""
    (tmp_path / "work").mkdir(exist_ok=True)
    script = tmp_path / "work" / "train.py"
    script.write_text(source)
    return workload_of(settings_of(script, **changes))


def test_a_diverged_run_is_stopped(tmp_path: Path) -> None:
    """Fault: a run with NaN holds its place to the end, or is tried again."""
    lines = "import time\nprint('step:1/9 train_loss:2.0', flush=True)\nprint('step:2/9 train_loss:nan', flush=True)\n"
    began = time.monotonic()
    with pytest.raises(StageFailed) as failed:
        run(plain(tmp_path, f"{lines}time.sleep(60)"), {}, tmp_path / "trial")
    assert time.monotonic() - began < 5
    assert failed.value.failure.kind == FailureKind.DIVERGED
    assert "train_loss is nan at step 2" in failed.value.failure.message


def test_a_run_without_progress_is_stopped(tmp_path: Path) -> None:
    """Fault: a script that says nothing of its score runs for ever; one whose score is in a file is stopped."""
    limits = Limits(no_progress_seconds=0.6, grace_seconds=0.5)
    talks = "import time\nfor turn in range({}): print('working', turn, flush=True); time.sleep(0.05)\n"
    with pytest.raises(StageFailed, match=r"no progress in its output for 0\.6 s"):
        run(plain(tmp_path, talks.format(400), limits=limits), {}, tmp_path / "one")
    file = talks.format(30) + "import json; json.dump({'core': 0.5}, open('metrics.json', 'w'))"
    asked = {"metrics": ("core=file:metrics.json:core",), "objective": Objective(name="core", maximize=True)}
    outcome, _ = run(plain(tmp_path, file, limits=limits, **asked), {}, tmp_path / "two")
    assert outcome.score == 0.5


@pytest.mark.long
def test_a_script_that_prints_points_without_end(tmp_path: Path) -> None:
    """Fault: points of a curve fill the memory, the ledger's files, or lose their end."""
    source = "for n in range(1, 130_001): print(f'step:{n}/130000 train_loss:2.0')\nprint('final val_bpb:1.2')"
    outcome, series = run(plain(tmp_path, source), {}, tmp_path / "trial")
    steps = [step for step, _, _ in series.curves["train_loss"]]
    assert outcome.bpb == 1.2
    assert 10_000 < len(steps) <= 50_000
    assert steps == sorted(steps)
    assert steps[-1] == 130_000


def test_processes_left_behind_are_told(tmp_path: Path) -> None:
    """Fault: nobody learns that a script leaves processes."""
    source = "import os, time\nif os.fork() == 0: time.sleep(60)\nprint('final val_bpb:1.2')"
    outcome, _ = run(plain(tmp_path, source), {}, tmp_path / "trial")
    assert "1 processes that it left behind were ended" in outcome.notes
    status = json.loads((tmp_path / "trial" / "status.json").read_text())
    assert status == {"code": 0, "left_behind": 1}

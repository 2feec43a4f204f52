"""What becomes of a run: every way in which it does not count, its bounds, and what a reader is told."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from golf.scripts.metrics import parse_metric
from golf.scripts.results import results_of
from tests.tune.workloads.script.running import Run
from tests.tune.workloads.script.trials import SCRIPTS, copied, run, settings_of, workload_of
from tune.records.entries import Failure, FailureKind, Objective, TrialState
from tune.workloads.base import StageFailed
from tune.workloads.script.outcome import failure_of, judged_again, outcome_of
from tune.workloads.script.process import Ended
from tune.workloads.script.settings import Constraint, config_of, parse_constraint

SCRIPT = SCRIPTS / "train_gpt.py"
SCORE = ["seed:42", "final val_loss:2.0 val_bpb:1.2"]
BYTES = "Total submission size int8+zlib: {} bytes"
POINT = {"SEED": 42, "MATRIX_LR": 0.026}


def judged(lines: list[str], point: dict[str, Any] | None = None, ended: Ended | None = None, **changes: Any) -> Any:
    """The failure of a run with this output, else its outcome."""
    settings = settings_of(SCRIPT, **changes)
    config = config_of(settings, POINT if point is None else point)
    results = results_of(lines, metrics=[parse_metric(text) for text in settings.metrics])
    failure = failure_of(settings, config, ended or Ended(0, None, 0, tuple(lines)), results)
    return failure or outcome_of(settings, results)


def crash(lines: list[str], code: int | None) -> Failure:
    """The failure of a run that ended badly after this output."""
    failure = judged(lines, ended=Ended(code, None, 0, tuple(lines)))
    assert isinstance(failure, Failure)
    return failure


def bounds(*texts: str) -> tuple[Constraint, ...]:
    """Constraints of the command line."""
    return tuple(map(parse_constraint, texts))


@pytest.mark.parametrize(
    ("lines", "changes", "kind", "says"),
    [
        (["seed:42", "hello"], {}, FailureKind.ERROR, "shows no val_bpb"),
        ([], {}, FailureKind.ERROR, "shows no val_bpb"),
        (["final val_loss:nan val_bpb:nan"], {}, FailureKind.DIVERGED, "val_bpb is nan"),
        (["final val_loss:inf val_bpb:inf"], {}, FailureKind.DIVERGED, "its val_bpb is"),
        (["seed:1337", SCORE[1]], {}, FailureKind.ERROR, "says seed 1337, asked for was 42"),
        (["step:500/1000 val_loss:3.0 val_bpb:1.5"], {}, FailureKind.ERROR, "is of step 500 of 1000"),
        (SCORE, {"objective": Objective(name="core", maximize=True)}, FailureKind.ERROR, "shows no core"),
        (SCORE, {"constraints": bounds("train_seconds<=600")}, FailureKind.ERROR, "shows no train_seconds"),
        (
            [*SCORE, "speed nan"],
            {"constraints": bounds("speed<=600"), "metrics": (r"speed=speed (\S+)",)},
            FailureKind.ERROR,
            "shows no speed",
        ),
    ],
)
def test_runs_that_do_not_count(lines: list[str], changes: dict[str, Any], kind: FailureKind, says: str) -> None:
    """Fault: a run without a score, another run than was asked for, or a part of one passes for a result."""
    failure = judged(lines, **changes)
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert says in failure.message


def dump(**settings: str) -> list[str]:
    """An output with a dump of settings, as scripts print it."""
    return ["Hyperparameters:", *(f"  {name}: {value}" for name, value in settings.items())] + [
        f"  other_{number}: {number}" for number in range(40)
    ]


@pytest.mark.parametrize(
    ("printed", "asked", "same"),
    [
        ("0.026", "0.026", True),
        ("2.6e-2", "0.026", True),
        ("0.0260", "0.026", True),
        ("0.03", "0.026", True),
        ("0.02", "0.026", False),
        ("0.0", "0.026", False),
        ("0", "0.026", False),
        ("26", "0.026", False),
        ("True", "1", True),
        ("False", "1", False),
        ("1_000", "1000", True),
        ("4", "4.25", False),
        ("[1, 2]", "1,2", True),
        ("/abs/data", "data", True),
        ("None", "none", True),
        ("'x'", "x", True),
    ],
)
def test_settings_in_the_dump(printed: str, asked: str, same: bool) -> None:
    """Fault: a setting that the script took otherwise passes, or another form or a rounded print fails every trial."""
    got = judged([*dump(matrix_lr=printed), *SCORE], {"SEED": 42, "MATRIX_LR": asked})
    assert isinstance(got, Failure) != same
    if not same:
        assert got.message == f"its output says matrix_lr: {printed}, asked for was {asked}"


PYTHON = ["Traceback (most recent call last):", '  File "t.py", line 5, in <module>', "    f()"]
PEER = "torch.distributed.DistBackendError: NCCL error: remote process exited, Connection closed by peer"


@pytest.mark.parametrize(
    ("lines", "code", "kind", "says"),
    [
        ([*PYTHON, "ValueError: layer 3"], 1, FailureKind.ERROR, "ValueError: layer 3 (exit status 1)"),
        ([*PYTHON, "KeyError: 'x'", "", "During ...:", *PYTHON, "OSError: y"], 1, FailureKind.ERROR, "OSError: y"),
        (
            [*PYTHON, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "GPU 0 has ..."],
            1,
            FailureKind.OUT_OF_MEMORY,
            "CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        (
            [f"[rank1]: {line}" for line in [*PYTHON, "ValueError: layer 3"]]
            + [f"[rank0]: {line}" for line in [*PYTHON, PEER]],
            1,
            FailureKind.ERROR,
            "ValueError: layer 3",
        ),
        ([*PYTHON, PEER], 1, FailureKind.LOST_PEER, "Connection closed by peer"),
        (["ImportError: no flash", "step 1", *PYTHON, PEER], 1, FailureKind.LOST_PEER, "Connection closed by peer"),
        (["ImportError: no flash", "step 1", *PYTHON, "KeyError: 5"], 1, FailureKind.ERROR, "KeyError: 5"),
        (["no data in /x"], 3, FailureKind.ERROR, "no data in /x (exit status 3)"),
        ([], 3, FailureKind.ERROR, "it wrote no error (exit status 3)"),
        (["step 1"], -9, FailureKind.KILLED, "ended by SIGKILL (its last words: step 1)"),
        ([], -11, FailureKind.KILLED, "ended by SIGSEGV (without a word)"),
        ([], -64, FailureKind.KILLED, "ended by"),
        (["ImportError: no flash, slow attention"], -9, FailureKind.KILLED, "ended by SIGKILL"),
        (SCORE, 1, FailureKind.ERROR, "(exit status 1)"),
        (SCORE, None, FailureKind.ERROR, "its end is not known"),
        (["FileNotFoundError: no such; the command is mpirun"], 127, FailureKind.ERROR, "the command is mpirun"),
    ],
)
def test_crashes(lines: list[str], code: int | None, kind: FailureKind, says: str) -> None:
    """Fault: an echo, a warning or a report passes for the cause; a signal is told as an error of the script."""
    failure = crash(lines, code)
    assert says in failure.message
    assert failure.kind == kind
    assert failure.remedy


@pytest.mark.parametrize(
    ("mode", "kind", "says"),
    [
        ("raise", FailureKind.ERROR, "ValueError: layer 3 is wrong (exit status 1)"),
        pytest.param("kill", FailureKind.KILLED, "a process of it was ended by SIGKILL", marks=pytest.mark.long),
    ],
)
def test_torchruns_own_report(tmp_path: Path, mode: str, kind: FailureKind, says: str) -> None:
    """Fault: of a rank that failed the sweep tells "ChildFailedError", or a line of equals signs."""
    settings = settings_of(copied("train_ranks.py", tmp_path / "work"), launcher="torchrun", nproc=2)
    with pytest.raises(StageFailed) as failed:
        run(workload_of(settings), {"MODE": mode}, tmp_path / "trial")
    assert failed.value.failure.kind == kind
    assert failed.value.failure.message.startswith(says)
    assert "the end of its output" in (tmp_path / "trial" / "failure.log").read_text()


def test_a_real_crash_in_compiled_code(tmp_path: Path) -> None:
    """Fault: a crash without a traceback has no cause."""
    ended = Run(tmp_path)("import ctypes; print('step 1', flush=True); ctypes.string_at(0)")
    assert "ended by SIGSEGV (its last words: step 1)" in crash(list(ended.lines), ended.code).message


@pytest.mark.parametrize(("num_bytes", "over"), [(16_000_000, None), (16_000_001, 1), (17_500_000, 1_500_000)])
def test_the_cap(num_bytes: int, over: int | None) -> None:
    """Fault: an artifact over the cap wins, or one at the cap does not."""
    outcome = judged([*SCORE, BYTES.format(num_bytes)])
    assert outcome.size.artifact_bytes == num_bytes
    assert outcome.state == (TrialState.DONE if over is None else TrialState.INFEASIBLE)
    assert outcome.reason == (None if over is None else f"over the cap by {over:,} bytes")
    assert outcome.score == (1.2 if over is None else None)
    assert outcome.metrics["val_bpb"] == 1.2
    assert math.isclose(outcome.excess, 0 if over is None else over / num_bytes)
    assert not outcome.violations


@pytest.mark.parametrize(
    ("texts", "violated"),
    [
        (["train_seconds<=600"], {}),
        (["train_seconds<=599.5"], {"train_seconds<=599.5": 0.5 / 599.5}),
        (["steps>=7000"], {}),
        (["steps>=8000", "train_seconds<=300"], {"steps>=8000": 1 / 8, "train_seconds<=300": 1.0}),
        (["artifact_bytes<=100"], None),
    ],
)
def test_other_bounds(texts: list[str], violated: dict[str, float] | None) -> None:
    """Fault: a bound counts the wrong way round, or a run beyond one has a score."""
    lines = [*SCORE, BYTES.format(150), "stopping_early: wallclock_cap train_time: 600000ms step: 7000/20000"]
    outcome = judged(lines, constraints=bounds(*texts))
    if violated is None:
        assert (outcome.reason, outcome.size.cap_bytes) == ("over the cap by 50 bytes", 100)
        return
    assert outcome.violations == pytest.approx(violated)
    assert (outcome.score is None) == bool(violated)
    assert all(text in (outcome.reason or "") for text in violated)


def test_a_script_without_bytes(tmp_path: Path) -> None:
    """Fault: a script that makes no artifact fails for the cap, or nobody is told that it was not held to it."""
    outcome = judged(SCORE)
    assert (outcome.state, outcome.bpb, outcome.size) == (TrialState.DONE, 1.2, None)
    assert outcome.notes == ("it does not say its bytes: not held to artifact_bytes<=16000000",)
    assert judged(SCORE, constraints=()).notes == ()


def test_output_and_files_that_differ(tmp_path: Path) -> None:
    """Fault: a script says fewer bytes than it writes, and nobody is told."""
    (tmp_path / "final_model.int8.ptz").write_bytes(b"x" * 500)
    settings = settings_of(SCRIPT)
    lines = [*SCORE, "Serialized model int8+zlib: 400 bytes", BYTES.format(450)]
    outcome = outcome_of(settings, results_of(lines, tmp_path, 50))
    assert outcome.metrics["artifact_bytes_on_disk"] == 550
    assert outcome.size is not None
    assert outcome.size.artifact_bytes == 450
    assert any("450 bytes in all" in note and "550" in note for note in outcome.notes)


def test_other_objectives() -> None:
    """Fault: another metric counts, or in the wrong direction."""
    loss = judged(SCORE, objective=Objective(name="val_loss"))
    assert (loss.score, loss.loss, loss.unit) == (2.0, 2.0, "val_loss")
    core = judged(
        ['{"core": 0.25}', '{"core": 0.31}'],
        objective=Objective(name="core", maximize=True),
        metrics=("core=json:core",),
        constraints=(),
    )
    assert (core.score, core.loss, core.unit) == (0.31, -0.31, "core")


def test_a_stored_result_is_judged_by_what_is_asked_now() -> None:
    """Fault: under another objective or bound a stored result keeps the verdict of an earlier sweep."""
    settings = settings_of(SCRIPT)
    config = config_of(settings, POINT)
    stored = judged([*SCORE, BYTES.format(17_000_000)])
    assert judged_again(settings, config, stored) == stored
    free = judged_again(msgspec.structs.replace(settings, constraints=()), config, stored)
    assert not isinstance(free, Failure)
    assert (free.state, free.bpb, free.reason) == (TrialState.DONE, 1.2, None)
    loss = judged_again(settings_of(SCRIPT, constraints=(), objective=Objective(name="val_loss")), config, free)
    assert not isinstance(loss, Failure)
    assert loss.score == 2.0
    bounded = judged_again(msgspec.structs.replace(settings, constraints=bounds("val_loss<=1")), config, stored)
    assert not isinstance(bounded, Failure)
    assert bounded.state == TrialState.INFEASIBLE
    unknown = judged_again(msgspec.structs.replace(settings, constraints=bounds("speed<=1")), config, stored)
    assert isinstance(unknown, Failure)
    none = judged(SCORE)
    assert judged_again(settings, config, none) == none, "a note is doubled"

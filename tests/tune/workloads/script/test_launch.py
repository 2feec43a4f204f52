"""How trials are started: what reaches the script of this process's environment, and by which words."""

import os
import shlex
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from golf.train.loop import Preempted
from tests.planted_secrets import SECRETS
from tests.tune.workloads.script.running import marked
from tests.tune.workloads.script.trials import copied, run, settings_of, workload_of
from tune.workloads.script.launch import command_of, environment_of, make_directory
from tune.workloads.script.settings import ScriptSettings
from tune.workloads.script.workload import OUTPUT, RUN_DIRECTORY

PRINTS = """
import os
for name, value in sorted(os.environ.items()):
    print(f"{name}={value}")
print("final val_bpb:1.5")
"""
OTHERS = {
    "NCCL_TOKEN": "sixteen-letters-x",
    "UCX_PRIVATE_KEY": "sixteen-letters-y",
    "NCCL_DEBUG": "INFO",
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": "/somewhere",
    "WANDB_API_KEY": "sixteen-letters-z",
    "UNRELATED": "unrelated-value",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "CUDA_VISIBLE_DEVICES": "3,5",
}


@pytest.fixture
def ranks(tmp_path: Path) -> ScriptSettings:
    """The settings of a script for several processes."""
    return settings_of(copied("train_ranks.py", tmp_path / "work"))


def said(directory: Path) -> list[str]:
    """The output of a trial."""
    return (directory / OUTPUT).read_text().splitlines()


def test_no_secret_reaches_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: anybody's script can read the credentials of the sweep; or it finds neither its programs nor its GPUs."""
    for name, value in {**SECRETS, **OTHERS}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    script = tmp_path / "work" / "train.py"
    script.write_text(PRINTS)
    settings = settings_of(script, passed=("UNRELATED", "NOT_THERE"), places={"env.X": ("env", "X")})
    run(workload_of(settings), {"env.X": "1 a=b"}, tmp_path / "trial")
    output = said(tmp_path / "trial")
    values = {**SECRETS, **OTHERS}
    shown = {name for name, value in values.items() if any(value in line for line in output)}
    assert shown == {"NCCL_DEBUG", "LC_ALL", "UNRELATED", "CUDA_VISIBLE_DEVICES"}
    got = dict(line.split("=", 1) for line in output if "=" in line)
    assert got["X"] == "1 a=b"
    assert got["PATH"] == os.environ["PATH"]
    assert got["RUN_ID"] == workload_of(settings).trial({"env.X": "1 a=b"}).trial
    assert not Path(got["TMPDIR"]).exists(), "its temporary directory is left"


def test_given_variables_win(ranks: ScriptSettings, tmp_path: Path) -> None:
    """Fault: a variable that the user gave is replaced by ours."""
    given = {"OMP_NUM_THREADS": "7", "RUN_ID": "mine", "PATH": "/bin", "MASTER_PORT": "1"}
    made = environment_of(ranks, given, "ours", tmp_path, 2)
    assert given.items() <= made.items()
    assert environment_of(ranks, {}, "ours", tmp_path, 2)["OMP_NUM_THREADS"] == "2"
    ports = {environment_of(ranks, {}, "ours", tmp_path, 2)["MASTER_PORT"] for _ in range(3)}
    assert len(ports) > 1, "trials beside each other meet at one port"


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ({}, {}, "python -u train_ranks.py"),
        ({}, {"lr": "0.1", "fast": "1"}, "python -u train_ranks.py --lr 0.1 --fast"),
        ({}, {"fast": "0", "name": "-x"}, "python -u train_ranks.py --name=-x"),
        (
            {"launcher": "torchrun", "nproc": 4},
            {"lr": "1"},
            "python -m torch.distributed.run --standalone --nproc_per_node=4 train_ranks.py --lr 1",
        ),
        ({"launcher": "mpirun -n {nproc} x {script}"}, {"lr": "1"}, "mpirun -n 1 x train_ranks.py --lr 1"),
        ({"launcher": "x {args} -- {script}"}, {"lr": "1"}, "x --lr 1 -- train_ranks.py"),
        (
            {"launcher": "sh -c 'a && b {script} {args}'"},
            {"name": "two words"},
            shlex.join(["sh", "-c", "a && b train_ranks.py --name 'two words'"]),
        ),
    ],
)
def test_commands(ranks: ScriptSettings, changes: dict[str, str], arguments: dict[str, str], expected: str) -> None:
    """Fault: a flag is lost, a switch gets a value, words of a launcher stay as they are."""
    command = command_of(msgspec.structs.replace(ranks, **changes), arguments)
    assert shlex.join(command).replace(sys.executable, "python") == expected


def test_words_of_a_resume(tmp_path: Path) -> None:
    """Fault: an interrupted run that can go on begins anew, or a new one is told to go on."""
    settings = settings_of(copied("train_ranks.py", tmp_path / "work"), resume_argument="--resume 'last one'")
    assert command_of(settings, {}, resumes=True)[-2:] == ["--resume", "last one"]
    assert command_of(settings, {})[-1] == "train_ranks.py"


def test_flags_and_constants_reach_the_script(ranks: ScriptSettings, tmp_path: Path) -> None:
    """Fault: a searched flag or constant has no effect; the constant is changed in the user's own file."""
    point = {"arg.lr": -0.5, "arg.fast": 1, "arg.name": "--x y", "constant.WIDTH": 384, "constant.NAME": 'it\'s "x"'}
    before = Path(ranks.files.folder, "train_ranks.py").read_bytes()
    run(workload_of(ranks), point, tmp_path / "trial")
    output = said(tmp_path / "trial")
    assert "lr:-0.5 name:--x y fast:True resume:False" in output
    assert 'WIDTH:384 RATE:0.5 NAME:it\'s "x"' in output
    assert Path(ranks.files.folder, "train_ranks.py").read_bytes() == before
    kept = (tmp_path / "trial" / "train_ranks.py").read_bytes()
    assert kept == (tmp_path / "trial" / RUN_DIRECTORY / "train_ranks.py").read_bytes()
    assert b"WIDTH = 384" in kept


def test_a_working_directory_is_whole(ranks: ScriptSettings, tmp_path: Path) -> None:
    """Fault: what a killed start left of a directory passes for one, and a resume runs in it."""
    own = tmp_path / RUN_DIRECTORY
    (tmp_path / f"{RUN_DIRECTORY}.new").mkdir()
    (tmp_path / f"{RUN_DIRECTORY}.new" / "part").touch()
    make_directory(ranks, {}, own)
    assert [path.name for path in own.iterdir()] == ["train_ranks.py"]
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == [RUN_DIRECTORY]


def test_torchrun_with_two_processes(tmp_path: Path) -> None:
    """Fault: the processes of a trial do not come up, or do not know their ranks."""
    settings = settings_of(copied("train_ranks.py", tmp_path / "work"), launcher="torchrun", nproc=2)
    outcome, _ = run(workload_of(settings), {"arg.lr": 0.1}, tmp_path / "trial")
    assert outcome.bpb == 1.2
    assert [line for line in said(tmp_path / "trial") if line.startswith("rank:")] == [
        "rank:0/2 local:0",
        "rank:1/2 local:1",
    ]


@pytest.mark.long
def test_two_launchers_of_ones_own_at_once(tmp_path: Path) -> None:
    """Fault: two trials that start torchrun without --standalone meet at its one port, and one of them fails."""
    launcher = f"{sys.executable} -m torch.distributed.run --nproc_per_node={{nproc}} {{script}}"
    settings = settings_of(copied("train_ranks.py", tmp_path / "work"), launcher=launcher, nproc=2)
    scores: list[float | None] = []
    threads = [
        threading.Thread(
            target=lambda lr=lr: scores.append(run(workload_of(settings), {"arg.lr": lr}, tmp_path / str(lr))[0].bpb)
        )
        for lr in (0.1, 0.2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(score or 0.0 for score in scores) == [1.2, 1.3]


@pytest.mark.long
def test_a_stopped_torchrun_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: torchrun takes the ranks' grace of half a minute to end, or leaves ranks on their GPUs."""
    monkeypatch.setenv("MARK", mark := f"torchrun-{time.time()}")
    script = copied("train_ranks.py", tmp_path / "work")
    settings = settings_of(script, launcher="torchrun", nproc=2, passed=("MARK",))
    own, seen = tmp_path / "trial" / RUN_DIRECTORY, list[float]()

    def both_began() -> bool:
        if (own / "rank0").exists() and (own / "rank1").exists():
            assert len(marked(mark)) >= 4
            seen.append(time.monotonic())
        return bool(seen)

    with pytest.raises(Preempted):
        run(workload_of(settings), {"MODE": "hang"}, tmp_path / "trial", preemption=both_began)
    assert not marked(mark)
    assert time.monotonic() - seen[0] < 4

"""Sweeps and seed studies of somebody's training script: killed and continued, failing in every way, published."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from scipy import stats

from golf.cli.main import main as golf
from tests.commands import read_until, start
from tests.planted_secrets import SECRETS, leaks
from tune.cli.main import seeds, sweep
from tune.records.entries import TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.report.document import write_report
from tune.tracking.addresses import default_uri

SCRIPT = Path(__file__).parent / "tune" / "workloads" / "script" / "scripts" / "train_gpt.py"
WAYS = """
import os, random, subprocess, sys, time
from pathlib import Path
way = os.environ.get("WAY", "good")
seed = int(os.environ.get("SEED", 7))
with open(os.environ["COUNT"], "a") as file:
    file.write(f"{way} {seed}\\n")
print(f"seed:{seed + (way == 'other seed')}")
print(f"step:1/9 val_loss:{'nan' if way == 'nan' else 2.0} val_bpb:1.2", flush=True)
if way == "crash":
    raise RuntimeError("the optimiser has no such group")
if way == "hang":
    subprocess.Popen(["sleep", "973"], start_new_session=True)
    time.sleep(973)
if way == "fork":
    subprocess.Popen(["sleep", "974"], start_new_session=True)
time.sleep(float(os.environ.get("SECONDS", 0)))
print(f"Total submission size int8: {17_000_000 if way == 'large' else 15_000_000} bytes")
if way != "no score":
    print(f"final_exact val_loss:2.0 val_bpb:{1.1 + seed / 1000 + len(way) / 10000}")
print("accuracy", 0.5 + len(way) / 100)
print(sorted(os.environ))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that ends as WAY says, and counts its runs in the file COUNT."""
    path = tmp_path / "ways" / "train.py"
    path.parent.mkdir()
    path.write_text(WAYS)
    return path


def processes_with(text: str) -> list[str]:
    """Returns the command lines of processes that hold a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def gone(text: str, seconds: float = 20.0) -> bool:
    """Returns whether all processes that hold a text end within so many seconds."""
    deadline = time.monotonic() + seconds
    while processes_with(text) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not processes_with(text)


@pytest.mark.long
def test_a_killed_sweep_goes_on(cluster: str, script: Path, tmp_path: Path) -> None:
    """Fault: what was finished runs again, a script outlives its driver, or a secret reaches it."""
    storage, count = Storage(tmp_path / "storage"), tmp_path / "count"
    words = [str(script), "--env", f"COUNT={count}", "SECONDS=1.5", "--space", "SEED=1,2,3,4", "--search", "grid"]
    words += ["--allow-unknown-env", "SECONDS", "--storage", str(storage.root), "--trust", "--concurrent", "1"]
    words += ["--address", cluster]
    killed = start("run_sweep.py", words, SECRETS)
    output = read_until(killed, lambda line: " finished " in line)
    output += read_until(killed, lambda line: " started " in line)
    killed.kill()
    killed.communicate(timeout=60)
    [first] = Ledger(storage.ledger).latest("train")
    assert gone(str(storage.root / "sweeps"))
    last = start("run_sweep.py", words, SECRETS)
    told = last.communicate(timeout=300)[0]
    assert last.returncode == 0, told
    entries = Ledger(storage.ledger).latest("train")
    assert [entry.state for entry in entries] == ["done"] * 4
    assert first in entries
    runs = count.read_text().splitlines()
    assert runs.count(f"good {first.seed}") == 1
    assert {f"good {seed}" for seed in (1, 2, 3, 4)} == set(runs)
    assert len(runs) <= 5  # the one that was cut off began anew
    assert {entry.seed: entry.bpb for entry in entries} == {
        seed: pytest.approx(1.1 + seed / 1000 + 4 / 10000) for seed in (1, 2, 3, 4)
    }
    assert leaks(tmp_path, *output, told) == []
    client = MlflowClient(default_uri(storage.root))
    shown = client.search_runs([client.get_experiment_by_name("train").experiment_id])
    shown = [run for run in shown if run.data.tags["kind"] == "trial"]
    assert {run.data.tags["trial"] for run in shown} == {entry.trial for entry in entries}
    assert all(run.data.metrics["bpb"] and run.info.status == "FINISHED" for run in shown)


@pytest.mark.long
def test_every_way_to_fail(cluster: str, script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Fault: a run that does not count counts, its cause is not told, the sweep ends, or a process is left behind."""
    storage, ways = (
        Storage(tmp_path / "storage"),
        ["good", "nan", "crash", "no score", "other seed", "hang", "fork", "large"],
    )
    words = [
        str(script),
        "--env",
        f"COUNT={tmp_path / 'count'}",
        "--space",
        f"WAY={','.join(ways)}",
        "--search",
        "grid",
    ]
    words += ["--storage", str(storage.root), "--trust", "--no-progress-seconds", "4", "--address", cluster]
    ended = start("run_sweep.py", words)
    told = ended.communicate(timeout=300)[0]
    assert ended.returncode == 0, told
    entries = {entry.parameters["WAY"]: entry for entry in Ledger(storage.ledger).latest("train")}
    assert entries.keys() == set(ways)
    reasons = {
        "nan": "val_loss is nan at step 1",
        "crash": "the optimiser has no such group",
        "no score": "its last val_bpb is of step 1 of 9",
        "other seed": "says seed 8, asked for was 7",
        "hang": "no progress in its output for 4 s",
        "large": "over the cap by 1,000,000 bytes",
    }
    for way, reason in reasons.items():
        assert reason in str(entries[way].reason), entries[way]
        assert reason in told
    failed = {way for way, entry in entries.items() if entry.state == TrialState.FAILED}
    assert failed == {"nan", "crash", "no score", "other seed", "hang"}
    assert entries["large"].state == TrialState.INFEASIBLE
    assert entries["good"].done
    assert entries["fork"].done
    assert any("left behind" in note for note in entries["fork"].notes)
    assert gone("sleep 973")
    assert gone("sleep 974")
    html, *_ = write_report(storage, "train")
    text = html.read_text()
    assert all(reason in text for reason in ("is of step 1 of 9", "asked for was 7"))


@pytest.mark.long
def test_a_study_of_a_script_is_published(cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a number of the record folder that is not the runs', or a folder that its own check refuses."""
    storage, script = Storage(tmp_path / "storage"), tmp_path / "own" / "train_gpt.py"
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    words = [str(script), "--env", "MATRIX_LR=0.026", "ITERATIONS=20", "--seeds", "42", "314", "999"]
    words += ["--storage", str(storage.root), "--trust", "--baseline", "1.25", "1.2502", "1.2499"]
    ended = start("run_seeds.py", [*words, "--address", cluster])
    told = ended.communicate(timeout=200)[0]
    assert ended.returncode == 0, told
    name = "train_gpt-ITERATIONS=20-MATRIX_LR=0.026-seeds"
    entries = Ledger(storage.ledger).latest(name)
    values = [entry.bpb for entry in entries if entry.bpb is not None]
    [verdict] = Ledger(storage.ledger).verdicts(name)
    comparison = verdict.verdict.comparison
    assert comparison is not None
    shifted = [value + 0.005 / 1.7 for value in values]  # 1.7 nats per token are 1 BPB there
    test = stats.ttest_ind([1.25, 1.2502, 1.2499], shifted, equal_var=False, alternative="greater")
    assert comparison.gain_nats.p == pytest.approx(test.pvalue, rel=1e-3)
    assert "is shown at p < 0.01" in told
    out = tmp_path / "records"
    submit = ["submit", str(storage.study(name)), "--author", "A Person", "--github-id", "person", "--name", "Own"]
    assert golf([*submit, "--out", str(out)]) == 0
    [folder] = out.glob("*/*")
    values_of = json.loads((folder / "submission.json").read_text())
    assert values_of["val_bpb"] == pytest.approx(sum(values) / 3)
    assert (folder / "train_gpt.py").read_bytes() == script.read_bytes()
    capsys.readouterr()
    assert golf(["check", str(folder)]) == 0
    assert re.search(r"\d+ passed, 0 failed", capsys.readouterr().out)
    again = start("run_seeds.py", [*words, "--address", cluster])
    assert again.communicate(timeout=100)[0].count(" started ") == 0
    assert again.returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.py", "--space", "A=1"], "there is no script"),
        (["train.py"], "give what is searched"),
        (["train.py", "--space", "WYA=1,2"], 'no environment variable "WYA"; did you mean "WAY"'),
        (["train.py", "--space", "WAY=a", "--env", "WAY=b"], "both searched and fixed"),
        (["train.py", "--space", "arg.way=a"], 'no flag "way"'),
        (["train.py", "--space", "SEED=1..5"], "give int:1..5"),
        (["train.py", "--space", "SEED=one,2"], "SEED is a whole number in the script, got 'one'"),
        (["train.py", "--space", "WAY=a", "--fixed-steps", "10"], "ITERATIONS, which the script does not read"),
        (["train.py", "--space", "WAY=a", "--metric", "x=("], "is no regular expression"),
        (["train.py", "--space", "WAY=a", "--constraint", "bytes"], "NAME<=X or NAME>=X"),
        (["train.py", "--space", "WAY=a", "--objective", "x:most"], "NAME or NAME:max"),
        (["train.py", "--space", "WAY=a"], "--trust runs it"),
        (["gpu.py", "--space", "LR=1"], "demands a CUDA GPU"),
        (["broken.py", "--space", "A=1"], "is no Python"),
        (["nothing.toml"], "No such file"),
        (["no_script.toml"], 'or script = "train_gpt.py"'),
        (["table.toml"], "unknown table [envs]; did you mean"),
    ],
)
def test_what_cannot_run_is_told(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Fault: a trace, or Ray started, for what the words already show."""
    monkeypatch.chdir(script.parent)
    Path("gpu.py").write_text(
        "import os, torch\nlr = float(os.environ.get('LR', 1))\nassert torch.cuda.is_available()\n"
    )
    Path("broken.py").write_text("def f(:\n")
    Path("no_script.toml").write_text("trials = 3\n")
    Path("table.toml").write_text('script = "train.py"\n[envs]\nA = 1\n')
    assert sweep(words) == 2
    assert told in capsys.readouterr().err
    assert not Path("storage").exists()


def test_a_file_is_the_same_command(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a key of the file is lost, or its lists and tables mean something else than the options."""
    monkeypatch.chdir(script.parent.parent)
    lines = ['script = "ways/train.py"', 'search = "grid"', 'constraint = ["artifact_bytes<=5", "accuracy>=0.5"]']
    lines += ["[env]", 'COUNT = "count"', "[space]", 'WAY = ["good", "large"]', 'SEED = "int:1..3"']
    Path("script.toml").write_text("\n".join(lines))
    assert sweep(["script.toml", "--dry-run"]) == 0
    by_file = capsys.readouterr().out
    words = [
        "ways/train.py",
        "--search",
        "grid",
        "--constraint",
        "artifact_bytes<=5",
        "accuracy>=0.5",
        "--env",
        "COUNT=count",
    ]
    assert sweep([*words, "--space", "WAY=good,large", "SEED=int:1..3", "--dry-run"]) == 0
    assert capsys.readouterr().out == by_file
    assert "6 trials" in by_file


def test_a_script_without_a_seed_has_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: three runs of one seed pass for three seeds."""
    script = tmp_path / "plain.py"
    script.write_text("import os\nlr = os.environ.get('LR', '1')\nprint('val_bpb:1.0')\n")
    assert seeds([str(script), "--storage", str(tmp_path / "storage")]) == 2
    assert "reads no seed" in capsys.readouterr().err

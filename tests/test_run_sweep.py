"""The command itself: killed, interrupted and started again, it loses nothing and repeats nothing."""

import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from golf.config.config import RunConfig, to_plain
from golf.data.dataset import open_dataset
from golf.runtime.files import write_json
from tests.commands import read_until, start
from tests.planted_secrets import PASSWORD, QUERY, SECRETS, leaks
from tests.tune.entries import entry_of
from tune.cli.main import sweep as main
from tune.cli.report import report_at_end
from tune.records.entries import Failure, FailureKind, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.provenance import versions
from tune.tracking.addresses import default_uri
from tune.tracking.tracker import sync
from tune.workloads.gepa.space import make_trial
from tune.workloads.gepa.stages import code_digest

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's tables
TIMED = re.compile(r"\d\d:\d\d:\d\d  (sweep|started|finished|over the cap| {21}a save of its state|\d+ of \d+ trials)")
OTHER = re.compile(
    r"|tiny: importing PyTorch and what else is needed"
    r"|trial .*|[0-9a-f]{6}  (finished|over the cap) .*"
    r"|is it luck\? .*|best: .*|its files: .*|every number: .*|report: .*|in a browser: .*|stopped: .*"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder; the built-in corpus is made once."""
    return tmp_path_factory.mktemp("storage")


@pytest.mark.parametrize("interrupt", [False, pytest.param(True, marks=pytest.mark.long)])
def test_killed_interrupted_and_continued(
    cluster: str, tiny: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: bool
) -> None:
    """Fault: a finished trial lost or run again, a second MLflow run for one trial, noise on the screen; a byte of a
    secret of the environment or of MLflow's address in the storage, in MLflow or on the screen; or the shell's working
    folder taken for a secret, so that MLflow gets no files."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    storage = Storage(tmp_path / "storage")
    arguments = [str(tmp_path / "tiny.json"), "--data", str(data), "--storage", str(storage.root), "--search", "grid"]
    arguments += ["--space", "seed=1,2", "split=int4", "--concurrent", "1", "--no-screening", "--address", cluster]
    shell = SECRETS | {"PWD": str(tmp_path), "OLDPWD": str(tmp_path.parent), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    killed = start("run_sweep.py", arguments, shell)
    output = read_until(killed, lambda line: " finished " in line)
    killed.kill()
    killed.communicate(timeout=60)
    [first] = Ledger(storage.ledger).latest("tiny")

    if interrupt:
        interrupted = start("run_sweep.py", arguments, shell)
        output += read_until(interrupted, lambda line: " started " in line)
        interrupted.send_signal(signal.SIGINT)
        rest = interrupted.communicate(timeout=120)[0]
        output += [rest]
        assert interrupted.returncode == 130
        assert "stopping: saving 1 running trial (Ctrl-C again ends at once)" in rest
        assert "the same command continues" in rest
        assert "Traceback" not in rest

    with socket.socket() as taken:  # bound and deaf: nobody answers there
        taken.bind(("127.0.0.1", 0))
        address = f"http://sweeper:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/?access_token={QUERY}"
        last = start("run_sweep.py", [*arguments, "--tracking-uri", address], shell)
        told = last.communicate(timeout=300)[0]
    output += [told]
    assert last.returncode == 0, told
    assert "***@127.0.0.1" in told
    lines, _, forecast = told.partition("every number: ")
    assert "forecast" in forecast
    assert [line for line in lines.splitlines() if not (TIMED.match(line) or OTHER.fullmatch(line))] == []
    ledger = Ledger(storage.ledger)
    entries = ledger.latest("tiny")
    assert [entry.state for entry in entries] == ["done"] * 2
    assert len((storage.ledger).read_text().splitlines()) == 2
    assert first in entries
    for entry in entries:
        place = f"sweeps/tiny/trials/{entry.trial}"
        assert entry.files == {"artifact": f"{place}/artifact.golf", "config": f"{place}/config.json"}

    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    assert sync(entries, default_uri(storage.root), "tiny").problem is None
    report_at_end(storage, "tiny", default_uri(storage.root), "tiny")
    check_runs(storage, entries)
    assert leaks(tmp_path, *output) == []


def check_runs(storage: Storage, entries: Sequence[TrialEntry]) -> None:
    """Asserts that MLflow has one run for each entry of the sweep "tiny", with its numbers, curves and files."""
    client = MlflowClient(default_uri(storage.root))
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    by_trial = {run.data.tags["trial"]: run for run in runs if run.data.tags["kind"] == "trial"}
    (parent,) = (run for run in runs if run.data.tags["kind"] == "sweep")
    assert len(runs) == 3
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "report")} >= {"report/report.html"}
    assert client.get_model_version_by_alias("tiny", "best").run_id in {run.info.run_id for run in runs}
    for entry in entries:
        run = by_trial[entry.trial]
        assert run.info.status == "FINISHED"
        assert (run.data.tags["state"], run.data.tags["mlflow.user"]) == ("finished", entry.tags["user"])
        assert run.data.metrics["bpb"] == entry.bpb
        assert "files_missing" not in run.data.tags
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == [
            "artifact.golf",
            "config.json",
            "log.txt",
        ]
        history = client.get_metric_history(run.info.run_id, "loss/train")
        assert sorted((point.step, point.value) for point in history) == [
            (point[0], point[2]) for point in Ledger(storage.ledger).series(entry).curves["train_loss"]
        ]


def test_when_all_trials_failed_the_command_fails(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a script takes a sweep without any result for a success."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    storage, digest = Storage(tmp_path / "storage"), open_dataset(data).digest
    failure = Failure(kind=FailureKind.DIVERGED, message="step 1")
    for seed in (1, 2):
        trial = make_trial(tiny, {"seed": seed}, digest)
        fields = {"sweep": "tiny", "preset": "tiny", "code": code_digest(), "environment": versions(), "data": digest}
        Ledger(storage.ledger).append(entry_of(trial, "failed", failure=failure, reason=str(failure), **fields))
    arguments = [str(tmp_path / "tiny.json"), "--data", str(data), "--storage", str(storage.root)]
    assert main([*arguments, "--search", "grid", "--space", "seed=1,2", "--no-screening"]) == 1
    assert "all 2 trials failed: 2 x diverged: step 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dmeo"], 'did you mean "demo"'),
        (["demo", "--search", "tep"], 'did you mean "tpe"'),
        (["demo", "--space", "schedule.stesp=1"], 'did you mean "steps"'),
        (["demo", "--space", "schedule.steps"], "FIELD=VALUE"),
        (["demo", "--set", "schedule.warmdown_start=900"], "warmdown_start"),
        (["demo", "--trials", "0"], "at least 1"),
        (["demo", "--data", "nowhere"], "there is no dataset folder"),
        (["pr598"], "python -m golf data fineweb"),
        (["demo", "--set", "ttt.lr=0.1", "--space", "ttt.lr=0.1,0.2"], "give only one of them"),
        (["demo", "--set", "seed=1", "seed=2"], "given twice"),
        (["pr598", "--data", "DATA"], "vocab_size"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], told: str, data: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a traceback, or Ray started for what cannot run."""
    given = [str(data) if argument == "DATA" else argument for argument in arguments]
    assert main([*given, "--storage", str(place), "--dry-run"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert told in errors[0]


def test_a_dry_run_starts_nothing(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a dry run that writes, or counts other work than the sweep does."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    arguments = [str(tmp_path / "tiny.json"), "--data", str(data), "--storage", str(tmp_path / "storage")]
    arguments += ["--search", "grid", "--space", "schedule.steps=5,7", "split=int4,int8", "--dry-run"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert not (tmp_path / "storage").exists()
    total = 2 * (5 + 7) * tiny.batch.tokens_per_step
    assert re.search(rf"^ *24 +{total:,} +[\d,]+ +in all +4 trials", output, re.MULTILINE), output


def test_a_file_is_a_file_whatever_its_name(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: demo.json gets the preset's space and its number of trials."""
    write_json(tmp_path / "demo.json", to_plain(tiny))
    arguments = [str(tmp_path / "demo.json"), "--data", str(data), "--storage", str(tmp_path / "s"), "--dry-run"]
    assert main(arguments) == 2
    assert "a configuration file has no space of its own" in capsys.readouterr().err
    assert main([*arguments, "--search", "random", "--space", "seed=1,2,3,4,5,6,7,8"]) == 0
    assert re.search("in all +8 trials", capsys.readouterr().out)
    assert main([arguments[0], *arguments[3:], "--space", "seed=1,2"]) == 2
    assert "needs --data" in capsys.readouterr().err


def test_too_many_passes_are_a_warning(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: thousands of passes over a small text are planned without a word."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    arguments = [str(tmp_path / "tiny.json"), "--data", str(data), "--storage", str(tmp_path / "s"), "--dry-run"]
    assert main([*arguments, "--search", "grid", "--space", "schedule.steps=5,6"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"makes 0\.\d+ passes over the training text", told)
    assert "warning" not in told
    assert main([*arguments, "--search", "grid", "--space", "schedule.steps=5,5000"]) == 0
    assert re.search(
        r"warning: [\d,.]+ passes over the training text, which has [\d,]+ tokens", capsys.readouterr().out
    )

"""Where MLflow's database and files lie: after a copy, a move or a fetch, and in folders with any name."""

import contextlib
import shlex
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.commands import tool
from tests.tune.tracking.made_trials import SERIES, curve, empty_database, expected_curve, trial
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.addresses import absolute_uri, database_path, default_uri
from tune.tracking.connection import local_folder
from tune.tracking.tracker import runs_page, sync

mirror = tool("mirror")
report = tool("report")

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow's tables
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once."""
    folder = tmp_path_factory.mktemp("empty")
    empty_database(folder)
    return folder / "mlflow.db"


def finish(storage: Storage, number: int) -> None:
    """Leaves what a finished trial leaves, and sends it to MLflow."""
    artifact = storage.trial("night", trial(number).trial) / "artifact.golf"
    artifact.parent.mkdir(parents=True)
    artifact.write_text(f"weights {number}")
    Ledger(storage.ledger).append(trial(number, files={"artifact": storage.relative(artifact)}), SERIES)
    assert sync(Ledger(storage.ledger).records(), default_uri(storage.root), "tiny").problem is None


def artifacts(storage: Storage) -> dict[str, str]:
    """The artifact of every run, as MLflow hands it out; it must come from this storage."""
    client = MlflowClient(default_uri(storage.root))
    texts = {}
    for run in client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.kind = 'trial'"):
        assert run.info.artifact_uri.startswith((storage.root / "mlartifacts").as_uri() + "/")
        assert "files_missing" not in run.data.tags
        folder = local_folder(run.info.artifact_uri)
        assert folder is not None
        texts[run.data.tags["trial"]] = (folder / "artifact.golf").read_text()
    return texts


def names(folder: Path) -> list[str]:
    """All that lies below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def made(folder: Path, empty: Path) -> Storage:
    """A storage with one trial that MLflow holds."""
    folder.mkdir(parents=True)
    shutil.copy(empty, folder)
    storage = Storage(folder)
    finish(storage, 1)
    return storage


def test_a_copied_storage_leaves_the_original_alone(empty: Path, tmp_path: Path) -> None:
    """Fault: runs of a copy put their files among the original's."""
    storage = made(tmp_path / "original", empty)
    before = names(storage.root)
    shutil.copytree(storage.root, tmp_path / "copy")
    copy = Storage(tmp_path / "copy")
    finish(copy, 2)
    assert names(storage.root) == before
    assert sorted(artifacts(copy).values()) == ["weights 1", "weights 2"]
    assert list(artifacts(storage).values()) == ["weights 1"]


def test_experiments_of_others_stay_where_they_are(empty: Path, tmp_path: Path) -> None:
    """Fault: in a database that is not ours alone, other runs lose their files."""
    storage = made(tmp_path / "original", empty)
    client, elsewhere = MlflowClient(default_uri(storage.root)), (tmp_path / "other" / "mlartifacts").as_uri()
    theirs = client.create_experiment("theirs", artifact_location=elsewhere)
    run = client.create_run(theirs)
    finish(storage, 2)
    assert client.get_experiment(theirs).artifact_location == elsewhere
    assert client.get_run(run.info.run_id).info.artifact_uri.startswith(f"{elsewhere}/")


def test_a_moved_storage_keeps_its_files(empty: Path, tmp_path: Path) -> None:
    """Fault: the files of the runs are looked for where the storage was."""
    storage = made(tmp_path / "before", empty)
    moved = Storage(storage.root.rename(tmp_path / "af%41ter ?"))
    finish(moved, 2)
    assert sorted(artifacts(moved).values()) == ["weights 1", "weights 2"]
    assert not storage.root.exists()


def test_a_fetched_mirror_has_the_files_and_reports(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: the fetched database names files that stayed on a cluster which is gone."""
    storage, copy = made(tmp_path / "cluster", empty), str(tmp_path / "mirror")
    assert report(["night", "--storage", str(storage.root)]) == 0
    assert mirror(["copy", str(storage.root), copy]) == 0
    shutil.rmtree(storage.root)
    laptop = Storage(tmp_path / "my laptop")
    capsys.readouterr()
    assert mirror(["fetch", copy, str(laptop.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert list(artifacts(laptop).values()) == ["weights 1"]
    best = MlflowClient(default_uri(laptop.root)).get_model_version_by_alias("tiny-night", "best")
    assert best.source.startswith((laptop.root / "mlartifacts").as_uri() + "/")
    (line,) = (line for line in lines if line.startswith("in a browser: "))
    uri = default_uri(Path(shlex.split(line)[-1]))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([experiment], "tags.kind = 'trial'")
    assert curve(uri, run, "train_loss") == expected_curve("train_loss")
    (run,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    assert "report/report.html" in {file.path for file in client.list_artifacts(run.info.run_id, "report")}


def test_files_that_were_missing_are_sent_when_they_are_there(empty: Path, tmp_path: Path) -> None:
    """Fault: a run that was sent without its files never gets them."""
    storage = made(tmp_path / "storage", empty)
    entry = trial(3, files={"artifact": "***/storage/sweeps/night/trials/3/artifact.golf"})
    uri, client = default_uri(storage.root), MlflowClient(default_uri(storage.root))
    assert sync([entry], uri, "tiny").sent == 1
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([experiment], "tags.files_missing = 'artifact'")
    assert run.data.tags["trial"] == entry.trial
    folder = storage.trial("night", entry.trial)
    folder.mkdir(parents=True)
    (folder / "artifact.golf").write_text("weights 3")
    assert sync([entry], uri, "tiny").already == 1
    assert artifacts(storage)[entry.trial] == "weights 3"


@pytest.mark.parametrize("name", ["que?ry", "half%41off", "a b", "ha#sh", "ünï", "per%", "a@b:c&d=e;f+g", "quo'te\"s"])
def test_a_folder_of_any_name(empty: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the database or the files lie elsewhere than is printed, or a folder is made that nobody asked for."""
    storage = made(tmp_path / name / "st", empty)
    assert artifacts(storage)
    uri = default_uri(storage.root)
    assert shlex.split(runs_page(uri, "tiny"))[-2:] == ["--storage", str(storage.root)]
    assert database_path(uri) == storage.root / "mlflow.db"
    assert MlflowClient(uri).get_experiment_by_name("tiny") is not None
    assert [path.name for path in tmp_path.iterdir()] == [name]
    monkeypatch.chdir(tmp_path)
    assert names(tmp_path) == names(Path()), "relative to here"


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("sqlite:///runs.db", "sqlite:///{here}/runs.db"),
        ("sqlite:///a%20b/runs.db", "sqlite:///{here}/a b/runs.db"),
        ("sqlite:///~/runs.db", "sqlite:///{here}/home/runs.db"),
        ("sqlite:////mnt/runs%3F.db", "sqlite+pysqlite:////mnt/runs%3F.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://me@db/runs", "postgresql://me@db/runs"),
        ("mlruns", "{here}/mlruns"),
    ],
)
def test_an_address_with_a_relative_path(
    given: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a database that another working folder does not find."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with contextlib.chdir(tmp_path):
        assert absolute_uri(given) == absolute.format(here=tmp_path)

"""`golf-sweep import`: logs of finished runs become ledger entries that every other command knows."""

import gzip
import re
from pathlib import Path

import pytest

from golf.submission.record_folder.contents import read_folder
from tests.commands import tool
from tests.golf.scripts.made import LOG, SCRIPT
from tests.tune.entries import entry_of
from tune.records.entries import TrialEntry, TrialState
from tune.records.ledger import Ledger
from tune.search.space import Trial
from tune.study.runs import study_of

FOLDERS = Path(__file__).resolve().parents[4] / "shared/cases/folders"
command, report, ledger_tool = tool("import"), tool("report"), tool("ledger")


def log_of(seed: int, bpb: float = 1.2004, **changes: str) -> str:
    """The log of a run; `changes` are of settings."""
    text = LOG.replace("seed:42", f"seed:{seed}").replace("1.2004", f"{bpb}")
    settings = "\n".join(f"  {name}: {value}" for name, value in changes.items())
    return f"{settings}\n{text}" if settings else text


class Place:
    """A folder with logs, and a storage."""

    def __init__(self, root: Path) -> None:
        self.root, self.logs, self.storage = root, root / "night", root / "storage"
        self.logs.mkdir()

    def add(self, name: str, text: str | bytes) -> Path:
        """Writes a log."""
        path = self.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def run(self, *words: str) -> int:
        """Imports without MLflow."""
        return command([*words, "--storage", str(self.storage), "--no-mlflow"])

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.storage / "ledger.jsonl")

    def entries(self, *words: str) -> list[TrialEntry]:
        """The entries after an import of the folder."""
        assert self.run(str(self.logs), *words) == 0
        return self.ledger.latest()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty one."""
    return Place(tmp_path)


def test_an_entry_has_all_that_the_log_says(place: Place) -> None:
    """Fault: a number, the code, a setting, the device or a curve is lost or another run's."""
    bar = "=" * 100
    place.add("train_seed42.log", f"{SCRIPT.decode()}{bar}\nRunning PyTorch 2.9.1\n{LOG}")
    (entry,) = place.entries()
    assert (entry.sweep, entry.name, entry.workload) == ("night", "train_seed42", "script")
    assert (entry.state, entry.bpb, entry.nats_per_token) == (TrialState.DONE, 1.2004, 2.02682549)
    assert (entry.artifact_bytes, entry.seed, entry.config["seed"]) == (15_050_000, 42, 42)
    assert entry.config["iterations"] == "20000"
    assert entry.seconds == {"train": 600.038, "eval": 70.0}
    assert entry.metrics["steps"] == 7101
    assert entry.metrics["parameters"] == 17_059_912
    assert entry.tags["label"] == "final_int8_zlib_roundtrip_exact"
    assert entry.tags["imported"].endswith("train_seed42.log")
    assert str(entry.device) == "8 x H100"
    assert entry.environment == {"torch": "2.9.1"}
    assert len(entry.code) == 64
    curves = place.ledger.series(entry).curves
    assert curves["validation_bpb"][:, 0].tolist() == [0, 7101]
    assert curves["train_loss"][:, 2].tolist() == [2.3]
    assert curves["validation_bpb"][1, 1] - curves["validation_bpb"][0, 1] == pytest.approx(600.038)


def test_importing_twice_adds_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a run is in the ledger twice, from a copy or under a new time, or --dry-run writes."""
    log = place.add("a.log", log_of(1))
    place.run(str(log), "--dry-run")
    assert not place.storage.exists()
    place.add("copy.txt", log_of(1))
    place.add("packed.log.gz", gzip.compress(log_of(1).encode()))
    place.entries()
    assert "not imported" in capsys.readouterr().out
    log.touch()
    place.entries()
    assert len(place.ledger.records()) == 1
    assert "0 runs imported" in capsys.readouterr().out


def test_another_metric_replaces_the_entry(place: Place) -> None:
    """Fault: a metric that is asked for later never comes."""
    place.add("a.log", log_of(1) + "CORE: 0.25\n")
    place.entries()
    (entry,) = place.entries("--metric", "core=CORE: ([0-9.]+)", "--objective", "core:max")
    assert (entry.score, entry.loss, entry.unit) == (0.25, -0.25, "core")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (log_of(1).encode("utf-16"), "a.log"),
        (log_of(1).replace("\n", "\r\n").encode(), "a.log"),
        (gzip.compress(log_of(1).encode()), "a.log.gz"),
        ("".join(f"1764600000.25 # {line}\n" for line in log_of(1).splitlines()).encode(), "a.log"),
        (log_of(1).encode() + b"\xff\xfe\n", "a.txt"),
    ],
)
def test_encodings(place: Place, data: bytes, name: str) -> None:
    """Fault: a log of another tool or system is not read."""
    place.add(name, data)
    (entry,) = place.entries()
    assert (entry.bpb, entry.artifact_bytes, entry.seed, entry.metrics["steps"]) == (1.2004, 15_050_000, 1, 7101)


def test_what_becomes_no_entry_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a failed run becomes an entry, or disappears in silence."""
    for name, text in (
        ("nan.log", re.sub(r"_exact .*", "_exact val_loss:nan val_bpb:nan", LOG)),
        ("killed.log", "seed:1\nstep:500/1000 val_loss:3.0 val_bpb:1.5\n"),
        ("crashed.log", "Traceback\nRuntimeError: no\n"),
        ("damaged.log.gz", gzip.compress(LOG.encode())[:100]),
        ("requirements.txt", "torch\n"),
    ):
        place.add(name, text)
    assert place.run(str(place.logs)) == 1
    assert not place.storage.exists()
    text = capsys.readouterr().out
    for words in (
        "nan.log: its val_bpb is nan",
        "killed.log: it ends at step 500 of 1000",
        "crashed.log: no run in it",
    ):
        assert words in text
    assert "damaged.log.gz: cannot be read" in text
    assert "requirements" not in text


def test_two_runs_in_one_log(place: Place) -> None:
    """Fault: two runs become one, or have one identity."""
    place.add("both.log", log_of(1, 1.25) + log_of(2, 1.24))
    entries = place.entries()
    assert [(entry.seed, entry.bpb) for entry in entries] == [(1, 1.25), (2, 1.24)]
    assert len({entry.trial for entry in entries}) == 2


def test_an_artifact_over_the_cap_is_no_result(place: Place) -> None:
    """Fault: a run over the cap counts in a study."""
    place.add("a.log", LOG.replace("15050000 bytes", "16000001 bytes").replace("15000000", "15950001"))
    (entry,) = place.entries()
    assert (entry.state, entry.done, entry.bpb) == (TrialState.INFEASIBLE, False, 1.2004)
    assert entry.reason == "over the cap by 1 bytes"


def test_a_log_with_val_loss_only(place: Place) -> None:
    """Fault: a run without bits per byte has no score, or a label of the curve's last step is missing."""
    lines = ["step:0/100 val_loss:10.8 train_time:0ms", "step:100/100 val_loss:3.2781 train_time:80000ms"]
    place.add("a.log", "\n".join(lines))
    (entry,) = place.entries()
    assert (entry.score, entry.unit, entry.bpb, entry.size, entry.seed) == (3.2781, "val_loss", None, None, None)
    assert "seed" not in entry.config


def test_a_study_of_imported_seeds(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: seeds of one configuration are refused, a second run of one seed replaces the first, or reports fail."""
    for seed, bpb in ((1, 1.21), (2, 1.22), (3, 1.23)):
        place.add(f"s{seed}.log", log_of(seed, bpb, matrix_lr="0.02"))
    place.add("again.log", log_of(1, 1.215, matrix_lr="0.02"))
    place.entries("--name", "low")
    study = study_of("low", place.ledger)
    assert sorted(study.values) == [1, 2, 3]
    assert len(study.repeats) == 1
    assert study.cap_bytes == 16_000_000
    place.add("other.log", log_of(4, 1.3, matrix_lr="0.03"))
    place.run(str(place.logs), "--name", "mixed")
    with pytest.raises(ValueError, match="differ in matrix_lr"):
        study_of("mixed", place.ledger)
    assert report(["low", "--storage", str(place.storage), "--no-mlflow"]) == 0
    capsys.readouterr()
    assert ledger_tool(["show", "--ledger", str(place.ledger.path)]) == 0
    assert "1.2300" in capsys.readouterr().out


def test_studies_are_named_by_their_folders(place: Place) -> None:
    """Fault: the seeds of several record folders become one study."""
    for name in ("2026-01-01_A", "2026-01-02_B"):
        place.add(f"{name}/submission.json", "{}")
        place.add(f"{name}/logs/train_seed1.log", log_of(1, 1.2 if name.endswith("A") else 1.3))
    assert {entry.sweep for entry in place.entries()} == {"2026-01-01_A", "2026-01-02_B"}


def test_a_sweep_that_was_run_here_is_not_mixed_with(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: somebody's log is taken for a trial of an own sweep."""
    place.add("a.log", LOG)
    place.ledger.append(entry_of(Trial(trial="0" * 12, parameters={}, name="t", config={}), sweep="night"))
    assert place.run(str(place.logs)) == 2
    assert "give another --name" in capsys.readouterr().err
    assert len(place.ledger.records()) == 1


def test_a_huge_log_is_read_at_its_ends(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a log of gigabytes is read into memory, or its missing middle is not told."""
    head, tail = LOG.splitlines()[:8], LOG.splitlines()[8:]
    path = place.add("huge.log", "\n".join(head) + "\n")
    with path.open("ab") as file:
        for _ in range(64):
            file.write(b"warning: something\n" * 50_000)
        file.write(("\n".join(tail) + "\n").encode())
    (entry,) = place.entries()
    assert (entry.bpb, entry.artifact_bytes, entry.seed) == (1.2004, 15_050_000, 42)
    assert "bytes in its middle were not read" in capsys.readouterr().out


def test_notes_and_the_table(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a disagreement is not told, a text of the log reaches the terminal, or a column is missing."""
    place.add("train_seed7.log", log_of(1).replace("final_int8", "\x1b[2Jfinal_int8"))
    monkeypatch.setenv("COLUMNS", "250")
    place.entries()
    text = capsys.readouterr().out
    assert "says seed 1, the name of its file 7" in text
    assert "\x1b" not in text
    assert {"log", "score", "bytes", "seed", "steps", "seconds", "label"} <= set(text.splitlines()[0].split())
    monkeypatch.setenv("COLUMNS", "80")
    place.entries()
    table = capsys.readouterr().out.splitlines()[:2]
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["gone.log"], "there is no file or folder"),
        (["."], "holds no log"),
        (["a.log", "--metric", "x=a"], "needs a group"),
        (["a.log", "--metric", "x=file:m.json:a"], "needs a run's folder"),
        (["a.log", "--objective", "x"], "--objective must be one of val_bpb, val_loss"),
        (["a.log", "--name", "a/b"], "must be one folder's name"),
    ],
)
def test_bad_input(
    place: Place,
    words: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault: a traceback, or an entry before the error."""
    empty = place.root / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    if words[0] == "a.log":
        (empty / "a.log").write_text(LOG)
    assert place.run(*words) == 2
    assert error in capsys.readouterr().err
    assert not place.storage.exists()


@pytest.mark.long
def test_mlflow_shows_imported_runs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: imported runs are in the ledger only."""
    place.add("a.log", LOG)
    assert command([str(place.logs), "--storage", str(place.storage)]) == 0
    assert "also in MLflow, experiment imported" in capsys.readouterr().out


@pytest.mark.skipif(not FOLDERS.is_dir(), reason=f"there is no {FOLDERS}")
def test_the_same_numbers_as_the_check_of_record_folders(place: Place) -> None:
    """Fault: the import reads another score, size or seed than `golf check` does of the same log."""
    expected, got = {}, {}
    for case in sorted(FOLDERS.iterdir()):
        for path in sorted({file.parent for file in case.glob("records/*/*/*")}):
            folder = read_folder(path)
            for run in folder.runs:
                size, seed = folder.total_of(run), run.any_seed
                if run.scores and size is not None and seed is not None:
                    expected[f"{path / run.name}"] = run.scores[-1].bpb.value, round(size), seed
    for case in sorted(FOLDERS.iterdir()):
        assert place.run(str(case), "--name", f"case {case.name}") in (0, 1, 2)
    for entry in place.ledger.latest():
        part = re.search(r" run (\d+)$", entry.name)
        name = entry.tags["imported"] + (f" (run {part[1]})" if part else "")
        got[name] = entry.bpb, entry.artifact_bytes, entry.seed
    assert len(expected) >= 100
    assert {name: got.get(name) for name in expected} == expected

"""The folder of a finished study: nothing left out, artifacts of the right bytes, wherever they still are."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from golf.submission.study import StudyRecord, StudyVerdict
from golf.submission.study_file import read_study
from tests.tune.made_ledger import Made
from tests.tune.study.made_runs import BYTES, TOKENS, changed, made_run
from tests.tune.toy_stages import record_of
from tune.cache.fingerprint import stage_key
from tune.cache.store import Store
from tune.records.entries import ArtifactSize, StudyPlan
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.study.export import export_study
from tune.study.runs import study_of
from tune.study.verdict import judge

KEY = stage_key("pack", {}, [], "0" * 64)


def finished(seed: int, bpb: float | None, data: bytes, **changes: Any) -> Made:
    """Returns a trial as a study has it, whose artifact is `data`."""
    made = made_run("s", seed, bpb, **changes)
    size = ArtifactSize(model_bytes=len(data), code_bytes=100, cap_bytes=100_000)
    return changed(made, size=size if data else None, config={**made[0].config, "cap_bytes": 100_000})


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Three seeds, one of which failed, a repeat, and another sweep's run of the same configuration."""
    storage = Storage(tmp_path)
    runs = [finished(seed, 1.2 + seed / 1000, bytes([seed]) * 300, keys=(KEY,)) for seed in (1, 2)]
    runs += [finished(3, None, b""), finished(1, 1.2011, b"r" * 300, repeat=1)]
    runs += [changed(finished(1, 1.19, b"o" * 300), sweep="other")]
    for entry, series in runs:
        Ledger(storage.ledger).append(entry, series)
        if entry.done and entry.sweep == "s" and not entry.repeat:
            folder = storage.trial("s", entry.trial)
            folder.mkdir(parents=True)
            (folder / "artifact.golf").write_bytes(bytes([entry.seed or 0]) * 300)
            (folder / "log.txt").write_text(f"seed:{entry.seed}\n")
    return storage


def verdict(storage: Storage) -> StudyVerdict:
    """Returns the verdict on the study."""
    plan = StudyPlan(configuration="c", data="d", seeds=(1, 2, 3, 4))
    return judge(study_of("s", Ledger(storage.ledger)), plan)


def exported(storage: Storage, store: Store | None = None) -> tuple[Path, StudyRecord]:
    """Exports the study; returns its folder and what golf reads from it."""
    folder = export_study(storage, "s", verdict(storage), store=store)
    return folder, read_study(folder)


def test_every_run_is_there(storage: Storage) -> None:
    """Fault: a failed seed, a repeat, a planned seed or another run of the configuration is left out."""
    folder, study = exported(storage)
    assert [(run.seed, run.state) for run in study.seeds] == [(1, "done"), (2, "done"), (3, "failed")]
    assert [run.last.bpb for run in study.done] == [1.2 + 1 / 1000, 1.2 + 2 / 1000]
    assert study.verdict == verdict(storage)
    assert study.verdict.missing == (4,)
    assert [(run.seed, run.repeat, run.bpb) for run in study.verdict.others] == [(1, 0, 1.19), (1, 1, 1.2011)]
    assert len(study.verdict.faults) >= 3
    assert (study.data.validation_tokens, study.data.validation_bytes) == (TOKENS, BYTES)
    assert study.data.files is None
    for run in study.seeds[:2]:
        assert run.artifact is not None
        assert run.artifact.sha256 == hashlib.sha256(bytes([run.seed]) * 300).hexdigest()
    assert study.seeds[2].artifact_note is not None
    logs = [run.log and (folder / run.log.name).read_text() for run in study.seeds]
    assert logs == ["seed:1\n", "seed:2\n", None]
    again = (folder / "study.json").read_bytes()
    exported(storage)
    assert (folder / "study.json").read_bytes() == again


def test_artifacts_come_from_the_store_or_are_said_to_be_gone(storage: Storage, tmp_path: Path) -> None:
    """Fault: the artifact of another run, cut or replaced, stands beside a seed's numbers."""
    first, second = sorted(storage.sweep("s").glob("trials/*"), key=lambda path: (path / "artifact.golf").read_bytes())
    shutil.rmtree(first)
    (second / "artifact.golf").write_bytes(b"x" * 299)
    _, study = exported(storage)
    assert [run.artifact for run in study.seeds] == [None, None, None]
    assert [run.log is None for run in study.seeds] == [True, False, True]
    assert "is not there" in str(study.seeds[0].artifact_note)
    assert "299 bytes, not 300" in str(study.seeds[1].artifact_note)
    made = tmp_path / "made"
    made.mkdir()
    (made / "artifact.golf").write_bytes(bytes([1]) * 300)
    store = Store(storage.store)
    store.publish(KEY, made, ["artifact.golf"], record_of())
    folder, study = exported(storage, store)
    assert study.seeds[0].artifact is not None
    assert study.seeds[0].artifact.sha256 == hashlib.sha256(bytes([1]) * 300).hexdigest()
    assert not list(folder.glob("*.part"))


def test_only_gepa_has_submissions(tmp_path: Path) -> None:
    """Fault: a script's configuration read as GEPA's, and a submission that claims its defaults."""
    made = changed(made_run("s", 1, 1.2), workload="script", config={"lr": 1, "seed": 1})
    Ledger(Storage(tmp_path).ledger).append(*made)
    with pytest.raises(ValueError, match="workload script"):
        exported(Storage(tmp_path))

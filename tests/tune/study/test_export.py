"""The folder of a finished study: nothing left out, artifacts of the right bytes, wherever they still are."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from golf.submission.study_file import read_study
from tests.tune.study.test_runs import BYTES, TOKENS, entry
from tests.tune.toy_stages import record_of
from tune.cache.fingerprint import stage_key
from tune.cache.store import Store
from tune.records.journal import Ledger
from tune.records.layout import Storage
from tune.study.export import export_study
from tune.study.preregistration import Plan
from tune.study.runs import study_of
from tune.study.verdict import VERDICT, judge, plain

KEY = stage_key("pack", {}, [], "0" * 64)


def finished(seed: int, bpb: float | None, data: bytes, **changes: Any) -> dict[str, Any]:
    """A trial as a study has it, whose artifact is `data`."""
    one = entry("s", seed, bpb, **changes)
    if bpb is not None:
        one["metrics"] |= {"model_bytes": len(data), "code_bytes": 100, "artifact_bytes": len(data) + 100}
        one["metrics"] |= {"bpb_ttt": one["metrics"]["bpb"], "nats_ttt": one["metrics"]["nats"]}
    one["config"]["cap_bytes"] = 100_000
    return one


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Three seeds, one of which failed, a repeat, another sweep's run of the same configuration, and the verdict."""
    storage = Storage(tmp_path)
    entries = [finished(seed, 1.2 + seed / 1000, bytes([seed]) * 300, keys=[KEY]) for seed in (1, 2)]
    entries += [finished(3, None, b""), finished(1, 1.2011, b"r" * 300, repeat=1)]
    entries += [{**finished(1, 1.19, b"o" * 300), "sweep": "other"}]
    for one in entries:
        Ledger(storage.ledger).append(one)
        if one["metrics"] and one["sweep"] == "s" and not one["parameters"].get("repeat"):
            folder = storage.trial("s", one["trial"])
            folder.mkdir(parents=True)
            (folder / "artifact.golf").write_bytes(bytes([one["parameters"]["seed"]]) * 300)
            (folder / "log.txt").write_text(f"seed:{one['parameters']['seed']}\n")
    judged = judge(study_of("s", entries), Plan("c", "d", (1, 2, 3, 4)))
    Ledger(storage.ledger).append({**plain(judged), "text": "as printed"})
    return storage


def verdict(storage: Storage) -> dict[str, Any]:
    """The ledger's."""
    return Ledger(storage.ledger).find(kind=VERDICT)[-1]


def test_every_run_is_there(storage: Storage) -> None:
    """Fault: a failed seed, a repeat, a planned seed or another run of the configuration is left out."""
    folder = export_study(storage, "s", verdict(storage))
    study = read_study(folder)
    assert [(run.seed, run.status) for run in study.seeds] == [(1, "done"), (2, "done"), (3, "failed")]
    assert study.statistics.missing == (4,)
    assert [(one.seed, one.repeat, one.bpb) for one in study.statistics.others] == [(1, 0, 1.19), (1, 1, 1.2011)]
    assert len(study.statistics.faults) >= 3
    assert (study.data.validation_tokens, study.data.validation_bytes) == (TOKENS, BYTES)
    assert study.data.files is None
    for run in study.seeds[:2]:
        assert run.artifact is not None
        assert run.artifact.sha256 == hashlib.sha256(bytes([run.seed]) * 300).hexdigest()
    assert study.seeds[2].artifact_note is not None
    logs = [run.log and (folder / run.log.name).read_text() for run in study.seeds]
    assert logs == ["seed:1\n", "seed:2\n", None]
    again = (folder / "study.json").read_bytes()
    export_study(storage, "s", verdict(storage))
    assert (folder / "study.json").read_bytes() == again


def test_artifacts_come_from_the_store_or_are_said_to_be_gone(storage: Storage, tmp_path: Path) -> None:
    """Fault: the artifact of another run, cut or replaced, stands beside a seed's numbers."""
    first, second = sorted(storage.sweep("s").glob("trials/*"), key=lambda path: (path / "artifact.golf").read_bytes())
    shutil.rmtree(first)
    (second / "artifact.golf").write_bytes(b"x" * 299)
    study = read_study(export_study(storage, "s", verdict(storage)))
    assert [run.artifact for run in study.seeds] == [None, None, None]
    assert [run.log is None for run in study.seeds] == [True, False, True]
    assert "is not there" in str(study.seeds[0].artifact_note)
    assert "299 bytes, not 300" in str(study.seeds[1].artifact_note)
    made = tmp_path / "made"
    made.mkdir()
    (made / "artifact.golf").write_bytes(bytes([1]) * 300)
    store = Store(storage.store)
    store.publish(KEY, made, ["artifact.golf"], record_of())
    study = read_study(export_study(storage, "s", verdict(storage), store=store))
    assert study.seeds[0].artifact is not None
    assert study.seeds[0].artifact.sha256 == hashlib.sha256(bytes([1]) * 300).hexdigest()
    assert not list(study.folder.glob("*.part"))

"""What is done again when a finished sweep is run again."""

import subprocess
import sys
from pathlib import Path

import pytest

from golf.cli.start import imported
from golf.config.presets import PRESETS
from tests.tune.cli.test_afterwards import session_of
from tests.tune.entries import scored
from tune.cli import sweep_report
from tune.cli.session import Session
from tune.cli.sweep_report import published
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.addresses import database_path, default_uri
from tune.workloads.gepa.space import make_trial

HEAVY = {"ray", "mlflow", "scipy", "matplotlib", "pandas", "boto3", "sqlalchemy"}
"""Each takes from a fifth of a second to two seconds to import."""


def test_the_command_alone_imports_nothing_heavy() -> None:
    """Fault: the repeat of a finished sweep waits for what only trials, MLflow or the report need."""
    told = "import sys, tune.cli.run_sweep; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_report_and_mlflow_are_made_again_where_anything_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: an old report stays, or MLflow lacks a trial, because an earlier start had finished; or a repeat of a
    finished sweep makes both again."""
    storage = Storage(tmp_path)
    session, ledger = session_of(tmp_path, default_uri(tmp_path)), Ledger(storage.ledger)
    trials = [make_trial(PRESETS["demo"], {"seed": seed}, "data") for seed in (1, 2)]
    ledger.append(scored(trials[0], 2.0))
    first, report = published(session, "s", True), storage.report("s") / "report.html"
    assert first.startswith(f"report: {report}\n")

    class Again(Exception):
        pass

    def refuse(name: str) -> None:
        raise Again(name)

    real = imported
    monkeypatch.setattr(sweep_report, "imported", refuse)
    assert published(session, "s", True) == first
    for change in (lambda: ledger.append(scored(trials[1], 1.9)), report.unlink, database(session).touch):
        change()
        with pytest.raises(Again):
            published(session, "s", True)
        monkeypatch.setattr(sweep_report, "imported", real)
        assert published(session, "s", True) == first
        assert report.is_file()
        monkeypatch.setattr(sweep_report, "imported", refuse)
        assert published(session, "s", True) == first


def database(session: Session) -> Path:
    """The file of MLflow's database."""
    path = database_path(session.uri)
    assert path is not None
    return path

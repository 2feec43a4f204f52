"""Access to MLflow: its addresses and settings, its database opened by one process at a time, its errors in a line.

No global state of MLflow's is used beyond its settings, so that two sweeps in one process do not mix.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow import environment_variables as mlflow_settings
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client
from mlflow.tracking._tracking_service import utils as private
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy.exc import SQLAlchemyError

from tune.records.ledger import locked
from tune.records.redaction import redact
from tune.tracking.addresses import database_path, sqlite_uri

MLFLOW_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
"""Errors that a call of MLflow may raise; those of `requests` are OSErrors."""
_ARTIFACTS = "mlartifacts"
"""The folder beside a database with the files of its runs."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Error codes that are about one entry and not about all of MLflow."""
_opening = threading.Lock()


def artifact_root(database: Path) -> str:
    """Returns the address of the folder with the files of a database's runs."""
    return (database.absolute().parent / _ARTIFACTS).as_uri()


def local_folder(address: str) -> Path | None:
    """Returns the folder at an address of MLflow's; None where it is not on this machine."""
    return Path(local_file_uri_to_path(address)) if address.startswith(("file:", "/")) else None


def relocate_files(database: Path, mark: tuple[str, str]) -> None:
    """Moves the file addresses of runs beside this database, where they point beside another.

    MLflow stores whole addresses: in a storage folder that was copied, moved or fetched they lead to the original. It
    also remembers by a run's id alone where its files go, though a copied run has the same id.

    Args: database: its file; mark: name and value of the tag that this program's experiments have; others' are not
        changed.
    """
    private._artifact_repos_cache.clear()
    home = artifact_root(database)
    own = "SELECT experiment_id, artifact_location FROM experiments JOIN experiment_tags USING (experiment_id)"
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as opened, opened:
        for number, old in opened.execute(f"{own} WHERE key = ? AND value = ?", mark).fetchall():
            if old != home and old.startswith("file:") and old.endswith(f"/{_ARTIFACTS}"):
                opened.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (home, number))
                opened.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                    "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                    (home, len(old) + 1, number, len(old) + 1, f"{old}/"),
                )
                opened.execute(
                    "UPDATE model_versions SET source = ? || substr(source, ?), storage_location = NULL "
                    "WHERE substr(source, 1, ?) = ? AND run_id IN (SELECT run_uuid FROM runs WHERE experiment_id = ?)",
                    (home, len(old) + 1, len(old) + 1, f"{old}/", number),
                )


def connect(uri: str) -> Any:
    """Returns an MLflow client; makes the tables of a new database. Raises: one of `MLFLOW_ERRORS`."""
    _prepare()
    with exclusive_access(uri):
        database = database_path(uri)
        if database is not None and str(database) != ":memory:" and not database.exists():
            _create(database)
        return MlflowClient(tracking_uri=uri)


def _create(database: Path) -> None:
    """Makes the tables of a new database under another name: one with half of them could never be completed."""
    new = database.with_name(f"{database.name}.new")
    new.unlink(missing_ok=True)
    MlflowClient(tracking_uri=sqlite_uri(new.absolute()))
    new.rename(database)


@contextlib.contextmanager
def exclusive_access(uri: str) -> Iterator[None]:
    """Keeps other threads, and for SQLite other processes, from making the same table, experiment or run.

    Two processes that make the tables of one new SQLite file at once break it.
    """
    with _opening, contextlib.ExitStack() as stack:
        database = database_path(uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(database.with_name(database.name + ".lock")))
        yield


def is_refusal(error: Exception) -> bool:
    """Returns whether MLflow answers and refuses this one entry."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def problem_line(uri: str, error: Exception, refused: str | None = None) -> str:
    """Returns one line for the user, without a secret that `uri` may hold.

    Args: uri: of MLflow; error: of a call; refused: what was not taken; None where MLflow does not answer at all.
    """
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    cause = cause if isinstance(cause, (OSError, sqlite3.Error)) else error
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:200]
    fault = "does not answer" if refused is None else f"refused {refused}"
    line = f"MLflow at {uri} {fault} ({reason}); the runs are kept in the ledger and sent at the next start"
    return redact(line, uri)


def _prepare() -> None:
    """Sets short waits, no chatter and no reports to MLflow's makers; a user's own MLFLOW_ settings are not changed."""
    for setting, value in (
        (mlflow_settings.MLFLOW_HTTP_REQUEST_TIMEOUT, 10),
        (mlflow_settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1),
        (mlflow_settings.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, "true"),
        (mlflow_settings.MLFLOW_DISABLE_TELEMETRY, "true"),
    ):
        if not setting.is_set():
            setting.set(value)
    if mlflow_settings.MLFLOW_DISABLE_TELEMETRY.get():
        set_telemetry_client()
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

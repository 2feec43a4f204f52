"""Reaching MLflow: its settings, its database opened by one at a time, its errors in a line.

An address enters; what leaves is a client or what to tell the user. No global MLflow state is used beyond its settings,
so that two sweeps in one process do not mix. Must know nothing of runs.
"""

import contextlib
import logging
import re
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
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from golf.cli.terminal import expanded
from tune.records.ledger import locked
from tune.records.redaction import redact

AWAY = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
"""What an MLflow call raises; the errors of `requests` are OSErrors."""
_ARTIFACTS = "mlartifacts"
"""The folder beside a database in which its runs keep files."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Error codes that speak of one entry and not of all MLflow."""
_opening = threading.Lock()


def default_uri(storage: Path) -> str:
    """The address of the MLflow database in the folder `storage`."""
    return sqlite_uri(storage.absolute() / "mlflow.db")


def sqlite_uri(database: Path) -> str:
    """The address of a database file, of which the path is absolute.

    SQLAlchemy ends the path at a "?" and decodes percents, so these two are quoted. MLflow makes the parent folder of
    a path that it takes from the address as it stands; with the driver named it leaves that to us.
    """
    path = str(database)
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if quoted == path else f"sqlite+pysqlite:///{quoted}"


def database_path(uri: str) -> Path | None:
    """The file of an sqlite address, else None."""
    return Path(make_url(uri).database or "mlflow.db") if re.match(r"sqlite(\+\w+)?:", uri) else None


def absolute_uri(uri: str) -> str:
    """An address of MLflow's in which a path is absolute, "~" as the home folder; another one stays as it is."""
    database = database_path(uri)
    if database is not None:
        return uri if str(database) == ":memory:" else sqlite_uri(expanded(database).absolute())
    if "://" in uri or uri.startswith(("file:", "databricks")):
        return uri
    return str(expanded(uri).absolute())


def artifact_root(database: Path) -> str:
    """The address of the folder in which the runs of a database keep files."""
    return (database.absolute().parent / _ARTIFACTS).as_uri()


def local_folder(address: str) -> Path | None:
    """The folder at an address of MLflow's, None where it is not on this machine."""
    return Path(local_file_uri_to_path(address)) if address.startswith(("file:", "/")) else None


def bring_places_home(database: Path, mark: tuple[str, str]) -> None:
    """Let runs whose files were beside another database keep them beside this one.

    MLflow stores whole addresses: in a storage folder that was copied, moved or fetched they lead to the original. It
    also remembers by a run's id alone where its files go, though a copied run has the same.

    Args: mark: name and value of the tag that this program's experiments have; others' are left as they are.
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


def connect(uri: str) -> Any:
    """An MLflow client; makes the tables of a new database. Raises: one of `AWAY`."""
    _prepare()
    with opened_alone(uri):
        return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def opened_alone(uri: str) -> Iterator[None]:
    """Keep other threads, and for sqlite other processes, from making the same table, experiment or run.

    Two processes that make the tables of one new sqlite file at once break it.
    """
    with _opening, contextlib.ExitStack() as stack:
        database = database_path(uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(database.with_name(database.name + ".lock")))
        yield


def is_refusal(error: Exception) -> bool:
    """Whether MLflow is there and would not take this one thing."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def complaint(uri: str, error: Exception, what: str | None = None) -> str:
    """One line for the user, without a secret that `uri` may hold."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    told = cause if isinstance(cause, (OSError, sqlite3.Error)) else error
    reason = (str(told).strip() or type(told).__name__).splitlines()[0][:200]
    fault = "does not answer" if what is None else f"refused {what}"
    line = f"MLflow at {uri} {fault} ({reason}); the runs are kept in the ledger and sent at the next start"
    return redact(line, uri)


def _prepare() -> None:
    """Short waits, no chatter, no reports to MLflow's makers; a user's own MLFLOW_ settings stand."""
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

"""Reaching MLflow: its settings, its database opened by one at a time, its errors in a line.

An address enters; what leaves is a client or what to tell the user. No global MLflow state is used beyond its settings,
so that two sweeps in one process do not mix. Must know nothing of runs.
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
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from tune.ledger.ledger import locked
from tune.redaction import redact

AWAY = (MlflowException, SQLAlchemyError, OSError)
"""What an MLflow call raises; the errors of `requests` are OSErrors."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Error codes that speak of one entry and not of all MLflow."""
_opening = threading.Lock()


def default_uri(storage: Path) -> str:
    """The address of the MLflow database in the folder `storage`."""
    return f"sqlite:///{storage.absolute() / 'mlflow.db'}"


def database_path(uri: str) -> Path | None:
    """The file of an sqlite address, else None."""
    return Path(make_url(uri).database or "mlflow.db") if uri.startswith("sqlite:") else None


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

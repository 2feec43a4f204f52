"""Addresses of MLflow; MLflow, whose import takes seconds, is not needed for them."""

import re
from pathlib import Path

from golf.cli.start import imported
from golf.cli.terminal import expanded, python_line
from tune.records.redaction import redact


def default_uri(storage: Path) -> str:
    """Returns the address of the MLflow database in the folder `storage`."""
    return sqlite_uri(storage.absolute() / "mlflow.db")


def sqlite_uri(database: Path) -> str:
    """Returns the address of a database file with an absolute path.

    SQLAlchemy ends the path at a "?" and decodes percents, so these two are quoted. MLflow makes the parent folder of
    a path that it takes from the address undecoded; with the driver named it leaves that to us.
    """
    path = str(database)
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if quoted == path else f"sqlite+pysqlite:///{quoted}"


def database_path(uri: str) -> Path | None:
    """Returns the file of an SQLite address, else None."""
    if plain := re.fullmatch(r"sqlite:///(/[^?%#]+)", uri):
        return Path(plain[1])  # as `sqlite_uri` writes it: SQLAlchemy takes long to import
    if not re.match(r"sqlite(\+\w+)?:", uri):
        return None
    return Path(imported("sqlalchemy:make_url")(uri).database or "mlflow.db")


def absolute_uri(uri: str) -> str:
    """Returns an address of MLflow's with its path made absolute, "~" as the home folder; others are not changed."""
    database = database_path(uri)
    if database is not None:
        return uri if str(database) == ":memory:" else sqlite_uri(expanded(database).absolute())
    if "://" in uri or uri.startswith(("file:", "databricks")):
        return uri
    return str(expanded(uri).absolute())


def database_page(uri: str, database: Path, sweep: str | None = None) -> str:
    """Returns the command that shows the runs of a database in a browser. Args: sweep: whose table to open."""
    own = ["--tracking-uri", uri] if uri != default_uri(database.parent) else []
    words = ["ui", *([sweep] if sweep else []), "--storage", str(database.parent), *own]
    return redact(f"in a browser: {python_line('tune', *words)}", uri)

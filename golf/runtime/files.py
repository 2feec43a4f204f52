"""Files that appear whole: written beside their path, flushed to the disk, then renamed.

A reader sees the old file or the new one, never a part; a full disk or a kill leaves the old one.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a temporary file beside `path` with `write`, then renames it to `path`.

    Raises: OSError naming the path when the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; nothing was changed there") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` whole."""
    write_whole(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, whole; NaN and infinity are refused (ValueError)."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Returns the JSON value in `path`.

    Raises: FileNotFoundError, or ValueError naming the file when it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it to have it made again") from error

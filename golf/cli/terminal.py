"""What the command lines have in common: a closed output, commands to print, and paths as a shell reads them."""

import argparse
import contextlib
import difflib
import functools
import os
import select
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from golf.config.presets import PRESETS

Arguments = ParamSpec("Arguments")


def quiet_when_closed(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Returns `main` such that it ends silently with status 0 when what reads its output, such as `head`, is gone.

    Raises: SystemExit as argparse does. A BrokenPipeError of anything else is one line and status 2.
    """

    @functools.wraps(main)
    def quiet(*arguments: Arguments.args, **named: Arguments.kwargs) -> int:
        try:
            try:
                return main(*arguments, **named)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # here, where it can still be caught: the last flush of Python complains
        except BrokenPipeError as error:
            if not reader_gone():
                print(f"error: {error}", file=sys.stderr)
                return 2
            for stream in (sys.stdout, sys.stderr):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return 0

    return quiet


def reader_gone() -> bool:
    """Returns whether standard output or error is a pipe that nobody reads any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, or one that is no file
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def python_line(module: str, *words: str) -> str:
    """Returns a command line that runs a module with this Python, quoted for a shell."""
    return f"{this_python()} -m {shlex.join([module, *words])}"


def this_python() -> str:
    """Returns the path of this Python, quoted for a shell: relative to the current folder where it is below it.

    An environment that is not activated has no command on the PATH.
    """
    python, here = Path(sys.executable), Path.cwd()
    return shlex.quote(str(python.relative_to(here) if python.is_relative_to(here) else python))


def expanded(path: Path | str) -> Path:
    """Returns a path with "~", which a shell leaves alone in --option=~/x, as the home folder, if there is one."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def expand_paths(parsed: argparse.Namespace) -> argparse.Namespace:
    """Returns a command line whose paths are `expanded`, those in lists too."""
    return argparse.Namespace(**{name: _expand(value) for name, value in vars(parsed).items()})


def _expand(value: object) -> object:
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return expanded(value) if isinstance(value, Path) else value


def need_path(path: Path) -> None:
    """Raises FileNotFoundError, with the nearest name beside it, where there is no such file or folder."""
    if path.exists():
        return
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1)
    hint = f'; did you mean "{path.parent / close[0]}"?' if close else "; check the path"
    if str(path) in PRESETS:
        hint = f"; {path} is a preset: its run is in the folder that --out named, runs/{path} where nothing did"
    raise FileNotFoundError(
        f"there is no file or folder {path}{hint} (`python -m golf run demo` makes the folder of a run)"
    )

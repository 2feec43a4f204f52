"""How every command starts: its words are parsed first, and only then is the one function imported that it calls.

PyTorch, Ray, MLflow and SciPy take seconds to import. No module of parsers imports them: a parser names the function of
its command as "module:function", which is imported here and nowhere else; so is what a command needs for some of its
work only, such as Ray where trials are left to be run.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golf.cli.terminal import expand_paths
from golf.cli.version import version_text


class ShowVersion(argparse.Action):
    """Prints the versions and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version_text())
        parser.exit()


class PrintCompletion(argparse.Action):
    """Prints the script that completes the command in a shell, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None) -> None:
        shtab = importlib.import_module("shtab")
        print(shtab.complete(parser, shell))
        parser.exit()


def program(module: str, script: str) -> str:
    """Returns the name that a command was started by, for its help.

    Args:
        module: the name of the module or file, e.g. "python -m golf".
        script: the name of the installed script, e.g. "golf".
    """
    return script if Path(sys.argv[0]).name == script else module


def add_version_and_completion(parser: argparse.ArgumentParser) -> None:
    """Adds --version and --print-completion."""
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the versions and exit")
    shells = ["bash", "zsh"]
    completion = "print the script that completes this command with Tab in %(choices)s, and exit"
    parser.add_argument("--print-completion", action=PrintCompletion, choices=shells, metavar="SHELL", help=completion)


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Returns the parsed command line with "~" in paths expanded; `words` are in it, as they were given."""
    parsed = expand_paths(parser.parse_args(words))
    parsed.words = tuple(words)
    return parsed


def announce(what: str) -> None:
    """Prints the first line of long work, before the imports that keep it waiting."""
    print(f"{what}: importing PyTorch and what else is needed", flush=True)


def function_of(command: str) -> Callable[[argparse.Namespace], int | None]:
    """Imports the function of a command, named as "module:function"."""
    found: Callable[[argparse.Namespace], int | None] = imported(command)
    return found


def imported(name: str) -> Any:
    """Returns what a module defines, named as "module:name"; for what takes seconds to import and is seldom needed."""
    module, _, inner = name.partition(":")
    return getattr(importlib.import_module(module), inner)

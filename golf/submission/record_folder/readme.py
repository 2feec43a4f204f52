"""What the README.md of a record folder says to run, and to install.

Commands are in blocks of code, in indented lines and between back-quotes. Only those count that are meant for the
record folder: not what follows `cd` into something else, or has its path in the repository or on a machine.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

_FENCE = re.compile(r"\s{0,3}(?:```|~~~)\s*([\w-]*)")
_SHELLS = {"", "bash", "sh", "shell", "console", "zsh", "text", "shell-session", "terminal", "bash-session"}
_INLINE = re.compile(r"`([^`\n]{3,300})`")
_RUNNERS = {"python", "python3", "torchrun", "bash", "sh", "source", ".", "zsh", "accelerate", "sbatch", "chmod"}
_PYTHON = re.compile(r"python3?(?:\.\d+)?$")
_LAUNCHERS = (["uv", "run"], ["poetry", "run"], ["pipenv", "run"], ["modal", "run"])
_BEFORE_COMMAND = re.compile(r"\w+=.*|env|time|nohup|sudo|exec|then|do|!", re.DOTALL)
_MAKERS = {"-o", "-O", ">", ">>", "--output", "tee", "touch"}
_COPIERS = ("cp", "mv", "ln", "wget", "curl")
_ELSEWHERE = ("/", "~", "..", "$", "data/", "./data/", "http", "scripts/../", "third_party/")
_OF_THE_REPOSITORY = {"train_gpt_mlx.py", "setup.py"}
"""Scripts at the top of the repository or of a package that is built."""
_INSTALLERS = re.compile(r"\b(?:pip3?|uv|conda|mamba|apt(?:-get)?|brew)\b[^\n]*?\b(?:install|add)\b([^\n]*)")


class Commands(NamedTuple):
    """The commands in a text."""

    runs: list[str]
    """Files of the folder that they run."""
    requirements: list[str]
    """Files of requirements that they install from."""
    installs: str
    """The text of the commands that install something."""


def commands_of(text: str, folder: str) -> Commands:
    """Returns the commands of a README.

    Args:
        text: of the README.
        folder: name of the record folder, by which paths into it are known.
    """
    runs: dict[str, None] = {}
    requirements: dict[str, None] = {}
    for block in _blocks(text):
        made, away = {*_OF_THE_REPOSITORY}, False
        for words in map(_words, _joined(block)):
            away = _leaves(words, folder, away) if "cd" in words else away
            made |= {_plain(name, folder) for word, name in pairwise(words) if word in _MAKERS}
            made |= {_plain(words[-1].rsplit("/", 1)[-1], folder)} if words and words[0] in _COPIERS else set()
            script = "" if away else _run_by(words)
            if script and _is_of_folder(script, folder) and _plain(script, folder) not in made:
                runs[_plain(script, folder)] = None
            for word, name in pairwise(words if not away and {"install", "sync"} & {*words} else ()):
                if word in ("-r", "--requirement") and _is_of_folder(name, folder):
                    requirements[_plain(name, folder)] = None
    installs = "\n".join(match[1] for match in _INSTALLERS.finditer(text))
    return Commands(list(runs), list(requirements), installs)


def _blocks(text: str) -> Iterator[list[str]]:
    """Yields the lines of each block of shell commands; each command between back-quotes is a block of its own."""
    fence, block = None, list[str]()
    for line in [*text.splitlines(), "```"]:  # the last one closes a block that is left open
        match = _FENCE.match(line)
        if match is not None:
            if fence in _SHELLS:
                yield block
            fence, block = (match[1].lower() if fence is None else None), []
        elif fence is not None:
            block.append(line)
        elif line.startswith(("    ", "\t")):
            yield [line.strip()]
        else:
            yield from ([inline] for inline in _INLINE.findall(line))


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Yields commands whose continued lines are joined; documents written in place are left out."""
    command, until = "", None
    for line in lines:
        if until is not None:
            until = None if line.strip() == until else until
            continue
        command += line.rstrip()
        if command.endswith("\\"):
            command = command[:-1] + " "
            continue
        here = re.search(r"<<-?\s*['\"]?(\w+)", command)
        until = here[1] if here else None
        yield from (part for part in re.split(r"&&|\|\||;|\|", command) if part.strip())
        command = ""


def _words(line: str) -> list[str]:
    """Returns the words of a command, without a prompt, comments and variables set before it."""
    try:
        words = shlex.split(line.strip().removeprefix("$ ").removeprefix("> "), comments=True)
    except ValueError:
        words = line.split()
    if words[:2] in _LAUNCHERS:
        words = words[2:] if len(words) > 2 and _PYTHON.match(words[2]) else ["python", *words[2:]]
    while words and _BEFORE_COMMAND.fullmatch(words[0]):
        words.pop(0)
    return words


def _leaves(words: list[str], folder: str, away: bool) -> bool:
    """Returns whether the shell is outside of the record folder after a `cd`."""
    path = next(iter(words[words.index("cd") + 1 :]), "~").rstrip("/")
    if path.endswith(folder) or "records/" in path or "<" in path:
        return False
    return not (away and path in ("..", "-"))


def _run_by(words: list[str]) -> str:
    """Returns the file that a command runs, "" for none: the first script after what runs scripts, or `./script`."""
    first = words[0] if words else ""
    if first.startswith("./") and first.endswith((".sh", ".py")):
        return first
    name = first if first.startswith("./") else first.rsplit("/", 1)[-1]
    module = "-m" in words[1:3] and "torch" not in " ".join(words[1:4])
    if module or not (name in _RUNNERS or _PYTHON.match(name)):
        return ""
    return next((word for word in words[1:] if re.fullmatch(r"[\w./$~{}<>-]+\.(?:py|sh)", word)), "")


def _is_of_folder(name: str, folder: str) -> bool:
    if folder in name.split("/"):
        return True
    return not name.startswith(_ELSEWHERE) and not re.search(r"[$<>{}*]|^records/", name)


def _plain(name: str, folder: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(parts[parts.index(folder) + 1 :] if folder in parts else parts)

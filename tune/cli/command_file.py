"""A command line that is written down in a YAML or TOML file: `name: value` for an option, and tables.

The tables env, arg, constant, space and set hold what is given as NAME=VALUE. `preset` or `script` says what is run.
What the command line itself gives comes instead of the same option, or the same name of a table, in the file.
"""

import argparse
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from golf.config.config import nearest

SUFFIXES = (".yaml", ".yml", ".toml")
_TABLES = ("env", "arg", "constant", "space", "set")
_SETTING, _SEARCHED = ("env", "arg", "constant", "set"), "space"
_NO_KEYS = ("help", "version", "print-completion")
_PRESET, _SCRIPT = "preset", "script"
MakeParser = Callable[[], argparse.ArgumentParser]


@dataclass(frozen=True)
class CommandLine:
    """The words of a command, with those of its file."""

    words: list[str]
    is_script: bool
    """Whether they are about a training script and not about a preset."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, of which YAML takes the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f'"{name}" is given twice', key.start_mark)
            seen.add(name)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_command(words: Sequence[str], of_preset: MakeParser, of_script: MakeParser) -> CommandLine:
    """Returns a command line with its file, where it names one, replaced by what that holds.

    Args:
        words: of the command line.
        of_preset: makes the parser of a command about a preset.
        of_script: makes the parser of the same command about a script.

    Raises: ValueError naming the file, the key, its value and what to write instead; OSError when it cannot be read.
    """
    names = _names(words, [of_preset(), of_script()])
    file = next((word for word in names if word.endswith(SUFFIXES)), None)
    if file is None:
        return CommandLine(list(words), any(word.endswith(".py") for word in names))
    path, rest = Path(file).expanduser(), list(words)
    rest.remove(file)
    content = _read(path)
    kinds = [kind for kind in (_PRESET, _SCRIPT) if kind in content]
    if len(kinds) != 1:
        has = "names no preset and no script" if not kinds else "names both a preset and a script"
        raise ValueError(f'{path} {has}; give one of them: preset = "demo", or script = "train_gpt.py"')
    target = content.pop(kinds[0])
    if not isinstance(target, str):
        raise ValueError(f"{path}: {kinds[0]} = {target!r} must be a text")
    is_script = kinds == [_SCRIPT]
    if is_script or target.endswith(".json"):
        target = str(path.parent / Path(target).expanduser())
    parser = of_script() if is_script else of_preset()
    return CommandLine([target, *_words_of(path, content, parser, _Given.of(rest, parser)), *rest], is_script)


def _names(words: Sequence[str], parsers: Sequence[argparse.ArgumentParser]) -> list[str]:
    """Returns the words that name a preset or a file: no options, none of their single values, no NAME=VALUE."""
    single = {
        option for parser in parsers for option, action in parser._option_string_actions.items() if action.nargs is None
    }
    previous = ["", *words[:-1]]
    pairs = zip(previous, words, strict=True) if words else ()
    return [word for before, word in pairs if before not in single and "=" not in word and not word.startswith("-")]


def _read(path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    try:
        content = tomllib.loads(text.decode()) if path.suffix == ".toml" else yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{path}: {line}{error.problem}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold options, as in trials: 16; got {str(content)[:40]!r}")
    return {str(key).replace("_", "-"): value for key, value in content.items()}


@dataclass(frozen=True)
class _Given:
    """What the command line gives itself."""

    options: frozenset[str]
    settings: frozenset[str]
    """Names of --space, --set, --env, --arg and --constant, as `_setting` writes them."""

    @classmethod
    def of(cls, words: Sequence[str], parser: argparse.ArgumentParser) -> "_Given":
        options, settings, option = set(), set(), ""
        for word in words:
            name, _, value = word.partition("=")
            action = parser._option_string_actions.get(name)
            if action is not None:
                option = action.option_strings[-1].removeprefix("--")
                options.add(option)
            held = word if action is None else value
            if option in _TABLES and "=" in held:
                settings.add(_setting(option, held.partition("=")[0]))
        return cls(frozenset(options), frozenset(settings))


def _setting(table: str, name: str) -> str:
    """Returns one name for a setting, whether it is searched or given."""
    return f"{table}.{name}" if table in ("arg", "constant") else name.removeprefix("env.")


def _words_of(path: Path, content: Mapping[str, Any], parser: argparse.ArgumentParser, given: _Given) -> Iterator[str]:
    actions = {
        option.removeprefix("--"): action
        for option, action in parser._option_string_actions.items()
        if option.startswith("--") and option.removeprefix("--") not in _NO_KEYS
    }
    for key, value in content.items():
        action = actions.get(key)
        if action is None:
            what = f"unknown table [{key}]" if isinstance(value, dict) else f'unknown key "{key}"'
            raise ValueError(f"{path}: {what}{_hint(key, actions)}")
        if value is None:
            raise ValueError(f"{path}: {key} has no value; give one, or leave it out")
        if key in _TABLES:
            if not isinstance(value, dict):
                raise ValueError(f"{path}: {key} = {value!r}: it is a table of NAME and VALUE, as [{key}] in TOML")
            for name, held in _flat(value):
                if _setting(key, name) not in given.settings:
                    yield from (f"--{key}", f"{name}={_text(path, key, name, held)}")
        elif isinstance(action, argparse._StoreTrueAction):
            if not isinstance(value, bool):
                raise ValueError(f"{path}: {key} = {value!r} must be true or false")
            yield from [f"--{key}"] if value else []
        elif key not in given.options:
            yield from _option(path, key, value, action)


def _option(path: Path, key: str, value: Any, action: argparse.Action) -> Iterator[str]:
    several = action.nargs == "+" or isinstance(action, argparse._AppendAction)
    if isinstance(value, list) and not several:
        raise ValueError(f"{path}: {key} = {value!r} takes one value, not a list")
    texts = [str(one) for one in (value if isinstance(value, list) else [value])]
    for one, text in zip(value if isinstance(value, list) else [value], texts, strict=True):
        if isinstance(one, bool | dict | list) or one is None:
            raise ValueError(f"{path}: {key} = {json.dumps(one)} must be a number or a text")
        if callable(action.type):
            try:
                action.type(text)
            except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
                raise ValueError(f"{path}: {key} = {text}: {error}") from error
    if action.nargs == "+":
        yield from (f"--{key}", *texts)
    else:
        yield from (f"--{key}={text}" for text in texts)


def _flat(table: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names with their values: ttt.lr is a name in YAML, and a table in a table in TOML."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _text(path: Path, table: str, name: str, value: Any) -> str:
    """Returns a value as a command line has it: choices A,B,..., true and lists as JSON, for scripts true as 1."""
    if isinstance(value, list) and table == _SEARCHED:
        texts = (_one(path, table, name, item) for item in value)
        return ",".join(json.dumps(text) if "," in text and text[0] not in "[{" else text for text in texts)
    return _one(path, table, name, value)


def _one(path: Path, table: str, name: str, value: Any) -> str:
    if isinstance(value, list) and table not in (_SEARCHED, "set"):
        raise ValueError(f"{path}: [{table}] {name} takes one value, choices belong into [space]")
    if isinstance(value, str):
        return value
    if isinstance(value, bool) and table in ("env", "arg", "constant"):
        return str(int(value))
    try:
        return json.dumps(value) if isinstance(value, list | dict | bool) or value is None else str(value)
    except TypeError as error:  # dates and the like
        raise ValueError(f"{path}: [{table}] {name} = {value}: write it in quotes") from error


def _hint(key: str, known: Mapping[str, object]) -> str:
    close = nearest(key, known).partition(" (known")[0]
    return close or "; --help lists all options"

"""The commands that the documents, the help texts and the messages show are commands that work."""

import argparse
import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from golf.cli.main import main, make_parser
from golf.cli.options import Parser
from tune.cli.parsers import SEED_EXAMPLES, TOOLS, seeds_parser, sweep_parser
from tune.cli.script_parsers import script_seeds_parser, script_sweep_parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
GENERATED = ROOT / "docs/reference"
"""Pages that the site alone has: docs/hooks/reference.py makes them."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCES = sorted([*ROOT.glob("golf/**/*.py"), *ROOT.glob("tune/**/*.py"), ROOT / "run_sweep.py", ROOT / "run_seeds.py"])


def shell_lines(text: str) -> Iterator[str]:
    """Lines of fenced and indented blocks, and inline code that looks like a command."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ")
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(program: str) -> list[list[str]]:
    """The words after `program` in every command of the documents that gives it any, comments left out."""
    found = []
    for document in DOCUMENTS:
        for line in shell_lines(document.read_text()):
            words = shlex.split(line.replace("\u2026", "..."), comments=True) if program in line else []
            size = len(program.split())
            at = next((n for n in range(len(words)) if words[n : n + size] == program.split()), None)
            if at is not None and words[at + size :]:
                found.append(words[at + size :])
    return found


def placeholders_filled(words: list[str]) -> list[str]:
    """Words in capitals stand for the reader's own."""
    names = {"PRESET": "demo", "N": "1", "S": "1", "FIELD=VALUE": "seed=1"}
    return [names.get(word.strip("[]."), word) for word in words if word != "..."]


def parsed_by(of_preset: Callable[[], Parser], of_script: Callable[[], Parser], words: list[str]) -> argparse.Namespace:
    """The words as a sweep or study of a preset or of a script has them; a file of options is one word there."""
    is_script = any(word.endswith((".py", ".toml", ".yaml")) for word in words)
    parsed: argparse.Namespace = (of_script if is_script else of_preset)().parse_args(words)
    return parsed


def parses(words: list[str]) -> bool:
    """Whether `python -m golf` takes the words; --help ends parsing with success."""
    try:
        make_parser().parse_args(placeholders_filled(words))
    except SystemExit as ended:
        return not ended.code
    return True


def test_the_readme_shows_commands() -> None:
    """Fault: the tests below look at nothing."""
    assert len(commands("-m golf")) >= 4
    assert ["sweep"] in commands("make")
    assert ["test"] in commands("make")


@pytest.mark.parametrize("words", commands("-m golf"), ids=" ".join)
def test_golf_commands_parse(words: list[str]) -> None:
    """Fault: a document shows a command or an option that is not there."""
    assert parses(words)


@pytest.mark.parametrize("words", [words for words in commands("-m golf") if words[0] in ("info", "fields")])
def test_cheap_golf_commands_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a shown command parses and then fails."""
    assert main(words) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_make_targets_exist(words: list[str]) -> None:
    """Fault: a document names a target that the Makefile does not have."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    done = subprocess.run([make, "-n", *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def sweep_commands() -> list[list[str]]:
    """Arguments of every run_sweep.py in documents and Makefile; without any it is the file that is meant."""
    in_makefile = re.findall(r"run_sweep\.py (.*)", (ROOT / "Makefile").read_text())
    return [words for words in (*commands("run_sweep.py"), *map(shlex.split, in_makefile)) if words]


def test_sweep_commands_parse() -> None:
    """Fault: a document or the Makefile starts a sweep with an option that is not there."""
    parse_sweep = partial(parsed_by, sweep_parser, script_sweep_parser)
    for words in (["demo", "--dry-run"], *sweep_commands()):
        with contextlib.suppress(SystemExit) if {"--help", "--version"} & {*words} else contextlib.nullcontext():
            parse_sweep(placeholders_filled([word for word in words if not word.startswith("$(")]))


def tool_parses(name: str, *words: str) -> None:
    """Parses a command of golf-sweep that runs no trials; its name alone, as in `store gc`, stands in sentences."""
    if not all(map(str.isalpha, words)):
        TOOLS[name]().parse_args(words)


def test_commands_of_the_installed_package_parse() -> None:
    """Fault: a document shows golf-sweep or golf-seeds with an option that is not there."""
    shown = [words for words in commands("golf-sweep") if not words[0].startswith("-")]
    assert shown
    for words in shown:
        if words[0] in TOOLS:
            tool_parses(*words)
        else:
            parsed_by(sweep_parser, script_sweep_parser, words)


def test_tools_commands_parse() -> None:
    """Fault: a document shows a report, or a command on ledger, store or mirror, with an option that is not there."""
    shown = commands("-m tune")
    assert {words[0] for words in shown} >= {"report", "ledger", "store", "mirror", "import"}
    for words in shown:
        tool_parses(*words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    """Fault: a link of a page is broken where the repository is read; `make docs` follows those of the site."""
    for link in LINK.findall(document.read_text()):
        path, _, _ = link.partition("#")
        target = (document.parent / path).resolve()
        if "://" not in link and path and target.parent != GENERATED:
            assert target.exists(), link


def test_seeds_commands_parse() -> None:
    """Fault: the README or the examples of --help start a seed study with an option that is not there."""
    examples = re.findall(r"run_seeds\.py (.*?)  ", SEED_EXAMPLES)
    shown = [*commands("run_seeds.py"), *(words.split() for words in examples)]
    assert len(shown) >= 10
    for words in shown:
        if words:
            parsed_by(seeds_parser, script_seeds_parser, words)


@pytest.mark.parametrize("script", ["run_sweep.py", "run_seeds.py"])
def test_help_of_the_scripts(script: str) -> None:
    """Fault: a format character in a help text breaks --help, or it needs a cluster."""
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "PRESET" in done.stdout.upper()


HELPS = [
    "",
    "info",
    "fields",
    "run",
    "train",
    "pack",
    "score",
    "ttt",
    "submit",
    "check",
    "import",
    "data",
    "data prepare",
    "data fineweb",
]


@pytest.mark.parametrize("command", HELPS)
def test_examples_in_the_help_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: --help of a command fails, or shows an example that does."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    epilog = re.split("(?m)^(?:examples|first steps):$", capsys.readouterr().out)[-1]
    shown = re.findall(r"^  .*-m golf (\S.*?)(?:   .*)?$", epilog, re.MULTILINE)
    assert shown or command == "data"
    for line in shown:
        assert parses(shlex.split(line)), line


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_commands_in_messages_parse(path: Path) -> None:
    """Fault: an error's remedy is a command that does not exist."""
    for line in re.findall(r"`python -m golf ([^`]*)`", path.read_text()):
        words = [re.sub(r"\{[^}]*\}", "x", word) for word in line.split()]
        assert not words or "x" in words[:1] or parses(words), line

"""The pages of the reference, made from the parsers, the dataclasses and the docstrings.

Nothing here runs a command or imports PyTorch, Ray or MLflow: parsers and configurations are light, and the Python API
is read from the sources.
"""

import argparse
import ast
import dataclasses
import html
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.cli.main import make_parser
from golf.config.config import RunConfig, to_plain
from golf.config.presets import PRESETS, SPLITS
from tune.cli.parsers import TOOLS, seeds_parser, sweep_parser
from tune.cli.script_parsers import script_seeds_parser, script_sweep_parser

ROOT = Path(__file__).resolve().parents[2]
USAGE_COLUMNS = 88
"""Width of a usage line; argparse would take the terminal's."""

API: Mapping[str, Mapping[str, Sequence[str]]] = {
    "Three verbs": {"tune.api": ("sweep", "seeds", "load", "Results")},
    "Configurations": {
        "golf.config.presets": ("find_preset", "find_split", "with_split"),
        "golf.config.config": ("override", "override_all", "to_plain", "from_plain"),
    },
    "Data": {"golf.data.dataset": ("Dataset", "open_dataset")},
    "One run": {
        "golf.pipeline.stage_context": ("StageContext",),
        "golf.pipeline.stages": ("run_stages",),
        "golf.pipeline.bundle": ("counted_code", "code_bytes"),
    },
    "Artifacts": {
        "golf.artifact.pack": ("pack", "unpack", "read_artifact"),
        "golf.artifact.container": ("ArtifactError",),
        "golf.artifact.byte_breakdown": ("byte_ledger",),
    },
    "Scoring": {"golf.evaluate.sliding": ("score",), "golf.evaluate.ttt": ("score_with_ttt",)},
    "The ledger": {
        "tune.records.ledger": ("Ledger",),
        "tune.records.entries": ("TrialEntry", "Outcome", "TrialState", "FailureKind", "Failure", "Series"),
    },
    "Seed studies": {"tune.study.runs": ("study_of", "Study"), "tune.study.bootstrap": ("paired_bootstrap",)},
    "Workloads": {"tune.workloads.base": ("Workload",)},
}
"""What a program of one's own calls, by subject and module."""


def pages() -> dict[str, str]:
    """Returns the Markdown of every page of the reference by its path below docs/."""
    return {
        "reference/golf-sweep.md": _sweep_page(),
        "reference/golf-seeds.md": _seeds_page(),
        "reference/golf.md": _golf_page(),
        "reference/configuration.md": _configuration_page(),
        "reference/presets.md": _presets_page(),
        "reference/python.md": _python_page(),
    }


def _sweep_page() -> str:
    opening = (
        "# golf-sweep\n\n`golf-sweep` is `python run_sweep.py` of a checkout, and `python -m tune`. Its first word "
        "says what it does: the name of a preset or a configuration's file, a training script, or one of the commands "
        f"{', '.join(f'`{name}`' for name in TOOLS)}, which run no trials."
    )
    parts = [opening, _command("A preset", sweep_parser()), _command("A training script", script_sweep_parser())]
    return "\n\n".join(parts + [_command(name, tool()) for name, tool in TOOLS.items()])


def _seeds_page() -> str:
    opening = "# golf-seeds\n\n`golf-seeds` is `python run_seeds.py` of a checkout."
    presets, scripts = _command("A preset", seeds_parser()), _command("A training script", script_seeds_parser())
    return f"{opening}\n\n{presets}\n\n{scripts}"


def _golf_page() -> str:
    parser = make_parser()
    opening = "# golf\n\n`golf` is `python -m golf`: one run, alone or under torchrun, without Ray and MLflow."
    parts = [opening, f"```text\n{parser.epilog}\n```"]
    return "\n\n".join(parts + [_command(name, sub) for name, sub in _commands_of(parser)])


def _commands_of(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """Returns the commands below a parser by name; none for a parser without commands."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return list(found[0].items()) if found else []


def _command(title: str, parser: argparse.ArgumentParser, level: int = 2) -> str:
    """Returns a section: usage, description, options by group, examples, and the commands below."""
    parts = [f"{'#' * level} {title}", _prose(parser.description or "")]
    formatter = argparse.HelpFormatter(parser.prog, width=USAGE_COLUMNS)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    parts.append(f"```text\n{formatter.format_help().strip()}\n```")
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not _is_left_out(action)]
        if actions:
            rows = "\n".join(_option_row(parser, action) for action in actions)
            parts.append(f"| {group.title} | |\n|---|---|\n{rows}")
    if parser.epilog and level < 4:
        parts.append(f"```text\n{parser.epilog}\n```")
    parts += [_command(f"{title} {name}", sub, level + 1) for name, sub in _commands_of(parser)]
    return "\n\n".join(part for part in parts if part)


def _is_left_out(action: argparse.Action) -> bool:
    return isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help == argparse.SUPPRESS


def _option_row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Returns an option's row: its names with what follows them, and its help."""
    formatter = parser._get_formatter()
    names = formatter._format_action_invocation(action)
    return f"| {_code(names)} | {_cell(formatter._expand_help(action) if action.help else '')} |"


def _code(text: str) -> str:
    """Returns text as code that stands in a table's cell."""
    return f"<code>{_escaped(text)}</code>"


def _cell(text: str) -> str:
    """Returns text for a table's cell, in which words in back quotes are code and nothing else is Markdown."""
    parts = re.split("`([^`]+)`", text)
    return "".join(_code(part) if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Returns text on one line, in which nothing is Markdown, HTML or the border of a cell."""
    escaped = html.escape(re.sub(r"\s+", " ", text), quote=False)
    for mark in "|*_`[]\\":
        escaped = escaped.replace(mark, f"&#{ord(mark)};")
    return escaped


def _prose(text: str) -> str:
    """Returns a help text's paragraphs as Markdown that shows every character."""
    return "\n\n".join(_cell(paragraph) for paragraph in text.split("\n\n"))


def _configuration_page() -> str:
    opening = (
        "# Configuration\n\nA run is one `RunConfig`. Every field has a dotted name, which `--set` and `--space` take: "
        "`--set schedule.steps=9000 ttt=null`, `--space optimizer.matrix_lr=log:0.01..0.05`. A part that is `None` is "
        "set whole: `--set 'model.attention_gate={\"channels\":12}'`. Defaults are those of the dataclasses; "
        "[presets](presets.md) change them. `python -m golf fields PREFIX --preset NAME` prints the same with a "
        "preset's values. A wrong name or value is refused with the rule and the nearest right name."
    )
    return "\n\n".join([opening, *_sections(RunConfig, "", RunConfig())])


def _sections(kind: type, prefix: str, defaults: Any) -> Iterator[str]:
    """Yields the section of a dataclass's fields, then those of the dataclasses in it.

    Args: prefix: dotted name of the part, with a dot at its end; defaults: a record, for the values of its fields.
    """
    notes, hints, rows, parts = _field_notes(kind), typing.get_type_hints(kind), [], []
    for field in dataclasses.fields(kind):
        path, part, value = prefix + field.name, _dataclass_in(hints[field.name]), getattr(defaults, field.name)
        if part is not None:
            parts.append((part, f"{path}.", part() if value is None else value))
        is_part = dataclasses.is_dataclass(value)
        shown = f"[below](#{_anchor(path)})" if is_part else _code(json.dumps(_plain(value)))
        kind_text = _code(_type_text(hints[field.name]))
        rows.append(f"| {_code(path)} | {kind_text} | {shown} | {_cell(notes[field.name])} |")
    table = "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])
    yield f"## {prefix.rstrip('.') or 'The run'}\n\n{_prose(inspect.getdoc(kind) or '')}\n\n{table}"
    for part, inner, value in parts:
        yield from _sections(part, inner, value)


def _anchor(path: str) -> str:
    """Returns the anchor of a part's heading, as the site makes it."""
    return path.replace(".", "")


def _dataclass_in(hint: Any) -> type | None:
    """Returns the dataclass that a field's type is, or is beside None."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _type_text(hint: Any) -> str:
    """Returns a type as it is written: names without their modules."""
    if hint is types.NoneType:
        return "None"
    if isinstance(hint, types.UnionType):
        return " | ".join(map(_type_text, typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(json.dumps(choice) for choice in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _field_notes(kind: type) -> dict[str, str]:
    """Returns the string below each field in a dataclass's source. Raises: KeyError later, for a field without one."""
    [tree] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    notes = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            notes[ast.unparse(field.target)] = str(text.value.value)
    return notes


def _presets_page() -> str:
    opening = (
        "# Presets and splits\n\nA preset is a whole configuration. The tables show where it differs from the defaults "
        "of the [configuration](configuration.md); `python -m golf info PRESET` prints its size, its plan in brief and "
        "the bytes to expect."
    )
    defaults = _flat(to_plain(RunConfig()))
    parts = [opening]
    for name, config in PRESETS.items():
        changed = {path: value for path, value in _flat(to_plain(config)).items() if defaults.get(path, ...) != value}
        rows = [f"| {_code(path)} | {_code(json.dumps(value))} |" for path, value in changed.items()]
        table = "\n".join(["| field | value |", "|---|---|", *rows]) if rows else "The defaults."
        parts.append(f"## {name}\n\n{table}")
    groups = ("attention", "mlp", "token_embedding", "tables")
    rows = [
        f"| {_code(name)} | {' | '.join(str(getattr(split, group).bits) for group in groups)} | {split.mlp.method} |"
        for name, split in SPLITS.items()
    ]
    heads = " | ".join(("split", *groups, "codes of attention and MLP"))
    table = "\n".join([f"| {heads} |", "|---|---|---|---|---|---|", *rows])
    return "\n\n".join(
        [*parts, f"## Quantisation splits\n\nBits by group of tensors, for `--split` and `split=`.\n\n{table}"]
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _python_page() -> str:
    opening = (
        "# Python\n\nWhat a program of your own may call. Version 0.1: names can still change, and "
        "[the changelog](../../CHANGELOG.md) says so. The three verbs are in `tune` itself, "
        "too: `from tune import load, seeds, sweep`. [Examples](../how-to/python.md) use them."
    )
    parts = [opening]
    for subject, modules in API.items():
        parts.append(f"## {subject}")
        parts += [_definition(module, name) for module, names in modules.items() for name in names]
    return "\n\n".join(parts)


def _definition(module: str, name: str) -> str:
    """Returns the section of a class or function of a module, from its source. Raises: StopIteration without one."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    node = next(node for node in tree.body if isinstance(node, kinds) and node.name == name)
    parts = [f"### {module}.{name}", f"```python\n{_signature(node)}\n```", _doc(node)]
    if isinstance(node, ast.ClassDef):
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")]
        notes = list(zip(node.body, node.body[1:], strict=False))
        fields = [
            (field, text) for field, text in notes if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
        ]
        rows = [
            f"| {_code(ast.unparse(field.target))} | {_code(ast.unparse(field.annotation))} | {_cell(_text_of(text))} |"
            for field, text in fields
        ]
        if rows:
            parts.append("\n".join(["| field | type | meaning |", "|---|---|---|", *rows]))
        parts += [f"`{_signature(method)}`\n\n{_doc(method)}" for method in methods]
    return "\n\n".join(parts)


def _text_of(node: ast.Expr) -> str:
    return str(node.value.value) if isinstance(node.value, ast.Constant) else ""


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Returns the head of a definition on one line."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def _doc(node: ast.FunctionDef | ast.ClassDef) -> str:
    return "\n\n".join(_cell(part) for part in (ast.get_docstring(node) or "").split("\n\n"))

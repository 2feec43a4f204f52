"""The settings of a training script, read from its source: environment variables, flags and constants.

The source is parsed, never imported or run. Code that a script unpacks and executes (`exec(lzma.decompress(...))`) is
unpacked as data and read too. A script that only a newer Python parses is searched line by line.
"""

import ast
import codecs
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from golf.scripts.settings import KINDS, Kind, Setting, kind_of_value, source_of, value_in
from golf.scripts.variables import variables_by_line, variables_in
from golf.submission.record_folder.sources import Source, read_source, syntax_error

_SETTINGS_CLASS = re.compile(r"hyper|config|args|settings|param", re.IGNORECASE)
"""Names of classes whose fields are settings."""


@dataclass(frozen=True)
class Constant(Setting):
    """A constant at the top level of the script, or a field of a class of settings (`Class.field`)."""

    span: tuple[int, int] | None
    """First byte of its value in the source and the first after it; None where it cannot be changed: in code that the
    script unpacks, or in another encoding than UTF-8."""


@dataclass(frozen=True)
class ScriptInputs:
    """All settings of a script by their names, in the order of the source."""

    variables: Mapping[str, Setting]
    """Environment variables."""
    flags: Mapping[str, Setting]
    """Flags of argparse, without the dashes."""
    constants: Mapping[str, Constant]
    computed: tuple[int, ...]
    """Lines that read a variable whose name is only made when the script runs; 0 in code that it unpacks."""
    source: Source
    """What else is seen of the source."""
    text: str
    """The source with what it unpacks and executes, without comments where it can be parsed."""


def read_inputs(data: bytes) -> ScriptInputs:
    """Returns the settings of a script.

    Args:
        data: the file.

    Raises:
        ValueError: when it is no Python.
    """
    source = read_source(data)
    if source.error:
        raise ValueError(f"it is no Python: {source.error}")
    variables, flags, constants = dict[str, Setting](), dict[str, Setting](), dict[str, Constant]()
    texts, computed = list[str](), list[int]()
    for layer in (data, *source.layers):
        if syntax_error(layer):
            by_line = (found if layer is data else _unpacked(found) for found in variables_by_line(layer))
            variables = {**{found.name: found for found in by_line}, **variables}
            texts.append(layer.decode("utf-8", "replace"))
            continue
        tree, outer = _parsed(layer), layer is data
        named, unnamed = variables_in(tree)
        variables = {**{found.name: found if outer else _unpacked(found) for found in named}, **variables}
        computed += [line if outer else 0 for line in unnamed]
        flags = {**{flag.name: flag if outer else _unpacked(flag) for flag in _flags(tree)}, **flags}
        constants = {**{found.name: found for found in _constants(tree, layer, outer)}, **constants}
        texts.append(_without_comments(tree, layer))
    ordered = dict(sorted(variables.items(), key=lambda named: named[1].line))
    return ScriptInputs(ordered, flags, constants, tuple(dict.fromkeys(computed)), source, "\n".join(texts))


def _parsed(layer: bytes) -> ast.Module:
    with warnings.catch_warnings(action="ignore"):  # of its escapes
        return ast.parse(layer)


def _without_comments(tree: ast.Module, layer: bytes) -> str:
    try:
        return ast.unparse(tree)
    except (RecursionError, ValueError):  # too deep; an integer with too many digits
        return layer.decode("utf-8", "replace")


def with_constants(data: bytes, constants: Mapping[str, Constant], values: Mapping[str, str]) -> bytes:
    """Returns the source with other values of constants.

    Args:
        data: the file.
        constants: of `read_inputs`.
        values: name -> value; texts without quotes.

    Raises:
        ValueError: for a constant in packed code, or a value of another type than the source's.
    """
    changes = []
    for name, value in values.items():
        constant = constants[name]
        if constant.span is None:
            raise ValueError(
                f"the constant {name} cannot be changed in packed code; unpack the script, as UTF-8, first"
            )
        changes.append((constant.span, literal(constant, value).encode()))
    for (begin, end), text in sorted(changes, reverse=True):
        data = data[:begin] + text + data[end:]
    return data


def literal(setting: Setting, value: str) -> str:
    """Returns a value as Python source of the setting's type. Raises: ValueError for a value of another type."""
    try:
        if setting.kind == "int":
            return repr(int(value))
        if setting.kind == "float":
            number = float(value)
            return repr(number) if math.isfinite(number) else f'float("{number}")'
        if setting.kind == "bool":
            return {"0": "False", "false": "False", "1": "True", "true": "True"}[value.lower()]
    except (ValueError, KeyError):
        raise ValueError(f"{setting.name} is {_a(setting.kind)} in the script, got {value!r}") from None
    return repr(value)


def check_value(setting: Setting, value: str) -> None:
    """Raises ValueError for a value that the script's own conversion of the setting would not take."""
    if setting.kind in ("int", "float"):
        literal(setting, value)
    if setting.kind == "bool" and value not in ("0", "1") and value.lower() not in ("true", "false"):
        raise ValueError(f"{setting.name} is {_a(setting.kind)} in the script, got {value!r}; give 0 or 1")


def _a(kind: Kind) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "a switch", "str": "a text"}[kind]


def _unpacked(setting: Setting) -> Setting:
    return Setting(setting.name, setting.kind, setting.default, 0)


def _flags(tree: ast.Module) -> Iterator[Setting]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr != "add_argument":
            continue
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        names = [text for text in texts if text.startswith("--")]
        if not names:
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        action = given.get("action")
        actions = {getattr(action, "value", ""), getattr(action, "attr", ""), getattr(action, "id", "")}
        switch = not actions.isdisjoint(("store_true", "store_false", "BooleanOptionalAction"))
        cast = given.get("type")
        kind = next((known for known in KINDS if isinstance(cast, ast.Name) and cast.id == known), None)
        default = given.get("default")
        value = None if default is None else value_in(default)
        found: Kind = "bool" if switch else kind or kind_of_value(value)
        text = None if default is None or getattr(default, "value", "") is None else source_of(default)
        yield Setting(max(names, key=len).lstrip("-"), found, text, node.lineno)


def _constants(tree: ast.Module, data: bytes, outer: bool) -> Iterator[Constant]:
    """Yields constants that are bound once, to a literal."""
    starts = [len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0]
    for line in data.splitlines(keepends=True):
        starts.append((starts[-1] if len(starts) > 1 else 0) + len(line))
    bodies: list[tuple[str, Sequence[ast.stmt]]] = [("", tree.body)]
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and _SETTINGS_CLASS.search(node.name))
    bodies += [(f"{node.name}.", node.body) for node in classes]
    for prefix, body in bodies:
        values: dict[str, list[ast.expr]] = {}
        for node in body:
            target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                values.setdefault(target.id, []).append(node.value)
        for name, found in values.items():
            value = value_in(found[0])
            if len(found) > 1 or not isinstance(value, (bool, int, float, str)):
                continue
            if not prefix and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
                continue
            node_of = found[0]
            assert node_of.end_lineno is not None
            assert node_of.end_col_offset is not None
            first = starts[node_of.lineno - 1] + node_of.col_offset
            last = starts[node_of.end_lineno - 1] + node_of.end_col_offset
            span = (first, last) if outer and _evaluates(data[first:last], value) else None
            number = node_of.lineno if outer else 0
            yield Constant(f"{prefix}{name}", kind_of_value(value), str(value), number, span)


def _evaluates(text: bytes, value: object) -> bool:
    """Whether a text is that value: not so where columns were counted in another encoding."""
    try:
        return value_in(ast.parse(b"(" + text + b")", mode="eval").body) == value
    except (SyntaxError, ValueError):
        return False

"""The settings of a training script, read from its source: environment variables, flags and constants.

The source is parsed, never imported or run. Code that a script unpacks and executes (`exec(lzma.decompress(...))`) is
unpacked as data and read too. A script that only a newer Python parses is searched line by line.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from golf.submission.record_folder.sources import Source, read_source, syntax_error

Kind = Literal["int", "float", "bool", "str"]
_KINDS: tuple[Kind, ...] = ("int", "float", "bool", "str")
_GETTERS = {"get", "setdefault", "pop"}
_SETTINGS_CLASS = re.compile(r"hyper|config|args|settings|param", re.IGNORECASE)
"""Names of classes whose fields are settings."""
_LINE = re.compile(
    r"""(?:environ(?:\.(?:get|setdefault|pop))?|getenv)\s*[\[(]\s*["'](\w+)["']\s*(?:,\s*([^()\n]*?)\s*)?[\])]"""
)
"""An environment variable in the text of a script that cannot be parsed, with its default."""


@dataclass(frozen=True)
class Setting:
    """A setting of a script."""

    name: str
    kind: Kind
    """Type that the script gives it."""
    default: str | None
    """Its default as the source has it, quotes of texts left out; None: it has none."""
    line: int
    """Line of the source, 1 the first; 0 in code that the script unpacks."""


@dataclass(frozen=True)
class Constant(Setting):
    """A constant at the top level of the script, or a field of a class of settings (`Class.field`)."""

    span: tuple[int, int] | None
    """First byte of its value in the source and the first after it; None in code that the script unpacks."""


@dataclass(frozen=True)
class ScriptInputs:
    """All settings of a script by their names, in the order of the source."""

    variables: Mapping[str, Setting]
    """Environment variables."""
    flags: Mapping[str, Setting]
    """Flags of argparse, without the dashes."""
    constants: Mapping[str, Constant]
    source: Source
    """What else is seen of the source."""
    text: str
    """The source with what it unpacks and executes."""


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
    for layer in (data, *source.layers):
        if syntax_error(layer):
            variables = {**{found.name: found for found in _by_line(layer)}, **variables}
            continue
        with warnings.catch_warnings(action="ignore"):  # of its escapes
            tree = ast.parse(layer)
        outer = layer is data
        for variable in _variables(tree):
            known = variables.get(variable.name)
            if known is None or (known.default is None and variable.default is not None):
                variables[variable.name] = variable if outer else _unpacked(variable)
        flags = {**{flag.name: flag if outer else _unpacked(flag) for flag in _flags(tree)}, **flags}
        constants = {**{found.name: found for found in _constants(tree, layer, outer)}, **constants}
    text = "\n".join(layer.decode("utf-8", "replace") for layer in (data, *source.layers))
    ordered = dict(sorted(variables.items(), key=lambda named: named[1].line))
    return ScriptInputs(ordered, flags, constants, source, text)


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
            raise ValueError(f"the constant {name} is in packed code, which is not changed; unpack the script first")
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
            return repr(float(value))
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


def _by_line(data: bytes) -> Iterator[Setting]:
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        for match in _LINE.finditer(line):
            before = line[: match.start()].rstrip()
            cast = next((kind for kind in _KINDS if re.search(rf"\b{kind}\((?:os\.)?$", before)), None)
            default = (match[2] or "").strip("\"' ") or None
            yield Setting(match[1], cast or "str", default, number)


class _Environment:
    """The names under which a module reaches its environment: `os.environ`, what is bound to it, and functions."""

    def __init__(self, tree: ast.Module) -> None:
        self.dictionaries, self.getters = {"environ"}, {"getenv"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                value = node.value
                if self.is_dictionary(value):
                    self.dictionaries.add(node.targets[0].id)
                elif isinstance(value, ast.Attribute) and (
                    value.attr == "getenv" or (value.attr in _GETTERS and self.is_dictionary(value.value))
                ):
                    self.getters.add(node.targets[0].id)

    def is_dictionary(self, node: ast.expr) -> bool:
        """Whether an expression is the environment or a copy of it."""
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id == "dict" and len(node.args) == 1:
                return self.is_dictionary(node.args[0])
            return (
                isinstance(function, ast.Attribute) and function.attr == "copy" and self.is_dictionary(function.value)
            )
        if isinstance(node, ast.Attribute):
            return node.attr == "environ"
        return isinstance(node, ast.Name) and node.id in self.dictionaries

    def lookup(self, node: ast.AST) -> tuple[ast.expr, ast.expr | None] | None:
        """Returns (name, default) of an expression that reads a variable; None for others."""
        if isinstance(node, ast.Call) and node.args:
            function = node.func
            is_getter = (
                function.attr == "getenv" or (function.attr in _GETTERS and self.is_dictionary(function.value))
                if isinstance(function, ast.Attribute)
                else isinstance(function, ast.Name) and function.id in self.getters
            )
            if is_getter:
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                return node.args[0], node.args[1] if len(node.args) > 1 else named.get("default")
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and self.is_dictionary(node.value):
            return node.slice, None
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            return (node.left, None) if self.is_dictionary(node.comparators[0]) else None
        return None


@dataclass(frozen=True)
class _Helper:
    """A function of the script that reads the variable which one of its parameters names."""

    name_position: int
    default_position: int | None
    kind: Kind | None


def _variables(tree: ast.Module) -> Iterator[Setting]:
    """Yields the environment variables that a module reads, also through functions of its own."""
    environment = _Environment(tree)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    helpers = {name: helper for name, function in _functions(tree) if (helper := _helper(function, environment))}
    for node in ast.walk(tree):
        read, kind = environment.lookup(node), None
        if read is None and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = helpers.get(node.func.id)
            if helper is not None and len(node.args) > helper.name_position:
                position = helper.default_position
                default = node.args[position] if position is not None and len(node.args) > position else None
                read = node.args[helper.name_position], default
                named = next((arg.id for arg in node.args if isinstance(arg, ast.Name) and arg.id in _KINDS), None)
                kind = helper.kind or next((known for known in _KINDS if known == named), None)
        if read is None or not isinstance(read[0], ast.Constant) or not isinstance(read[0].value, str):
            continue
        default_text = None if read[1] is None else _source_of(read[1])
        assert isinstance(node, ast.expr)
        kind = kind or _cast(node, parents) or _kind_of(read[1])
        yield Setting(read[0].value, kind, default_text, node.lineno)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.Lambda]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def _helper(function: ast.FunctionDef | ast.Lambda, environment: _Environment) -> _Helper | None:
    parameters = [argument.arg for argument in function.args.args]
    inner = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(function):
        read = environment.lookup(node)
        if read is not None and isinstance(read[0], ast.Name) and read[0].id in parameters:
            assert isinstance(node, ast.expr)
            default = read[1].id if isinstance(read[1], ast.Name) else "default"
            default = default if default in parameters else next(iter(parameters[1:2]), "")
            position = parameters.index(default) if default in parameters else None
            return _Helper(parameters.index(read[0].id), position, _cast(node, inner))
    return None


def _cast(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> Kind | None:
    """Returns the type that the expressions around a value give it; None where they give none."""
    kind: Kind | None = None
    outer: ast.AST | None = parents.get(node)
    while isinstance(outer, (ast.Call, ast.Compare, ast.BoolOp, ast.IfExp, ast.Attribute)):
        if isinstance(outer, ast.Compare):
            return "bool" if kind is None and any(isinstance(op, (ast.Eq, ast.In)) for op in outer.ops) else kind
        if isinstance(outer, ast.Call) and isinstance(outer.func, ast.Name) and outer.func.id in _KINDS:
            kind = next(known for known in _KINDS if known == outer.func.id)
        outer = parents.get(outer)
    return kind


def _kind_of(default: ast.expr | None) -> Kind:
    return _kind_of_value(None if default is None else _value(default))


def _kind_of_value(value: object) -> Kind:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "str"


def _value(node: ast.expr) -> object:
    """Returns the value of a literal, or of arithmetic on numbers; None for anything else."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        pass
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
        value = _value(node.args[0])
        return None if value is None else str(value)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Pow) and 0 <= right <= 64 and abs(left) <= 64:
                return left**right
    return None


def _source_of(node: ast.expr) -> str:
    """Returns a default as text: its value where that is a literal, else the expression."""
    value = _value(node)
    return str(value) if isinstance(value, (bool, int, float, str)) else ast.unparse(node)[:200]


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
        switch = isinstance(action, ast.Constant) and str(action.value).startswith("store_")
        cast = given.get("type")
        kind = next((known for known in _KINDS if isinstance(cast, ast.Name) and cast.id == known), None)
        default = given.get("default")
        value = None if default is None else _value(default)
        found: Kind = "bool" if switch else kind or _kind_of_value(value)
        text = None if default is None or value is None else _source_of(default)
        yield Setting(max(names, key=len).lstrip("-"), found, text, node.lineno)


def _constants(tree: ast.Module, data: bytes, outer: bool) -> Iterator[Constant]:
    """Yields constants that are bound once, to a literal."""
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
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
            value = _value(found[0])
            if len(found) > 1 or not isinstance(value, (bool, int, float, str)):
                continue
            if not prefix and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
                continue
            node_of = found[0]
            assert node_of.end_lineno is not None
            assert node_of.end_col_offset is not None
            first = starts[node_of.lineno - 1] + node_of.col_offset
            last = starts[node_of.end_lineno - 1] + node_of.end_col_offset
            span = (first, last) if outer else None
            number = node_of.lineno if outer else 0
            yield Constant(f"{prefix}{name}", _kind_of_value(value), str(value), number, span)

"""The environment variables that a module reads, from its syntax tree or, where it has none, line by line."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from golf.scripts.settings import KINDS, Kind, Setting, kind_of, source_of

_GETTERS = {"get", "setdefault", "pop"}
_SWITCHED = {"0", "1", "true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", ""}
"""Texts, in small letters, that a switch is compared with; a text that is compared with others is a choice."""
_PASSING = (ast.Call, ast.BoolOp, ast.IfExp, ast.Attribute)
"""Expressions whose value may be that of a part."""
_LINE = re.compile(
    r"""(?:environ(?:\.(?:get|setdefault|pop))?|getenv)\s*[\[(]\s*["'](\w+)["']\s*(?:,\s*([^()\n]*?)\s*)?[\])]"""
)
"""An environment variable in the text of a script that cannot be parsed, with its default."""


def variables_by_line(data: bytes) -> Iterator[Setting]:
    """Yields the variables that the lines of a text read."""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        for match in _LINE.finditer(line):
            before = line[: match.start()].rstrip()
            cast = next((kind for kind in KINDS if re.search(rf"\b{kind}\((?:os\.)?$", before)), None)
            default = (match[2] or "").strip("\"' ") or None
            yield Setting(match[1], cast or "str", default, number)


class _Environment:
    """The names under which a module reaches its environment: `os.environ`, what is bound to it, and functions."""

    def __init__(self, tree: ast.Module) -> None:
        self.dictionaries, self.getters = {"environ"}, {"getenv"}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                self.dictionaries |= {alias.asname or "" for alias in node.names if alias.name == "environ"} - {""}
                self.getters |= {alias.asname or "" for alias in node.names if alias.name == "getenv"} - {""}
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
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
        if isinstance(node, ast.Call):
            function = node.func
            is_getter = (
                function.attr == "getenv" or (function.attr in _GETTERS and self.is_dictionary(function.value))
                if isinstance(function, ast.Attribute)
                else isinstance(function, ast.Name) and function.id in self.getters
            )
            name = _argument(node, 0, "key") if is_getter else None
            return None if name is None else (name, _argument(node, 1, "default"))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and self.is_dictionary(node.value):
            return node.slice, None
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            return (node.left, None) if self.is_dictionary(node.comparators[0]) else None
        return None


@dataclass(frozen=True)
class _Helper:
    """A function of the script that reads the variable which one of its parameters names."""

    name: tuple[int, str]
    """Position and name of that parameter."""
    default: tuple[int, str] | None
    """The same of the parameter with the default."""
    kind: Kind | None


def variables_in(tree: ast.Module) -> tuple[list[Setting], list[int]]:
    """Returns the variables that a module reads, also through functions of its own, and lines with computed names.

    Of several reads of one variable the first that converts it says the type, the first with a default the default.
    """
    environment = _Environment(tree)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    helpers, inside = _helpers(tree, environment)
    found, computed = dict[str, list[tuple[int, Kind | None, ast.expr | None]]](), list[int]()
    for node in ast.walk(tree):
        read, kind = environment.lookup(node), None
        if read is None and isinstance(node, ast.Call):
            read, kind = _read_by_helper(node, helpers)
        if read is None or not isinstance(node, ast.expr):
            continue
        if isinstance(read[0], ast.Constant) and isinstance(read[0].value, str):
            reads = found.setdefault(read[0].value, [])
            reads.append((node.lineno, kind or _cast(node, parents), read[1]))
        elif id(node) not in inside:
            computed.append(node.lineno)
    settings = []
    for name, reads in found.items():
        reads.sort(key=lambda read: read[0])
        default = next((default for _, _, default in reads if default is not None), None)
        cast = next((kind for _, kind, _ in reads if kind is not None), None)
        text = None if default is None else source_of(default)
        settings.append(Setting(name, cast or kind_of(default), text, reads[0][0]))
    return settings, sorted(computed)


def _helpers(tree: ast.Module, environment: _Environment) -> tuple[dict[str, _Helper], set[int]]:
    """Returns the functions that read a variable for others, by name, and the identities of nodes inside them."""
    functions, helpers, inside = list(_functions(tree)), dict[str, _Helper](), set[int]()
    for _ in range(3):  # functions that call functions that read
        for name, function in functions:
            helper = None if name in helpers else _helper(function, environment, helpers)
            if helper is not None:
                helpers[name] = helper
                inside |= {id(node) for node in ast.walk(function)}
    return helpers, inside


def _read_by_helper(
    node: ast.Call, helpers: Mapping[str, _Helper]
) -> tuple[tuple[ast.expr, ast.expr | None] | None, Kind | None]:
    """Returns (name, default) and the type of a call of such a function; None for other calls."""
    function, is_method = node.func, isinstance(node.func, ast.Attribute)
    if isinstance(function, ast.Attribute):  # of the class itself: others' `get` is a dictionary's
        owner = getattr(function.value, "id", "")
        called = function.attr if owner in ("self", "cls") or owner[:1].isupper() else ""
    else:
        called = getattr(function, "id", "")
    helper = helpers.get(called)
    name = None if helper is None else _argument(node, *helper.name, is_method)
    if helper is None or name is None:
        return None, None
    default = None if helper.default is None else _argument(node, *helper.default, is_method)
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    types = [arg.id for arg in arguments if isinstance(arg, ast.Name) and arg.id in KINDS]
    default = None if isinstance(default, ast.Name) and default.id in types else default
    return (name, default), helper.kind or next((known for known in KINDS if known in types[:1]), None)


def _argument(call: ast.Call, position: int, name: str, is_method: bool = False) -> ast.expr | None:
    """Returns the argument of a call that has a position or a name; the positions of methods are one less."""
    position -= is_method
    given = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    return call.args[position] if 0 <= position < len(call.args) else given


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.Lambda]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def _helper(
    function: ast.FunctionDef | ast.Lambda, environment: _Environment, helpers: Mapping[str, _Helper]
) -> _Helper | None:
    parameters = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    is_static = any(getattr(node, "id", "") == "staticmethod" for node in getattr(function, "decorator_list", []))
    inner = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(function):
        read, kind = environment.lookup(node), None
        if read is None and isinstance(node, ast.Call):
            read, kind = _read_by_helper(node, helpers)
        if read is not None and isinstance(read[0], ast.Name) and read[0].id in parameters:
            assert isinstance(node, ast.expr)
            default = read[1].id if isinstance(read[1], ast.Name) else "default"
            default = (
                default if default in parameters else next(iter(parameters[parameters.index(read[0].id) + 1 :]), "")
            )
            places = [(parameters.index(name) + is_static, name) for name in (read[0].id, default) if name]
            return _Helper(places[0], places[1] if len(places) > 1 else None, kind or _cast(node, inner))
    return None


def _cast(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> Kind | None:
    """Returns the type that the expressions around a value convert it to; None where they do not.

    The innermost conversion is the one that the text has to suit, but `bool(int(...))` is a switch.
    """
    kind: Kind | None = None
    inner: ast.AST = node
    outer = parents.get(node)
    while outer is not None:
        if isinstance(outer, ast.Compare):
            is_switch = kind is None and all(_is_switched(side) for side in outer.comparators)
            return "bool" if is_switch else kind
        if isinstance(outer, ast.Call) and inner is not outer.func:
            cast = next((known for known in KINDS if known == getattr(outer.func, "id", "")), None)
            if cast is None:
                return kind
            kind = cast if kind is None or (kind, cast) == ("int", "bool") else kind
        elif isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not):
            return kind or "bool"
        elif not isinstance(outer, _PASSING) or (isinstance(outer, ast.IfExp) and inner is outer.test):
            return kind
        inner, outer = outer, parents.get(outer)
    return kind


def _is_switched(node: ast.expr) -> bool:
    """Whether a value is compared with texts of switches only."""
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return len(texts) == len(parts) and {text.lower() for text in texts} <= _SWITCHED

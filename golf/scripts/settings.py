"""A setting of somebody's script, and what the literals of its source are worth."""

import ast
import contextlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["int", "float", "bool", "str"]
KINDS: tuple[Kind, ...] = ("int", "float", "bool", "str")
_LARGEST = 1e300
"""Numbers beyond are no settings, and integers with thousands of digits cannot be printed."""
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow},
    **{ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.LShift: operator.lshift},
}


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


def kind_of(default: ast.expr | None) -> Kind:
    """Returns the type of a default; a text where there is none, or where it is no literal."""
    return kind_of_value(None if default is None else value_in(default))


def kind_of_value(value: object) -> Kind:
    """Returns the type of a literal's value."""
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "str"


def value_in(node: ast.expr, depth: int = 0) -> object:
    """Returns the value of a literal, or of arithmetic on numbers; None for anything else."""
    if depth > 20:
        return None
    try:
        value = ast.literal_eval(node)
        return None if isinstance(value, int) and abs(value) > _LARGEST else value
    except (ValueError, TypeError, RecursionError, MemoryError):
        pass
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
        value = value_in(node.args[0], depth + 1)
        return None if value is None else str(value)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = value_in(node.left, depth + 1), value_in(node.right, depth + 1)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            grows = isinstance(node.op, (ast.Pow, ast.LShift))
            if grows and not (0 <= right <= 64 and abs(left) <= 64):
                return None
            with contextlib.suppress(ArithmeticError, TypeError):
                value = _ARITHMETIC[type(node.op)](left, right)
                return value if not isinstance(value, complex) and abs(value) <= _LARGEST else None
    return None


def source_of(node: ast.expr) -> str:
    """Returns a default as text: its value where that is a literal, else the expression."""
    value = value_in(node)
    if isinstance(value, (bool, int, float, str)):
        return str(value)
    try:
        return ast.unparse(node)[:200]
    except (RecursionError, ValueError):  # too deep; an integer with too many digits
        return "..."

"""A program without its checks: for modules that read only what the program itself wrote or what was checked."""

import ast
from collections.abc import Sequence
from typing import Any

from golf.pipeline.syntax import walk

CHECKING = ("ValueError", "ArtifactError", "CodecError")
"""Errors of checks."""
PURE = {
    *("len", "isinstance", "type", "any", "all", "min", "max", "sum", "bool", "int", "str", "list", "set", "sorted"),
    *("keys", "items", "values", "get", "zip", "isfinite", "prod", "startswith", "endswith", "isdecimal", "numel"),
    *("from_bytes", "digest", "sha256", "memoryview", "range", "Size"),
}
"""Functions and methods that change nothing."""


def without_checks(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements without their checks, and without what only explains a failed one; trees are changed."""
    return _Unchecked().visit(ast.Module(list(statements), [])).body


class _Unchecked(ast.NodeTransformer):
    """Removes checks: a test whose only consequence is an error, and what adds words to one."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        if not node.orelse and (not node.body or (len(node.body) == 1 and _is_check(node.body[0]))):
            return [] if _is_pure(node.test) else [ast.Expr(node.test)]
        node.body = node.body or [ast.Pass()]
        return node

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        if not node.body and _is_pure(node.iter):
            return []
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return []

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        explains = all(len(handler.body) == 1 and _is_check(handler.body[0]) for handler in node.handlers)
        return node if not explains or node.finalbody or node.orelse else node.body

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if _is_check(node) and isinstance(node.exc, ast.Call):
            node.exc, node.cause = node.exc.func, None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [each for each in node.body if getattr(each, "name", "") != "__post_init__"]
        return self._with_body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._with_body(node)

    def _with_body(self, node: Any) -> ast.AST:
        node = self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


def _is_pure(node: ast.expr) -> bool:
    """Returns whether an expression does nothing but have a value."""
    for each in walk(node):
        name = getattr(each.func, "attr", getattr(each.func, "id", "")) if isinstance(each, ast.Call) else "len"
        if isinstance(each, ast.NamedExpr) or name not in PURE:
            return False
    return True


def _is_check(node: ast.stmt) -> bool:
    raised = node.exc if isinstance(node, ast.Raise) else None
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id in CHECKING

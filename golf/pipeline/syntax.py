"""What the names in a program's syntax tree are bound to and used for."""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence

_NO_NODES = {"ctx", "id", "attr", "name", "arg", "kind", "type_comment", "module", "asname", "level", "simple"}
"""Fields that hold no node but perhaps the context of a name."""
_FIELDS = {
    name: () if kind is ast.Constant else tuple(field for field in kind._fields if field not in _NO_NODES)
    for name, kind in vars(ast).items()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""Class -> the fields that may hold nodes."""


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and all inside it as `ast.walk` does, but for the contexts of names, in a fraction of its time."""
    found = [node]
    for each in found:
        for field in _FIELDS[type(each).__name__]:
            value = getattr(each, field, None)
            if isinstance(value, list):
                found += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST):
                found.append(value)
        yield each


def arguments_of(arguments: ast.arguments) -> list[ast.arg]:
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def bound_in(node: ast.AST) -> Counter[str]:
    """Returns how often each name is bound inside, also by inner functions and as their arguments."""
    names = Counter[str]()
    for each in walk(node):
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            names[each.id] += 1
        elif isinstance(each, (ast.FunctionDef, ast.Lambda)) and each is not node:
            names.update(argument.arg for argument in arguments_of(each.args))
        if isinstance(each, (ast.FunctionDef, ast.ExceptHandler)) and each.name and each is not node:
            names[each.name] += 1
    return names


def classes_in(statements: Sequence[ast.stmt]) -> list[ast.ClassDef]:
    return [node for node in statements if isinstance(node, ast.ClassDef)]


def used(node: ast.AST, annotations: bool = False, parent: ast.AST | None = None) -> Iterator[str]:
    """Yields the names that a statement uses; without `annotations`, not those that python-minifier removes."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        removed = field == "returns" or (field == "annotation" and not isinstance(parent, ast.ClassDef))
        if annotations or not removed:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from used(child, annotations, node)


def defined(node: ast.stmt) -> list[str]:
    """Returns the names that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Try):  # an import with its fallback
        parts = [*node.body, *(part for handler in node.handlers for part in handler.body)]
        return [name for part in parts for name in defined(part)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in walk(target) if isinstance(name, ast.Name)]


def is_text(node: ast.AST) -> bool:
    """Returns whether a statement is a docstring or another text that does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def without_texts(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements without docstrings, whose words are no names; trees are changed."""
    for each in (each for node in statements for each in walk(node)):
        if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
            each.body = [node for node in each.body if not is_text(node)] or [ast.Pass()]
    return list(statements)


def without_field_types(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements with 0 for the types of dataclasses' fields, which nothing reads; trees are changed."""
    for node in classes_in(statements):
        if any("dataclass" in ast.dump(each) for each in node.decorator_list):
            for each in node.body:
                if isinstance(each, ast.AnnAssign):
                    each.annotation = ast.Constant(0)
    return list(statements)


def without_nested_quotes(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements with `format` in place of f-strings that hold strings in their expressions.

    From Python 3.12 on these may have the quotes of the outer one, and python-minifier's choice is another there, which
    Python 3.11 cannot read.
    """
    return _Formats().visit(ast.Module(list(statements), [])).body


class _Formats(ast.NodeTransformer):
    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        parts = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        inner = (each for part in parts for each in walk(part.value))
        if not any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in inner):
            return node
        text = ""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                conversion = f"!{chr(part.conversion)}" if part.conversion > 0 else ""
                spec = part.format_spec.values if isinstance(part.format_spec, ast.JoinedStr) else []
                text += f"{{{conversion}{':' * bool(spec)}{''.join(str(ast.literal_eval(each)) for each in spec)}}}"
            else:
                text += str(ast.literal_eval(part)).replace("{", "{{").replace("}", "}}")
        values = [self.visit(part.value) for part in parts]
        return ast.Call(ast.Attribute(ast.Constant(text), "format", ast.Load()), values, [])

"""A program cut down to what one configuration uses: its values in place of the names that they are read by.

What stays computes in the same order from the same values. A parameter annotated as a part of the configuration is
taken to be that part, since a program has one configuration; the seed alone stays open. Tests that the values decide,
and parameters, names and definitions that nothing reads any more, are left out, so that in the end no configuration is
there but `CONFIG`, its JSON values.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from golf.config.config import GridConfig, RunConfig, plain_shape
from golf.pipeline.parameters import drop_constant_parameters
from golf.pipeline.syntax import arguments_of, bound_in, classes_in, defined, used, walk
from golf.pipeline.template import is_blank, use_all

OPEN = "seed"
"""The field of the configuration that a command line sets."""
GRID, CHOICES = GridConfig.__name__, ("method",)
"""The class of grids, and its fields that no other object of the program has: known whatever they are read from."""
_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class _Unknown(Exception):
    """A value that the configuration does not determine."""


@dataclass(frozen=True)
class _Any:
    """One of several values of a class: an attribute is known where all have the same."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class _Object:
    """An object of the program of which some attributes are known."""

    attributes: Mapping[str, Any]


def specialise(statements: Sequence[ast.stmt], config: RunConfig, roots: Sequence[str]) -> list[ast.stmt]:
    """Returns a program's statements without what `config` does not use; the given trees are changed.

    Args:
        statements: of the whole program, without imports of its own modules.
        config: what the program runs; its seed may be any. Numbers of `numbered` note what was decided by them.
        roots: names that others use.
    """
    kept, size = list(statements), -1
    while size != (size := sum(1 for node in kept for _ in walk(node))):
        drop_constant_parameters(kept)
        names = _parts(config)
        classes = _known_attributes(kept, names)
        kept = _Decide(names, classes, _loaded_attributes(kept)).visit(ast.Module(kept, [])).body
        _drop_fields(kept, names)
        kept = reached(kept, roots)
    return kept


def _loaded_attributes(statements: Sequence[ast.stmt]) -> set[str]:
    everything = (each for node in statements for each in walk(node))
    return {each.attr for each in everything if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load)}


def _drop_fields(statements: Sequence[ast.stmt], names: Mapping[str, Any]) -> None:
    """Removes the fields of configurations that nothing reads, and what calls give for them."""
    read = _loaded_attributes(statements)
    for node in classes_in(statements):
        if node.name in names:
            node.body = [
                each
                for each in node.body
                if not isinstance(each, ast.AnnAssign) or getattr(each.target, "id", "") in read
            ] or [ast.Pass()]
    for each in (each for node in statements for each in walk(node)):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in names:
            each.keywords = [keyword for keyword in each.keywords if keyword.arg in read]


def literal(value: Any) -> ast.expr | None:
    """Returns the expression of a plain value, of containers of such, or of a grid; None for anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return ast.Constant(value)
    parts: list[Any] = [literal(part) for part in value.values()] if isinstance(value, dict) else []
    parts += [literal(part) for part in value] if isinstance(value, (tuple, list)) else []
    if isinstance(value, GridConfig):
        given = [(each.name, literal(getattr(value, each.name))) for each in fields(value)]
        return ast.Call(
            ast.Name(GRID, ast.Load()), [], [ast.keyword(name, part) for name, part in given if part is not None]
        )
    if None in parts or not isinstance(value, (tuple, list, dict)):
        return None
    if isinstance(value, dict):
        return ast.Dict([ast.Constant(name) for name in value], parts)
    return ast.Tuple(parts, ast.Load()) if isinstance(value, tuple) else ast.List(parts, ast.Load())


class _Decide(ast.NodeTransformer):
    """Takes the branches that are decided and writes known values, with what is known of the names around.

    Args:
        names: the parts of the configuration by their classes.
        classes: what is known of the program's own objects.
        read: attributes that the program reads.
    """

    def __init__(self, names: Mapping[str, Any], classes: Mapping[str, _Object], read: Set[str] = frozenset()) -> None:
        self.types, self.classes, self.read = names, classes, read
        self.known: dict[str, Any] = {}
        self.read_names: set[str] | None = None
        """Names that the function reads; None outside of one."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        before, self.known = self.known, self.known | {"self": self._of_type(ast.Name(node.name, ast.Load()))}
        node = self.generic_visit(node)  # type: ignore[assignment]
        self.known = before
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, arguments, stored = self.known, arguments_of(node.args), bound_in(node)
        read_before = self.read_names
        own_names = (each for each in walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load))
        self.read_names = {each.id for each in own_names} | (read_before or set())
        names = {argument.arg for argument in arguments} | set(stored)
        self.known = {name: value for name, value in before.items() if name not in names or name == "self"}
        for argument in arguments:
            value = self._of_type(argument.annotation)
            if argument.arg != "self" and value is not _Unknown and argument.arg not in stored:
                self.known[argument.arg] = value
        for name, value in _assigned(node, stored).items():
            try:
                self.known[name] = self.value(value)
            except _Unknown:
                continue
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.body = _until_it_leaves(node.body) or [ast.Pass()]
        self.known, self.read_names = before, read_before
        return node

    def _of_type(self, annotation: ast.expr | None) -> Any:
        """Returns what is known of a value by its annotation; of `A | None` nothing."""
        name = annotation.id if isinstance(annotation, ast.Name) else ""
        return self.types[name] if name in self.types else self.classes.get(name, _Unknown)

    def value(self, node: ast.expr) -> Any:
        """Returns the value of an expression. Raises: _Unknown."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name) and node.id in self.known and self.known[node.id] is not _Unknown:
            return self.known[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.types[GRID] if node.attr in CHOICES else self.value(node.value)
            return _attribute(owner, node.attr)
        if isinstance(node, ast.Tuple):
            return tuple(self.value(part) for part in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self._truth(node.operand)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            left, right = self.value(node.left), self.value(node.comparators[0])
            is_object = isinstance(left, (_Any, _Object)) or isinstance(right, (_Any, _Object))
            if not is_object:
                return _OPERATORS[type(node.ops[0])](left, right)
            if isinstance(node.ops[0], (ast.Is, ast.IsNot)) and right is None:
                return isinstance(node.ops[0], ast.IsNot)
        if isinstance(node, ast.BoolOp):
            stop = isinstance(node.op, ast.Or)
            for part in node.values:
                if self._truth(part) == stop:
                    return self.value(part)
            return self.value(node.values[-1])
        if isinstance(node, ast.Call):
            return self._called(node)
        raise _Unknown

    def _called(self, node: ast.Call) -> Any:
        """Returns the value of a call that only depends on the configuration. Raises: _Unknown."""
        name, whole = _callee(node), self.types[RunConfig.__name__]
        if name == "from_plain" and isinstance(node.args[0], ast.Name) and node.args[0].id == RunConfig.__name__:
            return whole
        if name == "replace" and self.value(node.args[0]) is whole:
            return whole  # only its seed may be another one, and is open
        if name == "plain_shape":
            use_all(shape := self.value(node.args[0]))
            return plain_shape(shape)
        if isinstance(node.func, ast.Attribute) and not node.keywords:
            owner = self.value(node.func.value)
            if is_dataclass(owner) and hasattr(owner, node.func.attr):
                use_all(owner)
                return getattr(owner, node.func.attr)(*map(self.value, node.args))
        raise _Unknown

    def _written(self, node: ast.expr, simple: bool = False) -> ast.expr:
        """Returns an expression's value as a literal where it is known; `simple`: only where that is no container."""
        try:
            found = literal(self.value(node))
        except _Unknown:
            return node
        return node if found is None or (simple and not isinstance(found, ast.Constant)) else found

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._written(node, simple=True) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        written = self._written(node) if isinstance(node.ctx, ast.Load) else node
        return self.generic_visit(node) if written is node else written

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        parts = list[ast.expr]()
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.conversion < 0 and part.format_spec is None:
                value = part.value.value if isinstance(part.value, ast.Constant) else None
                if isinstance(value, (str, int)) and not is_blank(value):
                    part = ast.Constant(str(value))  # noqa: PLW2901
            parts.append(part)
        node.values = parts
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        pairs = list(_pairs(node))
        kept = [(target, value) for target, value in pairs if not self._unread(target, value)]
        if len(node.targets) > 1 or len(kept) == len(pairs):
            return node
        targets, values = [target for target, _ in kept], [value for _, value in kept]
        if len(kept) > 1:
            return ast.Assign([ast.Tuple(targets, ast.Store())], ast.Tuple(values, ast.Load()))
        return ast.Assign(targets, values[0]) if kept else []

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        return [] if node.value is not None and self._unread(node.target, node.value) else node

    def _unread(self, target: ast.expr, value: ast.expr) -> bool:
        """Returns whether nothing reads what is bound to a value that the configuration determines."""
        if isinstance(target, ast.Name):
            unread = self.read_names is not None and target.id not in self.read_names
        else:
            unread = isinstance(target, ast.Attribute) and target.attr not in self.read
        try:
            return unread and self.value(value) is not _Unknown
        except _Unknown:
            return False

    def _truth(self, node: ast.expr) -> bool:
        value = self.value(node)
        return True if isinstance(value, (_Any, _Object)) or is_dataclass(value) else bool(value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self._flag(self.generic_visit(node))  # type: ignore[arg-type]

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self._flag(self.generic_visit(node))  # type: ignore[arg-type]

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        node = self.generic_visit(node)  # type: ignore[assignment]
        try:
            return node.body if self._truth(node.test) else node.orelse
        except _Unknown:
            node.body, node.orelse = _until_it_leaves(node.body) or [ast.Pass()], _until_it_leaves(node.orelse)
            return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        try:
            return node.body if self._truth(node.test) else node.orelse
        except _Unknown:
            same = isinstance(node.test, ast.Name) and ast.dump(node.body) == ast.dump(node.orelse)
            return node.body if same else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        stop, parts = isinstance(node.op, ast.Or), list[ast.expr]()
        for part in node.values:
            try:
                ends = self._truth(part) == stop
            except _Unknown:
                parts.append(part)
                continue
            if ends or part is node.values[-1]:
                parts.append(part)
            if ends:
                break
        node.values = parts
        return node if len(parts) > 1 else parts[0]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name, whole = _callee(node), self.types[RunConfig.__name__]
        try:
            if name == "to_plain" and self.value(node.args[0]) is whole:
                return ast.Name("CONFIG", ast.Load())
            if name == "replace" and self.value(node.args[0]) is whole:  # only the seed is read of what it returns
                node = ast.Call(
                    ast.Attribute(ast.Name("argparse", ast.Load()), "Namespace", ast.Load()), [], node.keywords
                )
        except _Unknown:
            pass
        written = self._written(node)
        if written is not node:
            return written
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.args = [self._flag(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self._flag(keyword.value)
        return node

    def _flag(self, node: ast.expr) -> ast.expr:
        """Returns None, True or False where the expression is known to be that."""
        try:
            value = self.value(node)
        except _Unknown:
            return node
        return ast.Constant(value) if value is None or isinstance(value, bool) else node


def _callee(node: ast.Call) -> str:
    """Returns the name that is called with arguments by their places; "" for anything else."""
    return node.func.id if isinstance(node.func, ast.Name) and node.args else ""


def _until_it_leaves(body: list[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements up to the first after which none is run."""
    leaving = [place for place, node in enumerate(body) if isinstance(node, (ast.Return, ast.Raise))]
    return body[: leaving[0] + 1] if leaving else body


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, _Object) and name in owner.attributes:
        return owner.attributes[name]
    if isinstance(owner, _Any):
        values = [_attribute(value, name) for value in owner.values]
        if all(value == values[0] for value in values):
            return values[0]
    elif is_dataclass(owner) and name != OPEN and hasattr(owner, name) and not callable(getattr(owner, name)):
        if name not in {each.name for each in fields(owner)}:
            use_all(owner)  # a property
        return getattr(owner, name)
    raise _Unknown


def _parts(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration and its parts by the names of their classes; of a class with several, all of them."""
    found: dict[str, list[Any]] = {type(config).__name__: [config]}
    pending: list[Any] = [config]
    for part in pending:
        for each in fields(part):
            value = getattr(part, each.name)
            if is_dataclass(value):
                found.setdefault(type(value).__name__, []).append(value)
                pending.append(value)
    return {name: values[0] if len(values) == 1 else _Any(tuple(values)) for name, values in found.items()}


def _pairs(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yields targets and values of assignments inside, also of several at once."""
    for each in walk(node):
        if isinstance(each, ast.Assign) and len(each.targets) == 1:
            target, value = each.targets[0], each.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                yield from zip(target.elts, value.elts, strict=True)
            else:
                yield target, value
        elif isinstance(each, ast.AnnAssign) and each.value is not None:
            yield each.target, each.value


def _assigned(node: ast.FunctionDef, bound: Mapping[str, int]) -> dict[str, ast.expr]:
    """Returns the names of a function that are bound once, with their expressions, in their order."""
    arguments = {argument.arg for argument in arguments_of(node.args)}
    pairs = [(target.id, value) for target, value in _pairs(node) if isinstance(target, ast.Name)]
    return {name: value for name, value in pairs if bound[name] == 1 and name not in arguments}


def _known_attributes(statements: Sequence[ast.stmt], names: Mapping[str, Any]) -> dict[str, _Object]:
    """Returns what is known of the objects of each class: fields of a known type, and what __init__ sets once."""
    stores = Counter(
        each.attr
        for node in statements
        for each in walk(node)
        if isinstance(each, ast.Attribute) and not isinstance(each.ctx, ast.Load)
    )
    of_selves = sum((_own_stores(node) for node in classes_in(statements)), Counter[str]())
    found: dict[str, _Object] = {}
    for node in statements:
        if not isinstance(node, ast.ClassDef) or node.name in names:
            continue
        decide, known, own = _Decide(names, found), dict[str, Any](), _own_stores(node)
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is None:
                known[each.target.id] = decide._of_type(each.annotation)
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                for argument in arguments_of(each.args):
                    decide.known[argument.arg] = decide._of_type(argument.annotation)
                for name, value in _assigned(each, bound_in(each)).items():
                    try:
                        decide.known[name] = decide.value(value)
                    except _Unknown:
                        decide.known[name] = _Unknown
                for target, value in _pairs(each):
                    if isinstance(target, ast.Attribute) and own[target.attr] == 1:
                        others = stores[target.attr] - of_selves[target.attr]
                        try:
                            known[target.attr] = _Unknown if others else decide.value(value)
                        except _Unknown:
                            continue
        found[node.name] = _Object({name: value for name, value in known.items() if value is not _Unknown})
    return found


def _own_stores(node: ast.ClassDef) -> Counter[str]:
    """Returns how often each attribute of `self` is bound in a class."""
    return Counter(
        each.attr
        for each in walk(node)
        if isinstance(each, ast.Attribute)
        and not isinstance(each.ctx, ast.Load)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    )


def reached(statements: Sequence[ast.stmt], roots: Sequence[str], annotations: bool = False) -> list[ast.stmt]:
    """Returns the statements without definitions that nothing names any more; trees are changed."""
    owners = {name: node for node in statements for name in defined(node)}
    pending, found = (
        [*(node for node in statements if not defined(node)), *(owners[name] for name in roots)],
        set[int](),
    )
    for node in pending:
        if id(node) not in found:
            found.add(id(node))
            pending += [owners[name] for name in set(used(node, annotations)) if name in owners]
    kept = [node for node in statements if id(node) in found]
    everything = [each for node in kept for each in walk(node)]
    called = {each.attr for each in everything if isinstance(each, ast.Attribute)}
    texts = [each.value for each in everything if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    called |= {"forward", "backward"} | {word for text in texts for word in text.replace(".", " ").split()}
    for node in classes_in(kept):
        node.body = [
            each
            for each in node.body
            if not isinstance(each, ast.FunctionDef) or each.name.startswith("__") or each.name in called
        ] or [ast.Pass()]
    return kept

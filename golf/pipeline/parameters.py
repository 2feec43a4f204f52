"""Parameters of a whole program: those that have one value go, the others get the names that compress best."""

import ast
from collections.abc import Iterator, Sequence, Set
from typing import Any

from golf.pipeline.syntax import arguments_of, bound_in, classes_in, used, walk


def _calls(statements: Sequence[ast.stmt], names: Sequence[str]) -> dict[str, list[ast.Call]]:
    """Returns the calls of each function or class that is called by plain arguments and used no other way."""
    everything = [each for node in statements for each in walk(node)]
    called = {id(each.func): each for each in everything if isinstance(each, ast.Call)}
    calls: dict[str, list[ast.Call]] = {name: [] for name in names}
    other = set[str]()
    annotations = {id(part) for each in everything for part in _annotation(each)}
    for each in (name for node in statements for name in _of_module(node)):
        if each.id in calls and id(each) not in annotations:
            call = called.get(id(each))
            if (
                call is None
                or any(isinstance(a, ast.Starred) for a in call.args)
                or any(not k.arg for k in call.keywords)
            ):
                other.add(each.id)
            else:
                calls[each.id].append(call)
    return {name: found for name, found in calls.items() if name not in other}


def _of_module(node: ast.AST, own: Set[str] = frozenset()) -> Iterator[ast.Name]:
    """Yields the names inside that no function around them binds; `own`: those that are bound."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        own = own | {argument.arg for argument in arguments_of(node.args)} | bound_in(node).keys()
    if isinstance(node, ast.Name) and node.id not in own:
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.ClassDef) or not isinstance(child, ast.AnnAssign):
            yield from _of_module(child, own)
        elif child.value is not None:  # a field is no name of the module
            yield from _of_module(child.value, own)


def _annotation(node: ast.AST) -> Iterator[ast.AST]:
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        yield from walk(annotation) if annotation is not None else ()


def _functions(statements: Sequence[ast.stmt]) -> dict[str, ast.FunctionDef]:
    """Returns functions, and classes' __init__ by the classes' names, that take no number of arguments."""
    found = {node.name: node for node in statements if isinstance(node, ast.FunctionDef)}
    methods = ((node.name, each) for node in classes_in(statements) for each in node.body)
    found |= {name: f for name, f in methods if isinstance(f, ast.FunctionDef) and f.name == "__init__"}
    return {name: node for name, node in found.items() if not node.args.vararg and not node.args.kwarg}


def drop_constant_parameters(statements: Sequence[ast.stmt]) -> None:
    """Removes parameters that have one and the same constant in every call, and those that nothing reads."""
    functions = _functions(statements)
    for name, calls in _calls(statements, list(functions)).items():
        function = functions[name]
        for argument in arguments_of(function.args) if calls else ():
            _drop_parameter(function, argument, calls, int(function.name == "__init__"))


def _drop_parameter(function: ast.FunctionDef, argument: ast.arg, calls: Sequence[ast.Call], skipped: int) -> None:
    given, name = function.args, argument.arg
    by_name = argument in given.kwonlyargs
    place = (given.kwonlyargs if by_name else given.args).index(argument)
    if not by_name and place < skipped:
        return
    first = 0 if by_name else len(given.args) - len(given.defaults)
    defaults: list[Any] = list(given.kw_defaults if by_name else given.defaults)
    default = defaults[place - first] if place >= first else None
    values = []
    for call in calls:
        found: list[Any] = [keyword.value for keyword in call.keywords if keyword.arg == name]
        if not by_name and place - skipped < len(call.args):
            found.append(call.args[place - skipped])
        values.append(found[0] if found else default or ast.Name(""))
    constant = isinstance(values[0], ast.Constant) or values[0] is default is not None
    constant = constant and len({ast.dump(value) for value in values}) == 1 and not bound_in(function)[name]
    unread = all(map(_is_plain, values)) and name not in set(used(ast.Module(function.body, [])))
    if not (constant or unread):
        return
    del (given.kwonlyargs if by_name else given.args)[place]
    if place >= first:
        del (given.kw_defaults if by_name else given.defaults)[place - first]
    _replace_name(function, name, values[0])
    for call in calls:
        if not by_name:
            del call.args[place - skipped : place - skipped + 1]
        call.keywords = [keyword for keyword in call.keywords if keyword.arg != name]


def _is_plain(value: ast.expr) -> bool:
    """Returns whether an expression only reads names and attributes."""
    return isinstance(value, (ast.Name, ast.Constant)) or (isinstance(value, ast.Attribute) and _is_plain(value.value))


def _give_by_place(statements: Sequence[ast.stmt]) -> None:
    """Turns arguments that calls name into arguments by their places, where that changes no order of evaluation."""
    functions = _functions(statements)
    for name, calls in _calls(statements, list(functions)).items():
        given = functions[name].args
        required = [value is None for value in given.kw_defaults]
        if not (given.defaults and any(required)) and required == sorted(required, reverse=True):
            given.args += given.kwonlyargs
            given.defaults += [value for value in given.kw_defaults if value is not None]
            given.kwonlyargs, given.kw_defaults = [], []
        names = [argument.arg for argument in given.args][int(functions[name].name == "__init__") :]
        for call in calls:
            _place(call, names)
    classes = classes_in(statements)
    constructed = _calls(statements, [node.name for node in classes])
    for node in classes:
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        optional = [each.value is not None for each in fields]
        if node.decorator_list and "dataclass" in ast.dump(node.decorator_list[0]) and optional == sorted(optional):
            decorator = node.decorator_list[0]
            if isinstance(decorator, ast.Call):
                decorator.keywords = [keyword for keyword in decorator.keywords if keyword.arg != "kw_only"]
            for call in constructed.get(node.name, []):
                _place(call, [each.target.id for each in fields if isinstance(each.target, ast.Name)])


def _place(call: ast.Call, names: Sequence[str]) -> None:
    simple = (ast.Name, ast.Constant, ast.Attribute, ast.Lambda)
    if all(isinstance(keyword.value, simple) for keyword in call.keywords):
        call.keywords.sort(key=lambda keyword: names.index(keyword.arg or ""))
    while call.keywords and call.keywords[0].arg == (names[len(call.args)] if len(call.args) < len(names) else ""):
        call.args.append(call.keywords.pop(0).value)


def _replace_name(function: ast.FunctionDef, name: str, value: ast.expr) -> None:
    class Replace(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return value if node.id == name else node

    function.body = [Replace().visit(node) for node in function.body]


def with_short_parameters(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Returns the statements with the parameters named by their places, where no call names them; trees are changed.

    The same letters at the same places compress better than the shortest names.
    """
    tree = ast.Module(list(statements), [])
    _give_by_place(statements)
    everything = list(walk(tree))
    named = {keyword.arg for each in everything if isinstance(each, ast.Call) for keyword in each.keywords}
    inner = (
        each for outer in everything if isinstance(outer, ast.FunctionDef) for each in walk(outer) if each is not outer
    )
    named |= {each.name for each in inner if isinstance(each, (ast.ExceptHandler, ast.FunctionDef))}
    taken = {each.id for each in everything if isinstance(each, ast.Name)}
    letters = [chr(place) for place in range(ord("a"), ord("z") + 1)]
    free = [*(one for one in letters if one not in taken), *(f"_{one}" for one in letters)]
    return _Short({name for name in named if name}, free).visit(tree).body


class _Short(ast.NodeTransformer):
    """Renames parameters to `free` names, those of inner functions to the next ones."""

    def __init__(self, kept: set[str], free: Sequence[str]) -> None:
        self.kept, self.free, self.names, self.count = kept, free, dict[str, str](), 0

    def _function(self, node: Any) -> ast.AST:
        arguments = node.args
        arguments.defaults = [self.visit(value) for value in arguments.defaults]
        arguments.kw_defaults = [value and self.visit(value) for value in arguments.kw_defaults]
        before, self.names = (self.names, self.count), dict(self.names)
        for argument in [*arguments_of(arguments), *(a for a in (arguments.vararg, arguments.kwarg) if a)]:
            self.names.pop(argument.arg, None)
            if argument.arg not in self.kept:
                self.names[argument.arg] = self.free[self.count]
                argument.arg = self.free[self.count]
                self.count += 1
            argument.annotation = None
        node.body = self.visit(node.body) if isinstance(node, ast.Lambda) else [self.visit(n) for n in node.body]
        self.names, self.count = before
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list, node.returns = [self.visit(each) for each in node.decorator_list], None
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

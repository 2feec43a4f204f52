"""The packages in their order: imports go down only, and libraries stay where they belong."""

import ast
import importlib
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("golf.config", "golf.runtime", "golf.data", "golf.model", "golf.train", "golf.artifact", "golf.evaluate"),
    *("golf.pipeline", "golf.compliance", "golf.submission", "golf.scripts", "golf.doctor", "golf.cli", "golf"),
    *("tune.records", "tune.search", "tune.cache", "tune.workloads", "tune.planning", "tune.cluster"),
    *("tune.study", "tune.tracking", "tune.report", "tune.cli", "tune"),
)
"""Every package imports only from those before it; "golf" and "tune" stand for the modules beside the packages."""
HOMES = {
    "ray": {"tune.cluster"},
    "mlflow": {"tune.tracking"},
    "optuna": {"tune.search"},
    "pyarrow": {"tune.cache", "tune.records"},
    "obstore": {"tune.cache"},
    "matplotlib": {"tune.planning", "tune.report"},
    "scipy": {"tune.study"},
    "python_minifier": {"golf.pipeline"},
    "zstandard": {"golf.artifact"},
    "sentencepiece": {"golf.data"},
    "huggingface_hub": {"golf.data"},
}
"""Packages that may import a library."""
ENVIRONMENT = {
    *("golf.runtime.process_group", "golf.pipeline.standalone", "golf.cli.main"),
    *("tune.cache.backend", "tune.cluster.ray_cluster", "tune.cluster.workers", "tune.cluster.reaper"),
    *("tune.records.redaction", "tune.workloads.script.launch", "tune.cli.afterwards"),
}
"""Modules that may touch os.environ."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of golf and tune, parsed."""
    found = {}
    for path in sorted([*ROOT.glob("golf/**/*.py"), *ROOT.glob("tune/**/*.py")]):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = ast.parse(path.read_text())
    return found


def package_of(module: str) -> str:
    """The package of a module: two names, or the first one for a module beside the packages."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def imported(tree: ast.Module) -> set[str]:
    """Dotted names of all imported modules, wherever the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down(name: str) -> None:
    """Fault: data flowing back; a package that nobody placed."""
    own = PACKAGES.index(package_of(name))
    for other in imported(modules()[name]):
        if other.split(".")[0] in ("golf", "tune"):
            place = package_of(f"{other}.name" if other in PACKAGES else other)
            assert PACKAGES.index(place) <= own, f"{name} imports {other}"


def test_no_package_has_a_cycle_inside() -> None:
    """Fault: modules that cannot be read one after the other."""
    graph = {name: imported(tree) & modules().keys() for name, tree in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {error.args[1]}")


def test_no_import_hides_in_a_function() -> None:
    """Fault: a dependency that shows only when a line runs."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                inner = [item for item in ast.walk(node) if isinstance(item, (ast.Import, ast.ImportFrom))]
                assert not inner, f"{name}.{node.name}"


def test_libraries_stay_in_their_packages() -> None:
    """Fault: Ray, MLflow or the environment leak into code that must run without them."""
    for name, tree in modules().items():
        tops = {other.split(".")[0] for other in imported(tree)}
        for library, homes in HOMES.items():
            assert library not in tops or package_of(name) in homes, f"{name} imports {library}"
        environ = any(isinstance(node, ast.Attribute) and node.attr == "environ" for node in ast.walk(tree))
        assert not environ or name in ENVIRONMENT, f"{name} touches os.environ"


DOTTED = re.compile(r"`((?:golf|tune)(?:\.\w+)+)(?:\(\))?`")


def exists(name: str) -> bool:
    """Whether a dotted name is a module or something that a module defines."""
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:number]))
        except ModuleNotFoundError:
            continue
        for part in parts[number:]:
            if part in getattr(found, "__annotations__", {}):
                return True
            found = getattr(found, part, None)
        return found is not None
    return False


def test_dotted_names_in_back_quotes_exist() -> None:
    """Fault: a docstring or a page that sends its reader to a module that has moved."""
    paths = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / "golf").rglob("*.py"),
        *(ROOT / "tune").rglob("*.py"),
    ]
    named = [(path.name, name) for path in paths for name in DOTTED.findall(path.read_text())]
    assert named
    assert not [(path, name) for path, name in named if not exists(name)]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_of_benchmarks_exist(path: Path) -> None:
    """Fault: a script that nobody runs every day still imports what has moved."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("golf", "tune", "tests"):
            for alias in node.names:
                assert exists(f"{node.module}.{alias.name}"), f"{path.name}: {node.module}.{alias.name}"

"""The written order of modules: imports go one way, and libraries stay where they belong."""

import ast
from functools import cache
from pathlib import Path

import pytest

from golf.artifact.bundle import COUNTED

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    *COUNTED[:-2],
    "golf.artifact.ledger",
    "golf.model.model_file",
    "golf.model.interop",
    "golf.data.passes",
    "golf.options",
    "golf.presets",
    "golf.terminal",
    "golf.data.corpus",
    "golf.data.text",
    "golf.data.fineweb",
    "golf.stages",
    "golf.solo",
    "golf.artifact.bundle",
    "golf.predict",
    "golf.budget",
    "golf.fit",
    "golf.describe",
    "golf.rules",
    "golf.check.points",
    "golf.check.watch",
    "golf.check.proofs",
    "golf.check.data",
    "golf.check.switches",
    "golf.check.training",
    "golf.check.run",
    "golf.check.smoke",
    "golf.submission.fields",
    "golf.submission.study",
    "golf.submission.study_file",
    "golf.submission.markdown",
    "golf.submission.code",
    "golf.submission.faults",
    "golf.submission.log",
    "golf.submission.entry",
    "golf.submission.recipe",
    "golf.submission.results",
    "golf.submission.points",
    "golf.submission.readme",
    "golf.submission.folder",
    "golf.submission.options",
    "golf.submission.command",
    "golf.check.record.student",
    "golf.check.record.numbers",
    "golf.check.record.text",
    "golf.check.record.devices",
    "golf.check.record.log_code",
    "golf.check.record.log_settings",
    "golf.check.record.logs",
    "golf.check.record.log_files",
    "golf.check.record.claim_names",
    "golf.check.record.claims",
    "golf.check.record.claim_figures",
    "golf.check.record.claim_seeds",
    "golf.check.record.submission_json",
    "golf.check.record.unpacked",
    "golf.check.record.sources",
    "golf.check.record.readme",
    "golf.check.record.contents",
    "golf.check.record.claimed",
    "golf.check.record.size_claims",
    "golf.check.record.time_claims",
    "golf.check.record.agreement",
    "golf.check.record.figures",
    "golf.check.record.code",
    "golf.check.record.prose",
    "golf.check.record.sameness",
    "golf.check.record.place",
    "golf.check.record.folder",
    "golf.commands",
    "golf.check.study",
    "golf.check.own",
    "golf.check.command",
    "golf.importing",
    "golf.__main__",
    "tune.study.stats",
    "tune.study.bootstrap",
    "tune.study.allocation",
    "tune.redaction",
    "tune.ledger.lines",
    "tune.ledger.trials",
    "tune.ledger.reading",
    "tune.ledger.ledger",
    "tune.ledger.tables",
    "tune.ledger.__main__",
    "tune.notice",
    "tune.paths",
    "tune.store.fingerprint",
    "tune.store.place",
    "tune.store.entries",
    "tune.store.lease",
    "tune.store.inventory",
    "tune.store.store",
    "tune.store.__main__",
    "tune.space",
    "tune.search",
    "tune.tree",
    "tune.pictures",
    "tune.stages",
    "tune.provenance",
    "tune.pace",
    "tune.cost",
    "tune.ranks",
    "tune.reuse",
    "tune.screening",
    "tune.outcome",
    "tune.failures",
    "tune.attempts",
    "tune.states",
    "tune.trial",
    "tune.progress",
    "tune.tracking.runs",
    "tune.study.seeds",
    "tune.study.baseline",
    "tune.study.protocol",
    "tune.study.verdict",
    "tune.study.noise",
    "tune.study.paired",
    "tune.study.export",
    "tune.tracking.parents",
    "tune.tracking.views",
    "tune.tracking.reach",
    "tune.tracking.experiment",
    "tune.tracking.tracker",
    "tune.console",
    "tune.study.statement",
    "tune.forecast",
    "tune.quote",
    "tune.keeper",
    "tune.autoscaler",
    "tune.cluster",
    "tune.ddp",
    "tune.sweep",
    "tune.importance",
    "tune.report.results",
    "tune.report.canvas",
    "tune.report.search_figures",
    "tune.report.run_figures",
    "tune.report.curve_figures",
    "tune.report.seed_figures",
    "tune.report.exhibits",
    "tune.report.tables",
    "tune.report.page",
    "tune.report.document",
    "tune.report.__main__",
    "tune.mirror",
    "tune.remote",
    "tune.command",
    "tune.study.target",
)
"""Every module imports only from those before it."""

HOMES = {
    "ray": {"tune.ddp", "tune.sweep", "tune.cluster", "tune.keeper", "tune.remote"},
    "mlflow": {"tune.tracking.reach", "tune.tracking.experiment"},
    "optuna": {"tune.search", "tune.importance"},
    "pyarrow": {"tune.store.place", "tune.ledger.tables"},
    "matplotlib": {
        "tune.pictures",
        "tune.report.canvas",
        "tune.report.search_figures",
        "tune.report.run_figures",
        "tune.report.curve_figures",
        "tune.report.seed_figures",
        "tune.report.exhibits",
    },
    "scipy": {"tune.study.stats", "tune.study.bootstrap", "tune.study.allocation"},
    "python_minifier": {"golf.artifact.bundle"},
    "zstandard": {"golf.artifact.codec", "golf.model.model_file"},
    "sentencepiece": {"golf.data.token_bytes", "golf.data.text"},
    "huggingface_hub": {"golf.data.fineweb"},
}
"""Modules that may import a library."""

ENVIRONMENT = {"golf.dist", "golf.solo", "golf.__main__", "tune.cluster", "tune.keeper", "tune.redaction"}
"""Modules that may touch os.environ."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of golf and tune, parsed."""
    found = {}
    for path in sorted([*ROOT.glob("golf/**/*.py"), *ROOT.glob("tune/**/*.py")]):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = ast.parse(path.read_text())
    return found


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
def test_imports_follow_the_order(name: str) -> None:
    """Fault: a cycle, or data flowing back; a module that nobody placed."""
    assert name in ORDER, f"add {name} to the order"
    for other in imported(modules()[name]):
        if other.split(".")[0] in ("golf", "tune"):
            assert other in ORDER, other
            assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_no_import_hides_in_a_function() -> None:
    """Fault: a dependency that shows only when a line runs."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                inner = [item for item in ast.walk(node) if isinstance(item, (ast.Import, ast.ImportFrom))]
                assert not inner, f"{name}.{node.name}"


def test_libraries_stay_in_their_modules() -> None:
    """Fault: Ray, MLflow or the environment leak into code that must run without them."""
    for name, tree in modules().items():
        tops = {other.split(".")[0] for other in imported(tree)}
        for library, homes in HOMES.items():
            assert library not in tops or name in homes, f"{name} imports {library}"
        environ = any(isinstance(node, ast.Attribute) and node.attr == "environ" for node in ast.walk(tree))
        assert not environ or name in ENVIRONMENT, f"{name} touches os.environ"

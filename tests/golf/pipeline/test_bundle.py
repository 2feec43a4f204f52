"""The bundle against the package: it must run alone, give the same bytes, and refuse what it would break."""

import ast
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from golf.artifact.pack import pack
from golf.config.config import ModelConfig, QuantConfig, RunConfig, ScheduleConfig, from_plain
from golf.pipeline import bundle as bundle_module
from golf.pipeline.bundle import COUNTED, bundle, code_bytes, counted_code, packed

READ = ("golf.runtime.files", "golf.config.config", "golf.data.shards")
PACKING = tuple(m for m in COUNTED if m in READ or ".artifact." in m or ".model." in m)
OTHER = RunConfig(
    seed=7,
    ttt=None,
    schedule=ScheduleConfig(steps=20, warmdown_start=5),
    quant=QuantConfig(codec="zstd", level=6, float_elements=50),
    model=ModelConfig(value_layers=(1, 2)),
)
SCRIPT = """
generator = torch.Generator().manual_seed(11)
names = ["token_embedding.weight", "blocks.0.mlp.up.weight", "blocks.0.attention_scale", "value.table.weight"]
weights = {name: torch.randn(20, 16, generator=generator) for name in names[:2] + names[3:]}
weights[names[2]] = torch.randn(16, generator=generator)
"""


def test_bundle_packs_the_packages_bytes(tmp_path: Path) -> None:
    """Catches a name lost or changed on the way into the one file, and a hidden import of the package."""
    code = bundle(OTHER, PACKING) + SCRIPT
    code += "config = from_plain(RunConfig, CONFIG)\nimport sys\n"
    code += "assert not any(m.startswith('golf') for m in sys.modules)\n"
    code += "data = pack(weights, config.model, config.quant)\nassert decode(data)[0] == plain_shape(config.model)\n"
    code += "print(hashlib.sha256(data).hexdigest())\n"
    path = tmp_path / "train_gpt.py"
    path.write_text(code)
    run = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr
    scope: dict[str, object] = {"torch": torch}
    exec(SCRIPT, scope)
    wanted = pack(scope["weights"], OTHER.model, OTHER.quant)  # type: ignore[arg-type]
    assert run.stdout.strip() == hashlib.sha256(wanted).hexdigest()


def test_whole_bundle_starts_alone(tmp_path: Path) -> None:
    """Catches a counted module that needs one left out, two modules with one name, and work done on import."""
    path = tmp_path / "train_gpt.py"
    path.write_bytes(counted_code(RunConfig()))
    command = [sys.executable, "-I", str(path), "--help"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr
    assert "--data" in run.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["train_gpt.py"]
    assert path.stat().st_size == code_bytes(RunConfig())


@pytest.mark.parametrize("config", [RunConfig(), OTHER, RunConfig(model=ModelConfig(bigram_buckets=None))])
def test_configuration_survives(config: RunConfig) -> None:
    """Catches a changed field that is not written, such as one that is None."""
    tree = ast.parse(bundle(config, ("golf.config.config",)))
    values = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG"
    ]
    assert from_plain(RunConfig, ast.literal_eval(values[0])) == replace(config, seed=RunConfig().seed)
    assert bundle(config, ("golf.config.config",)) == bundle(config, ("golf.config.config",))


def test_all_seeds_have_one_code() -> None:
    """Catches a seed in the file: its bytes and its hash would be another for every seed of a study."""
    assert bundle(OTHER, READ) == bundle(replace(OTHER, seed=2**62), READ)


def test_before_it_is_minified_it_means_the_same() -> None:
    """Catches a file for readers that is other code than the shipped one."""
    trees = [ast.parse(bundle(OTHER, PACKING, minified)) for minified in (False, True)]
    names = [[node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)] for tree in trees]
    assert len(names[0]) == len(names[1])
    for before, after in zip(*names, strict=True):
        assert after == before or before.startswith("_")
    assert len(bundle(OTHER, PACKING, minified=False)) > len(bundle(OTHER, PACKING))


def test_no_text_is_left() -> None:
    """Catches docstrings that would be paid for, and strings that are code and were taken for docstrings."""
    for node in ast.walk(ast.parse(bundle(RunConfig(), PACKING))):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        assert not text


def run_packed(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the packed form of a source with one argument."""
    path = folder / "train_gpt.py"
    path.write_bytes(packed(source))
    command = [sys.executable, "-I", "-X", "utf8", str(path), "a b"]
    return subprocess.run(command, capture_output=True, encoding="utf8", check=False, cwd=folder)


def test_the_packed_file_is_the_program(tmp_path: Path) -> None:
    """Catches a file that runs something else than its text, or as another module."""
    source = (
        "import sys\nif __name__ == '__main__':\n    print('é' * 3, sys.argv[1:], __file__.endswith('train_gpt.py'))\n"
    )
    done = run_packed(source, tmp_path)
    assert done.stdout == "ééé ['a b'] True\n", done.stderr


def test_a_traceback_names_the_line_and_does_not_show_the_packed_text(tmp_path: Path) -> None:
    """Catches an error that is buried under the file's packed line, or that says nothing of its place."""
    noise = "".join(f"# {hashlib.sha256(bytes([n])).hexdigest()}\n" for n in range(40))
    done = run_packed(f"{noise}def broken():\n    return 1 / 0\nbroken()\n", tmp_path)
    assert 'File "train_gpt.py", line 42, in broken' in done.stderr
    assert len(done.stderr) < 600


def test_the_same_bytes_in_every_process() -> None:
    """Catches an order of names that follows a process's hashes: seeds of one study would have different code."""
    program = (
        "import hashlib\nfrom golf.config.config import RunConfig\nfrom golf.pipeline.bundle import counted_code\n"
        "print(hashlib.sha256(counted_code(RunConfig())).hexdigest())\n"
    )
    root = str(Path(bundle_module.__file__).parents[2])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
        )
        assert done.stdout.strip() == hashlib.sha256(counted_code(RunConfig())).hexdigest(), done.stderr


def made(monkeypatch: pytest.MonkeyPatch, **sources: str) -> str:
    """The bundle of the given modules' sources."""
    monkeypatch.setattr(bundle_module, "_source", lambda module: sources[module.removeprefix("golf.")])
    bundle_module._library.cache_clear()
    try:
        return bundle(RunConfig(), tuple(f"golf.{name}" for name in sources))
    finally:
        bundle_module._library.cache_clear()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("def f():\n    pass", "f = 1"),
        ("class A:\n    pass", "A: int = 1"),
        ("a, b = 1, 2", "def b():\n    pass"),
        ("import json", "def json():\n    pass"),
        ("from zlib import compress", "def compress():\n    pass"),
        ("import time", "from time import time"),
        ("x = 1", "import golf.first"),
        ("x = 1", "from golf.first import x as y"),
        ("x = 1", "from golf.third import z"),
        ("from golf.second import y", "y = 1"),
    ],
)
def test_what_would_change_meaning_is_refused(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> None:
    """Catches modules that overwrite each other's names in one file, and imports that the file cannot have."""
    with pytest.raises(ValueError, match=r"golf\."):
        made(monkeypatch, first=first, second=second)


def test_emptied_bodies_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a body left empty, changed strings over several lines, and a lost fallback import."""
    source = '''"""Only text."""
try:
    import a_module_that_is_not_there as absent
except ModuleNotFoundError:
    absent = None
class Empty(ValueError):
    """Nothing else."""
def nothing() -> None:
    """Nothing else."""
TEXT = """one
    two
        three"""
def value(x: int, *rest: int) -> str:
    """Text."""
    if x:
        """Text."""
    return f"""{x}
    {rest}"""
'''
    code = made(monkeypatch, blank='"""Nothing."""', first=source)
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["absent"] is None
    assert scope["TEXT"] == "one\n    two\n        three"
    assert eval("(nothing(), value(2, 3), issubclass(Empty, ValueError))", scope) == (None, "2\n    (3,)", True)


@pytest.mark.long
def test_nothing_is_paid_for_that_no_line_uses() -> None:
    """Catches aliases of types that only annotations name, imports for them, and a name that is imported twice."""
    tree = ast.parse(bundle(RunConfig()))
    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert len(imported) == len(set(imported))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not {"Batches", "TokenSink", "Unpacked", "Iterator"} & names

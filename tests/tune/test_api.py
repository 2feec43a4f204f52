"""The verbs of the Python API on a real sweep, and the notebook that reads its ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import ray

import tune
from golf.config.config import RunConfig, to_plain
from golf.runtime.files import write_json
from tests.commands import JOIN
from tune.api import _words

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/notebooks/ledger.ipynb"


@pytest.mark.long
def test_a_sweep_and_what_reads_it(
    cluster: str, tiny: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a keyword that reaches the command as another option, a second call that computes again, a notebook whose
    columns are not there."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    options: dict[str, object] = {
        "data": str(data),
        "storage": str(tmp_path / "storage"),
        "search": "grid",
        "address": cluster,
    }
    options |= {"name": "two", "space": {"seed": [1, 2], "ttt.epochs": 1}, "no_screening": True, "concurrent": 1}
    script = f"""
import pathlib, tune
ledger = pathlib.Path({options["storage"]!r}, "ledger.jsonl")
results = tune.sweep({str(tmp_path / "tiny.json")!r}, **{options!r})
assert [entry.parameters for entry in results.trials] == [{{"seed": n, "ttt.epochs": 1}} for n in (1, 2)]
lines = ledger.read_bytes()
assert tune.sweep({str(tmp_path / "tiny.json")!r}, **{options!r}).best == results.best
assert ledger.read_bytes() == lines
"""
    command, variables = [sys.executable, "-c", script], {**os.environ, **JOIN}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = tune.load(tmp_path / "storage", "two")
    assert results.best == min(results.trials, key=lambda entry: entry.bpb or 9.0)
    assert results.table().column("bpb").to_pylist() == [entry.bpb for entry in results.trials]
    with pytest.raises(ValueError, match=r'no sweep "three".*there are two'):
        tune.load(tmp_path / "storage", "three")
    with pytest.raises(FileNotFoundError, match="give the storage folder"):
        tune.load(tmp_path)
    with pytest.raises(ValueError, match="already connected to a Ray"):
        tune.sweep(tmp_path / "tiny.json", **options | {"name": "other"})
    assert ray.is_initialized(), "a refused sweep ended a Ray that it had not started"

    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    names: dict[str, object] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["best"] == results.best


def test_options_as_words() -> None:
    """Fault: a list that is one value taken for choices, or a flag that is given a word."""
    given = {"space": {"ttt.lr": [0.1, 0.2], "split": "int8"}, "set": {"model.value_layers": [0, 1]}, "no_reuse": True}
    words = _words(given | {"name": None, "screen_fraction": 0.1, "seeds": [1, 2], "cold": False})
    assert words == [
        *("--space", "ttt.lr=0.1,0.2", "split=int8", "--set", "model.value_layers=[0,1]", "--no-reuse"),
        *("--screen-fraction", "0.1", "--seeds", "1", "2"),
    ]

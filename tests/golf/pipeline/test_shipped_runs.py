"""The shipped file of several kinds of configuration against the package: equal artifact bytes, losses and chunks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from golf.config.config import LoopConfig, to_plain
from golf.config.presets import APRIL_OPTIMIZER, APRIL_QUANT, APRIL_SCHEDULE, with_split
from golf.data.dataset import open_dataset
from golf.pipeline.bundle import counted_code
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.files import write_json
from golf.runtime.results import RungResult, read_result
from tests.commands import ROOT
from tests.conftest import TINY

pytestmark = pytest.mark.long

APRIL = replace(
    TINY,
    model=replace(
        TINY.model,
        num_layers=4,
        activation="leaky_relu_squared",
        smear_gate=False,
        skips="lerp",
        bigram_buckets=None,
        xsa_layers=4,
        value_dim=None,
        value_layers=(),
        parallel_from=3,
        loop=LoopConfig(first_layer=1, last_layer=2, times=2),
    ),
    optimizer=APRIL_OPTIMIZER,
    schedule=replace(APRIL_SCHEDULE, steps=6, momentum_steps=3, ema_decay=0.5),
    quant=replace(APRIL_QUANT, float_elements=300, calibration_tokens=2048),
)
CONFIGS = {
    "April's recipe": APRIL,
    "additive skips, two embedding widths, no TTT": replace(
        APRIL,
        model=replace(APRIL.model, skips="added", embedding_dim=16, loop=None),
        schedule=replace(APRIL.schedule, loop_start=None),
        ttt=None,
    ),
    "GPTQ of the first recipe": with_split(TINY, "int5-mlp-gptq"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_file_gives_the_packages_numbers(name: str, data: Path, tmp_path: Path) -> None:
    """Fault: what the file leaves out for a configuration is something that its run needed."""
    config = CONFIGS[name]
    code = counted_code(config)
    (tmp_path / "train_gpt.py").write_bytes(code)
    command = [sys.executable, "-I", "train_gpt.py", "--data", str(data), "--out", "shipped"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = RunDirectory(tmp_path / "package")
    ladder = run_stages(StageContext(config=config, dataset=open_dataset(data), directory=ours), code).ladder
    shipped = tmp_path / "shipped"
    assert ours.file("artifact.golf").read_bytes() == (shipped / "artifact.golf").read_bytes()
    assert [rung.name for rung in ladder] == ["live", "ema", "quantised", "sliding", *(["ttt"] if config.ttt else [])]
    record = json.loads((shipped / "record.json").read_text())
    for rung, theirs in zip(ladder, record["ladder"], strict=True):
        assert (theirs["bpb"], theirs["chunks"]) == (rung.bpb, [list(chunk) for chunk in rung.chunks]), rung.name
    assert record["config"] == to_plain(config)
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr == "error: shipped holds another run: give --out or --run-id\n"
    assert json.loads((shipped / "record.json").read_text()) == record, "nothing of the first run is changed"


def test_the_shipped_file_on_two_ranks(data: Path, tmp_path: Path) -> None:
    """Fault: ranks of the shipped file train on each other's slices, or each writes and prints for itself."""
    (tmp_path / "train_gpt.py").write_bytes(counted_code(APRIL))
    write_json(tmp_path / "config.json", to_plain(APRIL))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    shipped = [*launcher, "train_gpt.py", "--data", str(data), "--out", "shipped"]
    package = [*launcher, "-m", "golf", "run", "config.json", "--data", str(data), "--out", "package"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in (shipped, package):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
    ours, theirs = tmp_path / "package", tmp_path / "shipped"
    assert (ours / "artifact.golf").read_bytes() == (theirs / "artifact.golf").read_bytes()
    record = json.loads((theirs / "record.json").read_text())
    assert [rung["name"] for rung in record["ladder"]] == ["live", "ema", "quantised", "sliding", "ttt"]
    for rung in record["ladder"]:
        result = read_result(ours / f"{rung['name']}.json", RungResult)
        assert result is not None
        assert (rung["bpb"], rung["chunks"]) == (result.bpb, [list(chunk) for chunk in result.chunks]), rung["name"]

"""The fitted split against every combination, really packed, and the command on a folder without validation text."""

import itertools
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golf.artifact.pack import pack, unpack
from golf.cli.main import main
from golf.config.config import QuantConfig, RunConfig, from_plain, to_plain
from golf.model.gepa import build_model
from golf.pipeline.bit_allocation import OPTIONS, Option, best, fit, training_loss, training_tokens, with_options
from golf.pipeline.bundle import code_bytes
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import write_tensors
from tests.conftest import TINY

FEW = {name: OPTIONS[name] for name in ("int4", "int6, step from 1/31", "int8")}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Weights that differ from tensor to tensor."""
    generator = torch.Generator().manual_seed(4)
    state = build_model(TINY.model, 1).state_dict()
    return {n: w + 0.2 * torch.randn(w.shape, generator=generator) for n, w in state.items()}


def test_the_best_of_random_options() -> None:
    """Fault: a combination within the limit has a smaller loss, or an equal one with fewer bytes."""
    source = random.Random(1)
    for _ in range(60):
        options = {
            group: [
                Option(str(i), source.randint(-50, 50), source.choice((0.0, 0.5, source.random()))) for i in range(4)
            ]
            for group in ("a", "b", "c")[: source.randint(1, 3)]
        }
        most = source.randint(-120, 120)
        every = [dict(zip(options, parts, strict=True)) for parts in itertools.product(*options.values())]
        fitting = [one for one in every if sum(part.bytes for part in one.values()) <= most]

        def rank(one: dict[str, Option]) -> tuple[float, int]:
            return round(sum(part.loss for part in one.values()), 9), sum(part.bytes for part in one.values())

        found = best(options, most)
        assert (found is None) == (not fitting)
        if found is not None:
            assert rank(found) == min(map(rank, fitting))


@pytest.mark.long
def test_no_split_that_fits_is_predicted_better(weights: dict[str, Tensor], data: Path) -> None:
    """Fault: an artifact over the cap, bytes that are not the codec's, another model's loss, a better split unused."""
    sizes = {name: len(pack(weights, TINY.model, whole(name))) for name in FEW}
    cap = (min(sizes.values()) + max(sizes.values())) // 2
    config = replace(TINY, cap_bytes=code_bytes(TINY) + cap + 700)
    loss = training_loss(config, training_tokens(data, 300), 512, ProcessGroup())
    found = fit(weights, config, loss, 700, FEW)
    real = pack(weights, config.model, found.quant)
    assert len(real) == found.model_bytes <= cap + 300  # the code holds the split's fields, too
    assert len(real) + code_bytes(replace(config, quant=found.quant)) <= config.cap_bytes - 700
    assert abs(found.predicted_bytes - found.model_bytes) < 0.02 * cap
    assert loss(unpack(real)[1]) == found.measured_loss
    chosen = sum(option.loss for option in found.chosen.values())
    for parts in itertools.product(*found.options.values()):
        split = with_options(TINY.quant, {g: FEW[p.name] for g, p in zip(found.options, parts, strict=True)})
        if sum(part.loss for part in parts) < chosen - 1e-9:
            assert len(pack(weights, TINY.model, split)) > found.model_bytes


def whole(name: str) -> QuantConfig:
    """All groups on one grid."""
    grid = FEW[name]
    return replace(TINY.quant, attention=grid, mlp=grid, token_embedding=grid, tables=grid)


def test_nothing_fits(weights: dict[str, Tensor], data: Path) -> None:
    """Fault: an endless search, or a split that is over the cap."""
    config = replace(TINY, cap_bytes=code_bytes(TINY) + 1000)
    with pytest.raises(ValueError, match=r"nothing fits.*--cap"):
        fit(weights, config, lambda weights: 0.0, options={"int4": OPTIONS["int4"]})


@pytest.mark.long
def test_the_command_needs_no_validation_text(
    weights: dict[str, Tensor], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: calibration sees validation text; a written split that other commands do not take."""
    run, copy = tmp_path / "run", Path(shutil.copytree(data, tmp_path / "words"))
    for path in copy.glob("*_val_*.bin"):
        path.write_bytes(b"not a shard")
    run.mkdir()
    write_json(run / "config.json", to_plain(TINY))
    write_tensors(run / "average.safetensors", weights)
    cap = code_bytes(TINY) + 30_000
    command = ["fit", str(run), "--data", str(copy), "--cap", str(cap), "--margin", "100", "--tokens", "256"]
    assert main(command) == 0
    written = from_plain(RunConfig, read_json(run / "fitted.json"))
    assert written.model == TINY.model
    assert written.cap_bytes == cap
    assert main(["pack", str(run), "--split", str(run / "fitted.json")]) == 0
    size = (run / "artifact.golf").stat().st_size
    assert size + code_bytes(written) <= cap - 100
    assert read_json(run / "config.json")["quant"] == to_plain(written)["quant"]
    capsys.readouterr()
    assert main(["bytes", str(run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    counted = code_bytes(from_plain(RunConfig, read_json(run / "config.json")))
    assert sum(row["packed_bytes"] for row in rows.values()) == size + counted
    assert main(["fit", str(run), "--data", str(tmp_path)]) == 2
    assert "training shards" in capsys.readouterr().err

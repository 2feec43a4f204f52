"""Hessians against inputs computed by hand, and the pack stage that reads training data only where it must."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from golf.artifact.calibration import calibrate, calibration_starts
from golf.artifact.pack import pack, unpack
from golf.config.config import RunConfig, override_all
from golf.data.dataset import Dataset, open_dataset
from golf.model.gepa import GEPA, build_model
from golf.model.layers import Block
from golf.pipeline.pack_stage import pack_stage, pack_trained
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.process_group import ProcessGroup

GPTQ = {"quant.attention.method": "gptq", "quant.mlp.method": "gptq", "quant.calibration_tokens": 500}


class Untouchable:
    """Validation tokens that nobody may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"validation tokens were read: {name}")

    __getitem__ = __len__ = __array__ = __getattr__


@pytest.fixture(scope="module")
def config(tiny: RunConfig) -> RunConfig:
    """The tiny run, packed by GPTQ."""
    return override_all(tiny, GPTQ)


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """Its data, of which validation must stay closed."""
    return open_dataset(data)


@pytest.fixture(scope="module")
def trained(config: RunConfig, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A folder with trained weights."""
    folder = RunDirectory(tmp_path_factory.mktemp("run"))
    train_stage(StageContext(config=replace(config, validate_every=None), dataset=dataset, directory=folder))
    return folder


def moved(config: RunConfig) -> GEPA:
    """The model with no weight at zero."""
    model, generator = build_model(config.model, 1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def test_hessians_are_those_of_the_inputs(config: RunConfig, dataset: Dataset) -> None:
    """Fault: another module's inputs, sequences counted twice or not at all, hooks left behind."""
    model, stream = moved(config), dataset.train
    assert stream is not None
    hessians = calibrate(model, stream, config)
    blocks = [name for name, p in model.named_parameters() if name.startswith("blocks.") and p.numel() > 300]
    assert sorted(hessians) == sorted(name for name in blocks if name.endswith(".weight"))
    assert calibrate(model, stream, config)["blocks.1.mlp.up.weight"].equal(hessians["blocks.1.mlp.up.weight"])
    block, seen = model.blocks[1], list[Any]()
    assert isinstance(block, Block)
    block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    starts = calibration_starts(stream, config)
    assert len(starts) == 32
    with torch.no_grad():
        for start in starts.tolist():
            model.logits(torch.from_numpy(stream.read(start, 16))[None])
        up, down, query = [], [], []
        for h, begun, *rest in seen:
            mixed = block.residual_mix[0] * h + block.residual_mix[1] * begun
            normed = F.rms_norm(mixed, (32,)) * block.norm_scale
            query.append(normed[0])
            mixed = mixed + block.attention_scale * block.attention(normed, *rest)
            up.append((F.rms_norm(mixed, (32,)) * block.norm_scale)[0])
            hidden = torch.relu(up[-1] @ block.mlp.up.weight.T)
            down.append(block.mlp.scale * hidden.square() + block.mlp.bias)
    for name, inputs in (("attention.key", query), ("attention.query", query), ("mlp.up", up), ("mlp.down", down)):
        x = torch.cat(inputs).double()
        torch.testing.assert_close(hessians[f"blocks.1.{name}.weight"], x.T @ x / 512, rtol=1e-5, atol=1e-6)


def test_tokens_follow_from_seed_and_configuration(config: RunConfig, dataset: Dataset) -> None:
    """Fault: sequences that change from run to run, or are the same under every seed."""
    assert dataset.train is not None
    starts = calibration_starts(dataset.train, config)
    assert starts.equal(calibration_starts(dataset.train, config))
    assert not starts.equal(calibration_starts(dataset.train, replace(config, seed=7)))
    assert 0 <= int(starts.min()) <= int(starts.max()) < dataset.train.num_tokens


def test_the_pack_stage_never_sees_validation(config: RunConfig, dataset: Dataset, trained: RunDirectory) -> None:
    """Fault: calibration on validation tokens, bits that change on repeat, or a method that changes nothing."""
    closed = replace(dataset, validation=cast(Any, Untouchable()), bytes=cast(Any, Untouchable()))
    clip = override_all(config, {"quant.attention.method": "clip", "quant.mlp.method": "clip"})
    artifacts = []
    for wanted in (config, config, clip):
        trained.file("pack.json").unlink(missing_ok=True)
        pack_trained(StageContext(config=wanted, dataset=closed, directory=trained), b"")
        artifacts.append(trained.file("artifact.golf").read_bytes())
    assert artifacts[0] == artifacts[1] != artifacts[2]


def test_only_gptq_needs_training_shards(config: RunConfig, tiny: RunConfig, trained: RunDirectory) -> None:
    """Fault: data needed where nothing is calibrated, or codes that are silently the nearest where it is missing."""
    pack_stage(tiny, trained, None, ProcessGroup())
    with pytest.raises(ValueError, match=r"_train_"):
        pack_stage(config, trained, None, ProcessGroup())


def test_each_group_has_its_method(config: RunConfig, dataset: Dataset) -> None:
    """Fault: a group packed by another's method, Hessians that are not asked for, tables that claim inputs."""
    model = moved(config)
    assert dataset.train is not None
    only_mlp = override_all(config, {"quant.attention.method": "clip"})
    hessians = calibrate(model, dataset.train, only_mlp)
    assert {name.split(".")[2] for name in hessians} == {"mlp"}
    weights = {name: p.detach() for name, p in model.named_parameters()}
    read = unpack(pack(weights, config.model, only_mlp.quant, hessians))[1]
    plain = unpack(pack(weights, config.model, override_all(only_mlp, {"quant.mlp.method": "clip"}).quant))[1]
    assert {name for name in read if not torch.equal(read[name], plain[name])} == set(hessians)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.down.*Hessian"):
        pack(weights, config.model, only_mlp.quant)
    with pytest.raises(ValueError, match="method"):
        override_all(config, {"quant.tables.method": "gptq"})

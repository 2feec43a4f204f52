"""Published checkpoints: names there and back, both kinds of files, and files made by an enemy."""

import io
import os
import pickle
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from torch import Tensor

from golf.artifact import published_file as model_file
from golf.artifact.published_names import from_published, infer_model, read_published, to_published
from golf.config.config import AttentionGateConfig, InputSmearConfig, ModelConfig
from golf.model.gepa import GEPA

TINY = ModelConfig(
    vocab_size=37,
    num_layers=12,
    model_dim=24,
    num_heads=4,
    num_kv_heads=2,
    mlp_hidden=20,
    rope_dims=4,
    bigram_buckets=7,
    bigram_dim=6,
    xsa_layers=2,
    value_dim=5,
    value_layers=(10, 11),
)
VARIANTS = {
    "all parts": TINY,
    "no bigram": ModelConfig(**(vars(TINY) | {"bigram_buckets": None})),
    "no value": ModelConfig(**(vars(TINY) | {"value_dim": None, "value_layers": ()})),
    "tables without a matrix": ModelConfig(**(vars(TINY) | {"bigram_dim": 24, "value_dim": 12})),
    "eleven values": ModelConfig(**(vars(TINY) | {"value_layers": tuple(range(1, 12))})),
    "gates of the input": ModelConfig(
        **vars(TINY)
        | {"input_smear": InputSmearConfig(channels=9), "attention_gate": AttentionGateConfig(channels=8)}
        | {"smear_gate": False}
    ),
    "one kv head": ModelConfig(**(vars(TINY) | {"num_kv_heads": 1})),
}


def published_names(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the published trainer saves them, written down without this project's table."""
    d, kv, hidden = config.model_dim, config.num_kv_heads * config.head_dim, config.mlp_hidden
    half = config.num_layers // 2
    names: dict[str, tuple[int, ...]] = {"skip_weights": (half, d), "skip_gates": (half, d)}
    names |= {"tok_emb.weight": (config.vocab_size, d)}
    if config.input_smear is None:
        names |= {"smear_gate.gate": (d,)}
    else:
        names |= {"smear_gate.weight": (1, config.input_smear.channels), "smear_lambda": (1,)}
    if config.bigram_buckets is not None:
        names |= {"bigram_emb.scale": (), "bigram_emb.embed.weight": (config.bigram_buckets, config.bigram_dim)}
        if config.bigram_dim != d:
            names |= {"bigram_emb.proj.weight": (d, config.bigram_dim)}
    if config.value_dim is not None:
        names |= {"ve_shared.scale": (), "ve_shared.embed.weight": (config.vocab_size, config.value_dim)}
        if config.value_dim != kv:
            names |= {"ve_shared.proj.weight": (kv, config.value_dim)}
        names |= {f"ve_layer_scales.{i}": (1,) for i in range(len(config.value_layers))}
    for layer in range(config.num_layers):
        block = {"attn_scale": (d,), "mlp_scale": (d,), "resid_mix": (2, d), "mlp.scale": (hidden,)}
        block |= {"mlp.bias": (hidden,), "mlp.up_proj.weight": (hidden, d), "mlp.down_proj.weight": (d, hidden)}
        block |= {"attn.q_gain": (config.num_heads,), "attn.c_q.weight": (d, d), "attn.proj.weight": (d, d)}
        block |= {"attn.c_k.weight": (kv, d), "attn.c_v.weight": (kv, d)}
        if config.attention_gate is not None:
            block |= {"attn.attn_gate_w": (config.num_heads, config.attention_gate.channels)}
        names |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    return names


def published_weights(config: ModelConfig = TINY) -> dict[str, Tensor]:
    """A published state dictionary in which all values differ."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in published_names(config).items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Same names, shapes and bits."""
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", VARIANTS)
def test_names_there_and_back(name: str) -> None:
    """Catches a name that is not renamed, or to one that is taken, or in another way with other neighbours."""
    config = VARIANTS[name]
    theirs = published_weights(config)
    ours = from_published(theirs)
    GEPA(config).load_state_dict(ours)
    assert same(to_published(ours), theirs)
    own = GEPA(config).state_dict()
    assert same(from_published(to_published(own)), own)
    shuffled = list(theirs.items())
    random.Random(3).shuffle(shuffled)
    assert same(from_published(dict(shuffled)), ours)


def test_each_tensor_goes_to_its_own_place() -> None:
    """Catches two names swapped: shapes alone do not tell key from value, nor attention's scale from the MLP's."""
    theirs = published_weights()
    ours = from_published(theirs)
    for mine, published in {
        "token_embedding.weight": "tok_emb.weight",
        "blocks.10.attention.key.weight": "blocks.10.attn.c_k.weight",
        "blocks.10.attention.value.weight": "blocks.10.attn.c_v.weight",
        "blocks.1.attention.query.weight": "blocks.1.attn.c_q.weight",
        "blocks.1.attention.output.weight": "blocks.1.attn.proj.weight",
        "blocks.1.attention.query_gain": "blocks.1.attn.q_gain",
        "blocks.2.attention_scale": "blocks.2.attn_scale",
        "blocks.2.mlp_scale": "blocks.2.mlp_scale",
        "blocks.2.mlp.scale": "blocks.2.mlp.scale",
        "blocks.2.mlp.bias": "blocks.2.mlp.bias",
        "bigram.table.weight": "bigram_emb.embed.weight",
        "bigram.projection.weight": "bigram_emb.proj.weight",
        "bigram.scale": "bigram_emb.scale",
        "value.table.weight": "ve_shared.embed.weight",
        "value.projection.weight": "ve_shared.proj.weight",
        "value.scale": "ve_shared.scale",
        "value.layer_scales.0": "ve_layer_scales.0",
        "value.layer_scales.1": "ve_layer_scales.1",
        "skip_gates": "skip_gates",
        "skip_weights": "skip_weights",
    }.items():
        assert torch.equal(ours[mine], theirs[published]), mine


@pytest.mark.parametrize("name", VARIANTS)
def test_the_shape_is_known_from_the_weights(name: str) -> None:
    """Catches a dimension read from the wrong tensor or side."""
    config = VARIANTS[name]
    base = ModelConfig(**(vars(config) | {"vocab_size": 5, "mlp_hidden": 1, "bigram_buckets": 99, "value_dim": 77}))
    assert infer_model(from_published(published_weights(config)), base) == config


def test_weights_of_something_else_are_refused() -> None:
    """Catches a KeyError or a wrong shape from weights that are not a GEPA model's, or lack a part of it."""
    whole = from_published(published_weights())
    for name in whole:
        rest = {other: tensor for other, tensor in whole.items() if other != name}
        try:
            infer_model(rest, TINY)
        except ValueError as error:
            assert name in str(error)  # noqa: PT017 only some of the tensors are looked at
    hostile: list[dict[str, Tensor]] = [
        {},
        {"transformer.wte.weight": torch.ones(3, 4)},
        whole | {"token_embedding.weight": torch.ones(3)},
        whole | {"blocks.x.attention_scale": torch.ones(3)},
        whole | {"blocks.0.attention.query_gain": torch.ones(0)},
        whole | {"blocks.0.attention.key.weight": torch.tensor(1.0)},
        whole | {"bigram.table.weight": torch.ones(3)},
    ]
    for weights in hostile:
        with pytest.raises(ValueError, match=r"GEPA|ModelConfig"):
            infer_model(weights, TINY)


def saved(value: Any, legacy: bool = False) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "zstd": lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    "zstd without its size": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "zlib": zlib.compress,
    "zlib level 1": lambda data: zlib.compress(data, 1),
}


def quantised(weights: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The published quantised layout of `weights` and what it stands for, one matrix per row, one per tensor."""
    codes: dict[str, Tensor] = {}
    kinds: dict[str, Any] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim == 2 and ".attn." in name:
            scale = (tensor.abs().amax(dim=1) / 31).half()
            codes[name + ".q"] = (tensor / scale.float()[:, None]).round().clamp(-32, 31).to(torch.int8)
            meant[name] = torch.stack([q.float() * s.float() for q, s in zip(codes[name + ".q"], scale, strict=True)])
            kinds[name] = {"type": "int6"}
        elif name in ("tok_emb.weight", "bigram_emb.embed.weight"):
            scale = (tensor.abs().max() / 127).half()
            codes[name + ".q"] = (tensor / scale.float()).round().clamp(-127, 127).to(torch.int8)
            meant[name] = codes[name + ".q"].float() * float(scale)
            kinds[name] = {"type": "int8"}
        else:
            control = tensor.ndim < 2
            codes[name] = tensor if control else tensor.half()
            meant[name], kinds[name] = codes[name].float(), "passthrough_ctrl" if control else "passthrough"
            continue
        codes[name + ".scale"] = scale
    return {"w": codes, "m": kinds}, meant


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("packer", PACKERS)
def test_both_kinds_of_files(tmp_path: Path, packer: str, legacy: bool) -> None:
    """Catches a scale on the wrong axis, a type that is kept, or a compression that is not read."""
    weights = published_weights()
    layout, meant = quantised(weights)
    path = tmp_path / "final_model.pt"
    path.write_bytes(PACKERS[packer](saved(weights, legacy)))
    assert same(read_published(path), from_published(weights))
    path = tmp_path / "final_model.int6.ptz"
    path.write_bytes(PACKERS[packer](saved(layout, legacy)))
    read = read_published(path)
    assert same(read, from_published(meant))
    assert {tensor.dtype for tensor in read.values()} == {torch.float32}
    GEPA(TINY).load_state_dict(read)


def test_half_precision_checkpoints_become_float32(tmp_path: Path) -> None:
    """Catches weights that stay bfloat16 and are trained on so."""
    weights = {name: tensor.bfloat16() for name, tensor in published_weights().items()}
    torch.save(weights, tmp_path / "final_model.pt")
    read = read_published(tmp_path / "final_model.pt")
    assert {tensor.dtype for tensor in read.values()} == {torch.float32}
    assert torch.equal(read["skip_gates"], weights["skip_gates"].float())


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "module"])
def test_a_file_with_code_is_refused(tmp_path: Path, packer: str, kind: str) -> None:
    """Catches a stranger's checkpoint that runs its code when it is read."""
    mark, path = tmp_path / "exploded", tmp_path / "final_model.int6.ptz"
    value: Any = {"tok_emb.weight": torch.ones(2), "x": Bomb(mark)}
    if kind == "pickle":
        data = pickle.dumps(Bomb(mark), protocol=2)
    elif kind == "module":
        data = saved(torch.nn.Linear(2, 2))
    else:
        data = saved(value, legacy=kind == "legacy")
    path.write_bytes(PACKERS[packer](data))
    with pytest.raises(ValueError, match=r"final_model\.int6\.ptz"):
        read_published(path)
    assert not mark.exists()


HOSTILE: dict[str, Any] = {
    "a list": [torch.ones(2)],
    "a tensor": torch.ones(2),
    "numbers": {"tok_emb.weight": 3},
    "numbered tensors": {1: torch.ones(2)},
    "w and m are numbers": {"w": 5, "m": 3},
    "w and m are lists": {"w": [], "m": []},
    "m names what w lacks": {"w": {}, "m": {"tok_emb.weight": {"type": "int6"}}},
    "m passes what w lacks": {"w": {}, "m": {"tok_emb.weight": "passthrough"}},
    "codes are a number": {"w": {"a.q": 1, "a.scale": torch.ones(1)}, "m": {"a": {"type": "int6"}}},
    "passed text": {"w": {"a": "text"}, "m": {"a": "passthrough"}},
    "too many scales": {"w": {"a.q": torch.ones(2, 3), "a.scale": torch.ones(5)}, "m": {"a": {"type": "int6"}}},
    "numbers as names": {"w": {"a.q": torch.ones(2, 3)}, "m": {7: {"type": "int6"}}},
    "scale is text": {"w": {"a.q": torch.ones(2, 3), "a.scale": "x"}, "m": {"a": {"type": "int6"}}},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_other_contents_are_refused(tmp_path: Path, kind: str) -> None:
    """Catches another exception than the promised one, without the file's name, and weights made of nonsense."""
    path = tmp_path / "final_model.int6.ptz"
    path.write_bytes(PACKERS["zstd"](saved(HOSTILE[kind])))
    with pytest.raises(ValueError, match=r"final_model\.int6\.ptz"):
        read_published(path)


@pytest.mark.parametrize("packer", ["plain", "zstd", "zlib"])
@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_refused_or_the_same(tmp_path: Path, packer: str, legacy: bool) -> None:
    """Catches damage that ends in another exception than ValueError with the file's name."""
    config = ModelConfig(**(vars(TINY) | {"num_layers": 2, "value_layers": (1,)}))
    data = PACKERS[packer](saved(published_weights(config), legacy))
    path, source = tmp_path / "final_model.pt", random.Random(5)
    for _ in range(150):
        bad = bytearray(data)
        if source.random() < 0.4:
            del bad[source.randrange(len(bad)) :]
        else:
            for _ in range(source.randint(1, 4)):
                bad[source.randrange(min(len(bad), source.choice([64, 2000, len(bad)])))] = source.randrange(256)
        path.write_bytes(bad)
        try:
            read_published(path)
        except ValueError as error:
            assert path.name in str(error)  # noqa: PT017 damage of a weight itself cannot be seen


@pytest.mark.parametrize("data", [b"", b"y", b"\x28\xb5\x2f\xfd", b"\x78", b"\x78\x9c", b"PK\x03\x04", bytes(1000)])
def test_short_and_empty_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """Catches an error that does not name the file."""
    (tmp_path / "final_model.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"final_model\.pt"):
        read_published(tmp_path / "final_model.pt")


@pytest.mark.parametrize("packer", ["zstd", "zstd without its size", "zlib"])
def test_absurd_sizes_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packer: str
) -> None:
    """Catches a small file that unpacks to more than the limit (here 1 MB of 64 MB), and one just at the limit."""
    monkeypatch.setattr(model_file, "LARGEST_BYTES", 1 << 20)
    path = tmp_path / "final_model.int6.ptz"
    path.write_bytes(PACKERS[packer](bytes(1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"final_model\.int6\.ptz.*more than 1048576 bytes"):
            read_published(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    exact = saved({"a": torch.zeros(1000)})
    monkeypatch.setattr(model_file, "LARGEST_BYTES", len(exact))
    path.write_bytes(PACKERS[packer](exact))
    assert torch.equal(read_published(path)["a"], torch.zeros(1000))
    monkeypatch.setattr(model_file, "LARGEST_BYTES", len(exact) - 1)
    with pytest.raises(ValueError, match="more than"):
        read_published(path)

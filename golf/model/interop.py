"""Parameters to and from the names of the published checkpoints of the PR #598 family.

A state dictionary under the published names enters, the project's leaves, and the other way round; values
are never changed. Published files are unpickled with weights only: nothing in them is executed.

| ours | published |
|---|---|
| token_embedding.weight | tok_emb.weight |
| bigram.{table,projection}.weight, bigram.scale | bigram_emb.{embed,proj}.weight, bigram_emb.scale |
| value.{table,projection}.weight, value.scale | ve_shared.{embed,proj}.weight, ve_shared.scale |
| value.layer_scales.j | ve_layer_scales.j |
| smear.gate, skip_weights, skip_gates | smear_gate.gate, skip_weights, skip_gates |
| blocks.i.attention.{query,key,value,output}.weight, .query_gain | blocks.i.attn.{c_q,c_k,c_v,proj}.weight, .q_gain |
| blocks.i.mlp.{up,down}.weight, .scale, .bias | blocks.i.mlp.{up_proj,down_proj}.weight, .scale, .bias |
| blocks.i.{attention_scale,mlp_scale,residual_mix} | blocks.i.{attn_scale,mlp_scale,resid_mix} |
"""

import io
import pickle
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.artifact.grid import Quantised, dequantise
from golf.config import ModelConfig

try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None  # type: ignore[assignment]

LARGEST_BYTES = 1 << 30
"""Published files that unpack to more are refused."""
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError),
    *(pickle.UnpicklingError, struct.error),
)
"""What torch.load raises on damaged files, weights only."""

_PAIRS = [
    ("token_embedding.weight", "tok_emb.weight"),
    ("bigram.table.", "bigram_emb.embed."),
    ("bigram.projection.", "bigram_emb.proj."),
    ("bigram.scale", "bigram_emb.scale"),
    ("value.table.", "ve_shared.embed."),
    ("value.projection.", "ve_shared.proj."),
    ("value.scale", "ve_shared.scale"),
    ("value.layer_scales.", "ve_layer_scales."),
    ("smear.gate", "smear_gate.gate"),
    (".attention.query.", ".attn.c_q."),
    (".attention.key.", ".attn.c_k."),
    (".attention.value.", ".attn.c_v."),
    (".attention.output.", ".attn.proj."),
    (".attention.query_gain", ".attn.q_gain"),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
    (".attention_scale", ".attn_scale"),
    (".residual_mix", ".resid_mix"),
]
_TO_OURS = [(theirs, ours) for ours, theirs in _PAIRS]


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The project's names for a state dictionary under the published names; values unchanged, float32."""
    return {_rename(name, _TO_OURS): tensor.float() for name, tensor in weights.items()}


def to_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names for a state dictionary under the project's; the inverse of `from_published`."""
    return {_rename(name, _PAIRS): tensor for name, tensor in weights.items()}


def _rename(name: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def infer_model(weights: Mapping[str, Tensor], base: ModelConfig) -> ModelConfig:
    """The shape of a model from its weights under the project's names.

    What shapes do not tell (rotary settings, softcap, XSA layers) is taken from `base`; the value embedding
    is taken to be on the last layers.
    Raises: ValueError when the weights are not those of a GEPA model.
    """
    try:
        vocab_size, model_dim = weights["token_embedding.weight"].shape
        num_heads = weights["blocks.0.attention.query_gain"].numel()
        kv_width = weights["blocks.0.attention.key.weight"].shape[0]
        mlp_hidden = weights["blocks.0.mlp.up.weight"].shape[0]
        num_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        bigram, value = weights.get("bigram.table.weight"), weights.get("value.table.weight")
        widths = [None if table is None else table.shape[1] for table in (bigram, value)]
    except KeyError as error:
        raise ValueError(f"not the weights of a GEPA model: {error} is missing") from error
    except (ValueError, IndexError) as error:
        raise ValueError(f"not the weights of a GEPA model: a name or shape is wrong ({error})") from error
    num_values = sum(name.startswith("value.layer_scales.") for name in weights)
    plain = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return ModelConfig(
        **plain
        | {
            "vocab_size": vocab_size,
            "num_layers": num_layers,
            "model_dim": model_dim,
            "num_heads": num_heads,
            "num_kv_heads": kv_width * num_heads // model_dim,
            "mlp_hidden": mlp_hidden,
            "bigram_buckets": None if bigram is None else bigram.shape[0],
            "bigram_dim": base.bigram_dim if bigram is None else widths[0],
            "value_dim": widths[1],
            "value_layers": tuple(range(num_layers - num_values, num_layers)),
            "xsa_layers": min(base.xsa_layers, num_layers),
        }
    )


def read_published(path: Path) -> dict[str, Tensor]:
    """The weights in a published `final_model.pt` or `final_model.int6.ptz`, under the project's names.

    Returns: float32 tensors; quantised ones dequantised. Nothing in the file is executed.
    Raises: ValueError naming the file when it is neither, is damaged or holds more than plain tensors.
    """
    stored = read_published_codes(path)
    return {n: dequantise(t) if isinstance(t, Quantised) else t.float() for n, t in stored.items()}


def read_published_codes(path: Path) -> dict[str, Quantised | Tensor]:
    """As `read_published`, with codes and scales as they are where an artifact can hold them.

    Returns: quantised matrices; float16 and float32 tensors. Codes that are no int8 matrix, or whose scales are no
        float16 numbers, are float32 tensors of the same values.
    """
    data = path.read_bytes()
    try:
        if data[:4] == b"\x28\xb5\x2f\xfd":
            data = _unzstd(data)
        elif data[:1] == b"\x78":
            inflater = zlib.decompressobj()
            data = inflater.decompress(data, LARGEST_BYTES)
            if inflater.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {LARGEST_BYTES} bytes")
        loaded = _load_plain(data)
        if isinstance(loaded, dict) and set(loaded) == {"w", "m"}:
            loaded = _published_codes(loaded["w"], loaded["m"])
        elif not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
            raise ValueError("it holds more than named tensors")
        return {_rename(name, _TO_OURS): _stored(tensor) for name, tensor in loaded.items()}
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError(f"{path} is not a published checkpoint of the PR #598 family: {error}") from error


def _stored(value: Quantised | Tensor) -> Quantised | Tensor:
    """Codes and float16 as they are, every other tensor as float32."""
    return value if isinstance(value, Quantised) or value.dtype == torch.float16 else value.float()


def _load_plain(data: bytes) -> Any:
    """What torch.save wrote, on the CPU: the one place where other people's files leave no other choice."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(f"damaged, or more than tensors and plain values ({error})") from error


def _unzstd(data: bytes) -> bytes:
    if zstandard is None:
        raise ValueError("reading it needs the package zstandard: pip install zstandard")
    raw = bytearray()
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while block := reader.read(1 << 20):
                raw += block
                if len(raw) > LARGEST_BYTES:
                    raise ValueError(f"it unpacks to more than {LARGEST_BYTES} bytes")
    except zstandard.ZstdError as error:
        raise ValueError(f"damaged zstd stream ({error})") from error
    return bytes(raw)


def _published_codes(stored: Mapping[str, Tensor], kinds: Mapping[str, Any]) -> dict[str, Quantised | Tensor]:
    """Codes `name.q` with scales `name.scale` (one per row or one), or the tensor as it is."""
    found: dict[str, Quantised | Tensor] = {}
    for name, kind in kinds.items():
        if isinstance(kind, str):
            found[name] = stored[name].detach()
            continue
        codes, scale = stored[name + ".q"], stored[name + ".scale"]
        whole = codes.ndim == 2 and codes.dtype == torch.int8 and tuple(scale.shape) in ((), (len(codes),))
        if whole and torch.equal(scale.half().float(), scale.float()):
            found[name] = Quantised(codes, scale.half())
        else:
            steps = scale.float()
            found[name] = codes.float() * (steps.view(-1, *[1] * (codes.ndim - 1)) if steps.ndim else steps)
    return found

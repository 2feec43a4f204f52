"""Weights to an artifact by the quantisation split, and back to the same model's weights.

Named float32 weights enter; bytes and a ledger of where they went leave. Reading an artifact needs nothing
but the artifact. Nothing here sees data: codes are chosen from the weights and, for GPTQ, from Hessians that the
caller measured on training data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from golf.artifact.codec import compress
from golf.artifact.container import ARTIFACT_HEADER, ArtifactError, decode, encode, payload_parts
from golf.artifact.gptq import gptq_codes
from golf.artifact.grid import Quantised, quantise_all
from golf.config import GridConfig, ModelConfig, QuantConfig, from_plain, to_plain
from golf.model.gepa import GEPA

LARGEST_ARTIFACT = 64 << 20
"""Bytes; a larger file is refused before it is read."""
FLOAT_GROUP = "float"
SHOWN = 300
"""Characters of an error's cause, which may quote the file."""
NO_HESSIANS: Mapping[str, Tensor] = MappingProxyType({})
"""Where all codes are the nearest."""


@dataclass(frozen=True)
class Packed:
    """An artifact and where its bytes go."""

    data: bytes
    ledger: dict[str, dict[str, float]]
    """Per tensor group: "elements", "raw_bytes" (codes and scales), "entropy_bytes" (order-0 entropy of the codes),
    "packed_bytes" (share of the artifact, by each group compressed alone, at level 9 at most). Under
    "header": the file's header and its index."""


def group_of(name: str) -> str:
    """The group of QuantConfig that a parameter belongs to, or "float" for those that are never quantised."""
    if name.startswith("blocks.") and name.endswith(".weight"):
        return "attention" if ".attention." in name else "mlp"
    if name == "token_embedding.weight":
        return "token_embedding"
    return "tables" if name.startswith(("bigram.", "value.")) and name.endswith(".weight") else FLOAT_GROUP


def is_control(name: str) -> bool:
    """Whether a small tensor is a control tensor: all but the blocks' matrices and the token embedding."""
    return group_of(name) not in ("attention", "mlp", "token_embedding")


def grid_of(name: str, weight: Tensor, quant: QuantConfig) -> GridConfig | None:
    """The grid of a tensor; None for the small ones and vectors, which stay float."""
    group = group_of(name)
    return None if group == FLOAT_GROUP or weight.numel() <= quant.float_elements else getattr(quant, group)


def quantise_tensor(name: str, weight: Tensor, quant: QuantConfig) -> Quantised | Tensor:
    """`quantise_tensors` of one tensor."""
    return quantise_tensors({name: weight}, quant)[name]


def quantise_tensors(
    weights: Mapping[str, Tensor], quant: QuantConfig, hessians: Mapping[str, Tensor] = NO_HESSIANS
) -> dict[str, Quantised | Tensor]:
    """The tensors as they are stored, in the order of their names: on their groups' grids, or float.

    Args: hessians: of every matrix whose grid has the method "gptq", see `golf.artifact.calibration`.
    Raises: ValueError naming the tensor that is not finite, or has no Hessian though it needs one.
    """
    stored: dict[str, Quantised | Tensor] = {}
    by_grid: dict[GridConfig, dict[str, Tensor]] = {}
    for name, weight in sorted(weights.items()):
        grid = grid_of(name, weight, quant)
        if grid is not None:
            by_grid.setdefault(grid, {})[name] = weight
            continue
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(f"{name} must be finite to be packed; the run has diverged")
        stored[name] = weight.to(getattr(torch, quant.control_dtype if is_control(name) else quant.other_dtype))
    for grid, group in by_grid.items():
        found = quantise_all(group, grid)
        if grid.method == "gptq":
            for name, weight in group.items():
                if name not in hessians:
                    raise ValueError(f'{name}: method "gptq" needs its Hessian, measured by calibrate()')
                try:
                    codes = gptq_codes(weight, hessians[name], found[name].scale, grid, quant.damping)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
                found[name] = Quantised(codes, found[name].scale)
        stored |= found
    return {name: stored[name] for name in sorted(weights)}


def pack(
    weights: Mapping[str, Tensor],
    model: ModelConfig,
    quant: QuantConfig,
    hessians: Mapping[str, Tensor] = NO_HESSIANS,
) -> Packed:
    """Quantise and encode `weights` (float32, by parameter name); `hessians` as for `quantise_tensors`."""
    stored = quantise_tensors(weights, quant, hessians)
    data = encode(stored, to_plain(model), quant.codec, quant.level)
    return Packed(data, _ledger(stored, len(data), payload_parts(stored, to_plain(model))[0], quant))


def _ledger(
    stored: Mapping[str, Quantised | Tensor], total: int, index: bytes, quant: QuantConfig
) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Quantised | Tensor]] = {}
    for name, tensor in stored.items():
        groups.setdefault(group_of(name) if isinstance(tensor, Quantised) else FLOAT_GROUP, []).append(tensor)
    raws = {group: [b"".join(_stored_bytes(t) for t in tensors)] for group, tensors in groups.items()}
    level = min(quant.level, 9)
    alone = {group: len(compress(raw, quant.codec, level)) for group, (raw,) in raws.items()}
    share = (total - ARTIFACT_HEADER.size) / (sum(alone.values()) + len(compress(index, quant.codec, level)))
    ledger: dict[str, dict[str, float]] = {}
    for group, tensors in groups.items():
        codes = [tensor.codes for tensor in tensors if isinstance(tensor, Quantised)]
        ledger[group] = {
            "elements": float(sum((t.codes if isinstance(t, Quantised) else t).numel() for t in tensors)),
            "raw_bytes": float(len(raws[group][0])),
            "entropy_bytes": sum(_entropy_bits(tensor) for tensor in codes) / 8,
            "packed_bytes": float(int(share * alone[group])),
        }
    rest = total - sum(row["packed_bytes"] for row in ledger.values())
    raw = float(ARTIFACT_HEADER.size + 4 + len(index))
    ledger["header"] = {"elements": 0.0, "raw_bytes": raw, "entropy_bytes": 0.0, "packed_bytes": rest}
    return ledger


def _stored_bytes(tensor: Quantised | Tensor) -> bytes:
    parts = (tensor.scale, tensor.codes) if isinstance(tensor, Quantised) else (tensor,)
    return b"".join(part.contiguous().numpy().tobytes() for part in parts)


def _entropy_bits(codes: Tensor) -> float:
    counts = torch.bincount(codes.flatten().long() + 128).double()
    counts = counts[counts > 0]
    return float((counts * (counts.sum() / counts).log2()).sum())


def unpack(data: bytes) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model's shape and its float32 weights by parameter name.

    Raises: ArtifactError when the bytes are not a whole artifact of this version.
    """
    plain, weights = decode(data)
    try:
        model = from_plain(ModelConfig, plain)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"the model's shape is not valid: {str(error)[:SHOWN]}") from error
    _check_weights(model, weights)
    return model, weights


def _check_weights(model: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise ArtifactError unless the weights are those of the model; nothing is allocated for it."""
    if model.num_layers > len(weights):  # before so many layers are built, even without memory
        raise ArtifactError(f"the model has {model.num_layers:,} layers, the artifact only {len(weights)} tensors")
    try:
        with torch.device("meta"):
            wanted = {name: tuple(parameter.shape) for name, parameter in GEPA(model).named_parameters()}
    except (RuntimeError, TypeError) as error:  # torch's words for sizes beyond 64 bits
        raise ArtifactError(f"no model has this shape: {str(error)[:SHOWN]}") from error
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            needs, has = wanted.get(name), found.get(name)
            raise ArtifactError(f"tensor {name!r}: the model needs {needs}, the artifact has {has}")


def read_artifact(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """`unpack` of a file; errors name the file."""
    size = path.stat().st_size
    if size > LARGEST_ARTIFACT:
        raise ArtifactError(f"{path} has {size} bytes, more than any artifact ({LARGEST_ARTIFACT}); refused")
    try:
        return unpack(path.read_bytes())
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error

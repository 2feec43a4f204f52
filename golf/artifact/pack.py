"""Weights to an artifact by the quantisation split, and back to the same model's weights.

Reading an artifact needs nothing but the artifact. Packing sees no data: codes are chosen from the weights and, for
GPTQ, from Hessians that the caller measured on training data.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from golf.artifact.container import ArtifactError, decode, encode
from golf.artifact.correction import corrections
from golf.artifact.gptq import gptq_codes
from golf.artifact.quantizer import NotFinite, Quantised, quantise_all
from golf.config.config import GridConfig, ModelConfig, QuantConfig, from_plain, plain_shape
from golf.model.gepa import check_weights

LARGEST_ARTIFACT = 64 << 20
"""Bytes; a larger file is refused before it is read."""
FLOAT_GROUP = "float"
SHOWN = 300
"""Characters of an error's cause that are shown; it may quote the file."""
NO_HESSIANS: Mapping[str, Tensor] = MappingProxyType({})
"""The Hessians of a split without GPTQ."""


def group_of(name: str) -> str:
    """Returns the group of QuantConfig that a parameter belongs to, or "float" for those that are never quantised."""
    if name.startswith("blocks.") and name.endswith(".weight"):
        return "attention" if ".attention." in name else "mlp"
    if name == "token_embedding.weight":
        return "token_embedding"
    beside = ("bigram.", "value.", "embedding_in.", "embedding_out.")
    return "tables" if name.startswith(beside) and name.endswith(".weight") else FLOAT_GROUP


def is_control(name: str) -> bool:
    """Returns whether a small tensor is a control tensor: all but the blocks' matrices and the token embedding."""
    return group_of(name) not in ("attention", "mlp", "token_embedding")


def grid_of(name: str, elements: int, quant: QuantConfig) -> GridConfig | None:
    """Returns the grid of a tensor; None for the small ones and vectors, which stay float."""
    group = group_of(name)
    return None if group == FLOAT_GROUP or elements <= quant.float_elements else quant.grids[group]


def float_type(name: str, quant: QuantConfig) -> torch.dtype:
    """Returns the stored type of a tensor that stays float."""
    return getattr(torch, quant.control_dtype if is_control(name) else quant.other_dtype)


def quantise_tensors(
    weights: Mapping[str, Tensor], quant: QuantConfig, hessians: Mapping[str, Tensor] = NO_HESSIANS
) -> dict[str, Quantised | Tensor]:
    """Returns the tensors as they are stored, in the order of their names: on their groups' grids, or float.

    Args: hessians: of every matrix whose grid has the method "gptq", see `golf.artifact.calibration`.
    Raises: NotFinite naming the tensor that is not finite; ValueError naming the matrix whose Hessian is missing.
    """
    stored: dict[str, Quantised | Tensor] = {}
    by_grid: dict[GridConfig, dict[str, Tensor]] = {}
    for name, weight in sorted(weights.items()):
        grid = grid_of(name, weight.numel(), quant)
        if grid is not None:
            by_grid.setdefault(grid, {})[name] = weight
            continue
        if not bool(torch.isfinite(weight).all()):
            raise NotFinite(f"{name} must be finite to be packed")
        stored[name] = weight.to(float_type(name, quant))
    for grid, group in by_grid.items():
        quantised = quantise_all(group, grid)
        if grid.method == "gptq":
            for name, weight in group.items():
                if name not in hessians:
                    raise ValueError(f'{name}: method "gptq" needs its Hessian, measured by calibrate()')
                try:
                    codes = gptq_codes(weight, hessians[name], quantised[name].scale, grid, quant.damping)
                except NotFinite as error:
                    raise NotFinite(f"{name}: {error}") from error
                quantised[name] = Quantised(codes, quantised[name].scale)
        stored |= quantised
    return {name: stored[name] for name in sorted(weights)}


def pack(
    weights: Mapping[str, Tensor],
    model: ModelConfig,
    quant: QuantConfig,
    hessians: Mapping[str, Tensor] = NO_HESSIANS,
) -> bytes:
    """Returns the artifact of `weights` (float32, by parameter name); `hessians` as for `quantise_tensors`."""
    stored = quantise_tensors(weights, quant, hessians)
    if quant.correction is not None:
        stored |= corrections(weights, stored, quant.correction)
    return encode(stored, plain_shape(model), quant.codec, quant.level)


def unpack(data: bytes) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Returns the model's shape and its float32 weights by parameter name.

    Raises: ArtifactError when the bytes are not a whole artifact of this version.
    """
    plain, weights = decode(data)
    try:
        model = from_plain(ModelConfig, plain)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"the model's shape is not valid: {str(error)[:SHOWN]}") from error
    try:
        check_weights(model, weights)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    return model, weights


def read_artifact(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Returns `unpack` of a file; errors name the file."""
    size = path.stat().st_size
    if size > LARGEST_ARTIFACT:
        raise ArtifactError(f"{path} has {size} bytes, more than any artifact ({LARGEST_ARTIFACT}); refused")
    try:
        return unpack(path.read_bytes())
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error

"""Integer grids: float32 matrices to codes and scales, and back.

Pure and deterministic. A scale is stored as float16 and the codes are those of the stored scale, so the
error that the clip search minimises is the error that remains. Source: PR #598 (GPTQ-lite clip search,
there per tensor; here per row, never a larger error).

The search is bound by memory, so the rows of all matrices of one width are searched block by block, each small enough
for the cache. A row's clips come from its few largest magnitudes, and a scale that was tried before, as for all clips
below `scale_floor`, is not tried again.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from golf.config.config import GridConfig

SMALLEST_SCALE = 2.0**-24
"""The smallest float16 above zero: the scale of rows of zeros."""
CPU_BLOCK, GPU_BLOCK = 2**20, 2**26
"""Codes that are tried at once: on a CPU for each thread, so that they stay in its cache; on a GPU in few calls."""


class Quantised(NamedTuple):
    """Codes on an integer grid."""

    codes: Tensor
    """int8 (rows, columns)."""
    scale: Tensor
    """float16 (rows,), or () for one scale per tensor."""


def quantise(weight_OI: Tensor, grid: GridConfig) -> Quantised:
    """Returns `quantise_all` of one matrix."""
    return quantise_all({"weight": weight_OI}, grid)["weight"]


class NotFinite(ValueError):
    """A weight, or what it is calibrated on, is not finite or too large to be packed."""


def quantise_all(weights: Mapping[str, Tensor], grid: GridConfig) -> dict[str, Quantised]:
    """Returns the nearest codes on the grid whose clip the configuration chooses, for each matrix by itself.

    Args: weights: float32 (rows, columns) by name, on one device, which the codes and scales share.
    Raises: ValueError naming the first that is no matrix; NotFinite naming the first with a weight that is not finite
        or too large for a float16 scale.
    """
    by_width: dict[int, dict[str, Tensor]] = {}
    for name, weight_OI in weights.items():
        if weight_OI.ndim != 2 or weight_OI.numel() == 0:
            got = tuple(weight_OI.shape)
            raise ValueError(f"{name}: only a matrix with elements can be quantised, got shape {got}")
        rows = weight_OI.float() if grid.per_row else weight_OI.float().reshape(1, -1)
        by_width.setdefault(rows.shape[1], {})[name] = rows
    quantised = {}
    for same in by_width.values():
        heights = [len(rows) for rows in same.values()]
        joined = torch.cat(list(same.values())) if len(same) > 1 else next(iter(same.values()))
        codes, scale = _on_grid(joined, grid)
        parts = zip(same, codes.split(heights), scale.split(heights), strict=True)
        for name, part, scales in parts:
            if not bool(scales.isfinite().all()):
                raise NotFinite(f"{name}: {_refusal(same[name])}")
            quantised[name] = Quantised(part.view(weights[name].shape), scales if grid.per_row else scales.squeeze(0))
    return {name: quantised[name] for name in weights}


def _refusal(rows: Tensor) -> str:
    if not bool(rows.isfinite().all()):
        return "weights must be finite to be quantised, got infinity or NaN"
    return f"weights of up to {float(rows.abs().max())} need a scale beyond float16"


def _on_grid(rows: Tensor, grid: GridConfig) -> tuple[Tensor, Tensor]:
    """Returns codes int8 (rows, columns) and scales float16 (rows,); scales are not finite where a weight is not."""
    codes, scale = torch.empty_like(rows, dtype=torch.int8), rows.new_empty(len(rows), dtype=torch.float16)
    elements = GPU_BLOCK if rows.is_cuda else CPU_BLOCK * torch.get_num_threads()
    height = max(1, elements // (rows.shape[1] * len(grid.percentiles)))
    for start in range(0, len(rows), height):
        block, part = rows[start : start + height], slice(start, start + height)
        scale[part] = _best_scale(block, grid)
        codes[part] = nearest_codes(block, scale[part, None], grid)
    return codes, scale


def _best_scale(rows: Tensor, grid: GridConfig) -> Tensor:
    """Returns the scale of each row, float16 (rows,): the clip with the least squared error, the first of equals."""
    magnitudes = rows.abs()
    most = magnitudes.amax(dim=1)
    if grid.clip != "percentile":
        clips = grid.deviations * rows.std(dim=1, correction=int(grid.clip == "sample_deviations"))
        return _scale_of(torch.where(clips > 0, clips, most), grid)  # a deviation of zero would erase a constant row
    best = _scale_of(most, grid)
    # No clip is above the largest magnitude: where that is lifted to the floor, all are.
    searched = (best > _scale_of(torch.zeros_like(most), grid)) & most.isfinite()
    if grid.percentiles != (1.0,) and bool(searched.any()):
        if not bool(searched.all()):
            rows, magnitudes = rows[searched], magnitudes[searched]
        best[searched] = _search(rows, _scale_of(_clips(magnitudes, grid), grid), grid)
    return best


def _clips(magnitudes: Tensor, grid: GridConfig) -> Tensor:
    """Returns the percentiles of each row, float32 (rows, percentiles)."""
    last, device = magnitudes.shape[1] - 1, magnitudes.device
    places = torch.tensor(grid.percentiles, dtype=torch.float64) * last
    below = places.floor().long()
    above, share = (below + 1).clamp(max=last), (places - below).float()
    largest_first = magnitudes.topk(last - int(below.min()) + 1, dim=1).values
    lower, upper = (largest_first[:, (last - at).to(device)] for at in (below, above))
    return torch.lerp(lower, upper, share.to(device))


def _search(rows: Tensor, scales: Tensor, grid: GridConfig) -> Tensor:
    """Returns of each row's `scales` (float16, (rows, candidates)) that with the least squared error, the first of
    equals.
    """
    steps = scales.T.float().unsqueeze(2)
    errors = nearest_codes(rows, steps, grid).mul_(steps).sub_(rows).square_().sum(dim=2)
    best = scales.gather(1, errors.argmin(dim=0).unsqueeze(1)).squeeze(1)
    return best.masked_fill_(scales.isinf().any(dim=1), torch.inf)  # a clip beyond float16 is refused, not outdone


def _scale_of(clips: Tensor, grid: GridConfig) -> Tensor:
    """Returns the stored scale whose largest code is at the clip, float16."""
    return (clips / largest_code(grid)).clamp_min(grid.scale_floor or SMALLEST_SCALE).half()


def largest_code(grid: GridConfig) -> int:
    """Returns the largest code; the smallest is its negative or, where the grid is not symmetric, one below."""
    return int(2 ** (grid.bits - 1) - 1)


def nearest_codes(weights: Tensor, scale: Tensor, grid: GridConfig) -> Tensor:
    """Returns the codes nearest to float32 `weights` on steps of `scale` (float16, broadcast), as float32."""
    largest = largest_code(grid)
    smallest = -largest if grid.symmetric else -largest - 1
    return (weights / scale.float()).round_().clamp_(smallest, largest)


def dequantise(quantised: Quantised) -> Tensor:
    """Returns codes times scales, float32 (rows, columns)."""
    scale = quantised.scale.float()
    return quantised.codes.float().mul_(scale[:, None] if scale.ndim else scale)

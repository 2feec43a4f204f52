"""Integer grids: float32 matrices to codes and scales, and back.

Pure and deterministic. A scale is stored as float16 and the codes are those of the stored scale, so the
error that the clip search minimises is the error that remains. Source: PR #598 (GPTQ-lite clip search,
there per tensor; here per row, never a larger error).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from golf.config import GridConfig

SMALLEST_SCALE = 2.0**-24
"""The smallest float16 above zero: the scale of rows of zeros."""


class Quantised(NamedTuple):
    """Codes on an integer grid."""

    codes: Tensor
    """int8 (rows, columns)."""
    scale: Tensor
    """float16 (rows,), or () for one scale per tensor."""


def quantise(weight_OI: Tensor, grid: GridConfig) -> Quantised:
    """The nearest codes on the grid whose clip the configuration chooses.

    Args: weight_OI: float32 (rows, columns).
    Raises: ValueError when it is no matrix, or a weight is not finite or too large for a float16 scale.
    """
    if weight_OI.ndim != 2 or weight_OI.numel() == 0:
        raise ValueError(f"only a matrix with elements can be quantised, got shape {tuple(weight_OI.shape)}")
    rows = weight_OI.float() if grid.per_row else weight_OI.float().reshape(1, -1)
    magnitudes = rows.abs()
    if not bool(torch.isfinite(magnitudes).all()):
        raise ValueError("weights must be finite to be quantised, got infinity or NaN; the run has diverged")
    codes, scale = _search(rows, _clips(rows, magnitudes, grid), grid)
    return Quantised(codes.view(weight_OI.shape), scale if grid.per_row else scale.squeeze(0))


def _clips(rows: Tensor, magnitudes: Tensor, grid: GridConfig) -> Tensor:
    """Candidate clips, float32 (candidates, rows)."""
    if grid.clip == "deviations":
        clips = grid.deviations * rows.std(dim=1, correction=0)
        most = magnitudes.amax(dim=1)  # stands in for a deviation of zero, which would erase a constant row
        return torch.where(clips > 0, clips, most).unsqueeze(0)
    ordered = magnitudes.sort(dim=1).values
    places = torch.tensor(grid.percentiles, dtype=torch.float64) * (rows.shape[1] - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=rows.shape[1] - 1)
    share = (places - below).float()
    return torch.lerp(ordered[:, below], ordered[:, above], share).T


def _search(rows: Tensor, clips: Tensor, grid: GridConfig) -> tuple[Tensor, Tensor]:
    """Codes int8 and scales float16 of the clip with the least squared error of each row, the first of equals."""
    largest = 2 ** (grid.bits - 1) - 1
    best_error = torch.full((rows.shape[0],), float("inf"))
    best_scale = torch.zeros(rows.shape[0], dtype=torch.float16)
    for clip in clips:
        scale = (clip / largest).clamp_min(grid.scale_floor or SMALLEST_SCALE).half()
        if bool(scale.isinf().any()):
            raise ValueError(f"weights of up to {float(clip.max())} need a scale beyond float16; the run has diverged")
        error = (_codes(rows, scale, largest).mul_(scale.float()[:, None]) - rows).square_().sum(dim=1)
        better = error < best_error
        best_error, best_scale = torch.where(better, error, best_error), torch.where(better, scale, best_scale)
    return _codes(rows, best_scale, largest).to(torch.int8), best_scale


def _codes(rows: Tensor, scale: Tensor, largest: int) -> Tensor:
    return (rows / scale.float()[:, None]).round_().clamp_(-largest - 1, largest)


def dequantise(quantised: Quantised) -> Tensor:
    """Codes times scales, float32 (rows, columns)."""
    scale = quantised.scale.float()
    return quantised.codes.float().mul_(scale[:, None] if scale.ndim else scale)

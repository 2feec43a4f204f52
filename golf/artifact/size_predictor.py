"""The size of an artifact before training: the bytes that a split will need.

Assumptions: every quantised row is normally distributed, so its codes cost their order-0 entropy under the row's grid
and clip, of which "rans" saves a share, as of floats; scales do not compress, unless the grid's floor makes them equal;
the spread of a matrix is its initial one and the walk of Muon's updates (see `weight_std`), whose two constants were
fitted to two models of known size, a demo of 60 steps and the record. Against a demo trained for 200 steps and packed
with five splits, the prediction was 2 % to 6 % too large with rans and 0 % to 4 % with zstd. Codes of GPTQ, which are
not the nearest, need more: for the demo 0.2 % on the record's grid, 3 % at 4 bits.
"""

import math
from functools import cache

import torch
from torch import Tensor

from golf.artifact.container import encode
from golf.artifact.correction import LEFT, RIGHT
from golf.artifact.pack import float_type, grid_of
from golf.artifact.quantizer import Quantised, quantise
from golf.config.config import GridConfig, RunConfig, ScheduleConfig, plain_shape
from golf.config.schedule import make_plan
from golf.model.gepa import GEPA

WALK_STEPS = 48.0
"""Steps for which Muon's updates keep their direction in a long run: gives the 15,626,769 bytes of PR #598."""
WALK_SHARE = 1 / 12
"""The same as a share of a short run: fits the trained demo's matrices, spread and bytes."""
CODE_SHARE = 0.98
"""Share of the order-0 entropy that rans needs for a trained demo's codes."""
FLOAT_SHARE = 0.87
"""Share that it needs for float32: signs and exponents are alike, the rest is noise."""
NORMAL_CLIP = 3.3
"""Smallest clip of a row in standard deviations: rows that stay below the floor of the scale all have the floor."""
DRAWN = 2**17
"""Weights drawn to estimate an entropy."""
TABLE_STD = 0.2
"""Standard deviation of embeddings and tables, which AdamW trains; measured in the trained demo."""


def predicted_model_bytes(config: RunConfig) -> int:
    """Returns the predicted bytes of the packed model of `config`, by the assumptions above."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in GEPA(config.model).named_parameters()}
    bits, empty, modelled = 0.0, dict[str, Quantised | Tensor](), config.quant.codec == "rans"
    for name, shape in sorted(shapes.items()):
        grid, floats = grid_of(name, shape.numel(), config.quant), float_type(name, config.quant)
        if grid is None:
            bits += shape.numel() * torch.finfo(floats).bits * (FLOAT_SHARE if modelled else 1.0)
            empty[name] = torch.zeros(shape, dtype=floats)
        else:
            scales = shape[0] if grid.per_row else 1
            std = round(weight_std(name, shape, config), 4)
            code_bits = normal_code_bits(shape.numel() // scales, std, grid) * (CODE_SHARE if modelled else 1.0)
            equal = (
                modelled
                and grid.scale_floor is not None
                and NORMAL_CLIP * std < grid.scale_floor * 2 ** (grid.bits - 1)
            )
            bits += shape.numel() * code_bits + (0 if equal else scales * 16)
            scale = torch.zeros(scales, dtype=torch.float16)
            empty[name] = Quantised(torch.zeros(shape, dtype=torch.int8), scale if grid.per_row else scale.squeeze(0))
    correction = config.quant.correction
    if correction is not None:  # a step's error is alike in all, so that the largest matrices have the largest errors
        sizes = {name: shapes[name] for name, value in empty.items() if isinstance(value, Quantised)}
        for name in sorted(sizes, key=lambda name: -sizes[name].numel())[: correction.matrices]:
            rows, columns = sizes[name]
            groups = correction.rank * columns // math.gcd(columns, correction.group)
            bits += correction.rank * (2 * rows + 4 * columns) + 16 * (1 + groups)
            for end in (LEFT, RIGHT):
                empty[name + end] = Quantised(torch.zeros(1, 1, dtype=torch.int8), torch.zeros((), dtype=torch.float16))
    # An artifact of nothing but zeros is its header and its index.
    rest = len(encode(empty, plain_shape(config.model), config.quant.codec, config.quant.level))
    return rest + round(bits / 8)


def weight_std(name: str, shape: torch.Size, config: RunConfig) -> float:
    """Returns the standard deviation of a trained matrix's entries: decayed initial values, and a random walk of
    updates.

    Muon's update is an orthogonal matrix scaled to a root mean square of columns ** -0.5, times the learning rate.
    """
    if not name.startswith("blocks."):
        return TABLE_STD
    lr = config.optimizer.matrix_lr
    if int(name.split(".")[1]) >= config.model.num_layers // 2:
        lr *= config.optimizer.decoder_lr_multiplier
    remaining, walked = _walk(config.schedule, lr, config.optimizer.weight_decay.matrices)
    started = 0.0 if name.endswith(("output.weight", "down.weight")) else max(shape) ** -0.5
    return math.sqrt((started * remaining) ** 2 + walked / shape[1])


@cache
def _walk(schedule: ScheduleConfig, lr: float, weight_decay: float) -> tuple[float, float]:
    """Returns the remaining share of the initial weights, and the walk's variance for updates of root mean square 1."""
    remaining, walked = 1.0, 0.0
    for row in make_plan(schedule):
        decay = 1.0 - lr * row.lr_scale * weight_decay * row.decay_scale
        remaining, walked = remaining * decay, walked * decay**2 + (lr * row.lr_scale) ** 2
    return remaining, 2 * min(WALK_STEPS, WALK_SHARE * schedule.steps) * walked


@cache
def normal_code_bits(elements: int, std: float, grid: GridConfig) -> float:
    """Returns the order-0 entropy, in bits per code, of normally distributed weights, `elements` of which share a
    scale.
    """
    rows = max(1, DRAWN // elements)
    drawn = std * torch.randn(rows, elements, generator=torch.Generator().manual_seed(0))
    share = torch.unique(quantise(drawn, grid).codes, return_counts=True)[1].double() / drawn.numel()
    return float(-(share * share.log2()).sum())

"""A low-rank correction of quantised matrices: the error's largest singular directions, as two factors of few bits.

Source: LQER (Zhang et al. 2024, arXiv 2402.02446) as in openai/parameter-golf PR #1797: the left factor is U * S with
codes -2 to 1 on one scale, the right one is V^T with codes -8 to 7 and a scale per group of numbers. The factors are
stored beside the matrix, as matrices of codes of their own.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from golf.artifact.quantizer import SMALLEST_SCALE, Quantised, dequantise
from golf.config.config import CorrectionConfig

LEFT, RIGHT = ".correction.left", ".correction.right"
"""Ends of the names of a matrix's two factors."""


def corrections(
    weights: Mapping[str, Tensor], stored: Mapping[str, Quantised | Tensor], config: CorrectionConfig
) -> dict[str, Quantised]:
    """Returns the factors of the matrices with the largest Frobenius norm of the error.

    Args:
        weights: float32 (rows, columns) by name.
        stored: the same as they are stored; only the quantised ones are corrected.
        config: how many matrices, and of which rank.

    Returns: by name + LEFT codes (rows, rank), by name + RIGHT codes (rank * columns / group, group), where `group` is
        the largest divisor that the columns have in common with the configured one.
    """
    errors = {name: weights[name] - dequantise(value) for name, value in stored.items() if isinstance(value, Quantised)}
    worst = sorted(errors, key=lambda name: (-float(errors[name].norm()), name))[: config.matrices]
    factors = {}
    for name in worst:
        u_OR, s_R, v_RI = torch.linalg.svd(errors[name].double(), full_matrices=False)
        group = math.gcd(v_RI.shape[1], config.group)
        factors[name + LEFT] = _few_bits((u_OR * s_R)[:, : config.rank].reshape(1, -1), -2, len(u_OR))
        factors[name + RIGHT] = _few_bits(v_RI[: config.rank].reshape(-1, group), -8, None)
    return factors


def _few_bits(factor: Tensor, smallest: int, rows: int | None) -> Quantised:
    """Returns codes from `smallest` to -smallest - 1, the largest magnitude of each row being half a step beyond.

    Args: rows: of the codes where the factor is one row with one scale; None: a scale per row.
    """
    scale = (factor.abs().amax(dim=1, keepdim=True) / (-smallest - 0.5)).clamp_min(SMALLEST_SCALE).half()
    codes = (factor / scale.double()).round().clamp(smallest, -smallest - 1).to(torch.int8)
    return Quantised(codes, scale.flatten()) if rows is None else Quantised(codes.view(rows, -1), scale.squeeze())


def restore(stored: Mapping[str, Quantised | Tensor]) -> dict[str, Tensor]:
    """Returns float32 weights by name: codes times scales, corrected where there are factors.

    Raises: ValueError naming a left factor that fits no matrix and right factor.
    """
    weights = {name: dequantise(v) if isinstance(v, Quantised) else v.float() for name, v in stored.items()}
    for name in [name for name in weights if name.endswith(LEFT)]:
        base = name.removesuffix(LEFT)
        left_OR, right, matrix_OI = weights.pop(name), weights.pop(base + RIGHT, None), weights.get(base)
        if right is None or matrix_OI is None or matrix_OI.ndim != 2 or left_OR.ndim != 2:
            raise ValueError(f"{name!r} has no right factor, or corrects no matrix")
        if len(left_OR) != len(matrix_OI) or right.numel() != left_OR.shape[1] * matrix_OI.shape[1]:
            raise ValueError(f"{name!r} and its right factor have other shapes than their matrix")
        # One direction after the other: a product of matrices may sum in another order on another machine.
        for left_O, right_I in zip(left_OR.T, right.view(-1, matrix_OI.shape[1]), strict=True):
            matrix_OI += left_O[:, None] * right_I
    return weights

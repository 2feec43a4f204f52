"""GPTQ: codes that keep a matrix's outputs, not its weights, as near as a grid allows.

The columns are rounded one after the other, those with the largest inputs first; the error of each column is corrected
in the columns that remain, in the least squares sense. Uncorrelated inputs give the nearest codes. Computed in float64,
so that codes hardly depend on the order of sums. Source: Frantar et al. 2023, arXiv 2210.17323.

Shape letters: O outputs (rows), I inputs (columns).
"""

import torch
from torch import Tensor

from golf.artifact.quantizer import NotFinite, nearest_codes
from golf.config.config import GridConfig

LAZY_COLUMNS = 32
"""Columns whose corrections of the columns after them are applied at once, as one matrix product."""


def gptq_codes(weight_OI: Tensor, hessian_II: Tensor, scale: Tensor, grid: GridConfig, damping: float) -> Tensor:
    """Computes the codes of a matrix on the steps `scale`, int8 (rows, columns).

    Args: weight_OI: float32; hessian_II: float64, on the device where it is computed; scale: float16 (rows,) or ();
        damping: share of the Hessian's mean diagonal added to its diagonal.
    Raises: NotFinite when the Hessian is not finite or not positive definite.
    """
    dead_I = hessian_II.diagonal() == 0  # inputs that are always zero: their weights have no effect
    if bool(dead_I.all()):
        raise NotFinite("its inputs on the training data are all zero")
    hessian_II = hessian_II + torch.diag(dead_I.to(hessian_II))
    order = hessian_II.diagonal().argsort(descending=True, stable=True)
    factor_II = _inverse_factor(hessian_II[order][:, order], damping)
    rest_IO = weight_OI.to(hessian_II.device).double().T.masked_fill(dead_I[:, None], 0.0)[order].contiguous()
    scale, size = scale.to(hessian_II.device), len(order)
    codes_IO = torch.empty_like(rest_IO, dtype=torch.int8)
    for start in range(0, size, LAZY_COLUMNS):
        end = min(start + LAZY_COLUMNS, size)
        lost_IO = torch.empty_like(rest_IO[start:end])
        for column in range(start, end):
            codes = nearest_codes(rest_IO[column].float(), scale, grid)
            codes_IO[column] = codes
            lost = (rest_IO[column] - codes.double() * scale) / factor_II[column, column]
            rest_IO[column + 1 : end].addr_(factor_II[column, column + 1 : end], lost, alpha=-1)
            lost_IO[column - start] = lost
        rest_IO[end:].addmm_(factor_II[start:end, end:].T, lost_IO, alpha=-1)
    codes_OI = torch.empty_like(weight_OI, dtype=torch.int8, device=hessian_II.device)
    codes_OI[:, order] = codes_IO.T
    return codes_OI.to(weight_OI.device)


def _inverse_factor(hessian_II: Tensor, damping: float) -> Tensor:
    """Returns the upper triangular U with Uᵀ U the inverse of the damped Hessian: row i corrects for column i."""
    damped_II = hessian_II + damping * hessian_II.diagonal().mean() * torch.eye(len(hessian_II)).to(hessian_II)
    lower_II, failed = torch.linalg.cholesky_ex(damped_II)
    if bool(failed) or not bool(damped_II.isfinite().all()):
        raise NotFinite("its inputs on the training data are not finite, or all zero")
    return torch.linalg.cholesky(torch.cholesky_inverse(lower_II), upper=True)

"""Muon: momentum whose matrix updates are orthogonalised by a Newton-Schulz iteration.

Every rank keeps every momentum, so the state does not depend on the number of ranks; the orthogonalisation, the
expensive part, is shared: rank r takes every world-th matrix and one sum over the ranks completes the update.
Source: Jordan et al. 2024 (Muon), as in PR #598.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from golf.config.config import OptimizerConfig
from golf.runtime.process_group import ProcessGroup

_LEAST_NORM = 1e-7
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, chosen for slope at zero rather than for convergence."""


POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of each iteration, the best for what the ones before leave (Amsel et al. 2025, arXiv 2505.16932).

Made for 5 iterations with a safety factor of 1.02 (KellerJordan/modded-nanogpt).
"""
_SAFETY = 1.02


def orthogonalise(g_NOI: Tensor, steps: int, polar_express: bool = False) -> Tensor:
    """Returns nearly orthogonal matrices with the singular directions of `g_NOI`.

    Args: g_NOI: a stack of matrices of one shape, any float type; steps: iterations; polar_express: other coefficients
        in each iteration, at most 5.
    Returns: the same shape in bfloat16, singular values near 1.
    """
    x = g_NOI.bfloat16()
    norm = x.norm(dim=(-2, -1), keepdim=True)
    coefficients = (NEWTON_SCHULZ,) * steps
    if polar_express:
        norm, coefficients = norm * _SAFETY, POLAR_EXPRESS[:steps]
    x = x / (norm + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay over matrices of any shapes."""

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        lrs: Sequence[float],
        config: OptimizerConfig,
        group: ProcessGroup,
    ) -> None:
        self.matrices, self.lrs, self.group = matrices, lrs, group
        self.weight_decay, self.steps = config.weight_decay.matrices, config.newton_schulz_steps
        self.row_norm = config.muon_row_norm
        self.polar_express = config.newton_schulz == "polar_express"
        self.momenta = [torch.zeros_like(matrix) for matrix in matrices]
        by_shape: dict[torch.Size, list[int]] = {}
        for index, matrix in enumerate(matrices):
            by_shape.setdefault(matrix.shape, []).append(index)
        self._stacks = list(by_shape.values())

    @torch.no_grad()
    def step(self, lr_scale: float, momentum: float, decay_scale: float = 1.0) -> None:
        """Makes one update from the matrices' gradients, with these factors on learning rates and weight decay."""
        if not self.matrices:
            return
        gradients = [matrix.grad for matrix in self.matrices if matrix.grad is not None]
        torch._foreach_mul_(self.momenta, momentum)
        torch._foreach_add_(self.momenta, gradients)
        nesterov = torch._foreach_add(gradients, self.momenta, alpha=momentum)
        updates = self._orthogonal(nesterov)
        for matrix, lr, update in zip(self.matrices, self.lrs, updates, strict=True):
            matrix.mul_(1.0 - lr * lr_scale * (self.weight_decay * decay_scale))
            matrix.add_(update.to(matrix.dtype), alpha=-lr * lr_scale)

    def _orthogonal(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Returns the orthogonalised `gradients` in bfloat16 on all ranks, each computed by one."""
        flat = torch.zeros(sum(g.numel() for g in gradients), dtype=torch.bfloat16, device=gradients[0].device)
        parts = flat.split([g.numel() for g in gradients])
        for stack in self._stacks:
            own_indices = [index for index in stack if index % self.group.world_size == self.group.rank]
            if own_indices:
                stack_NOI = torch.stack([gradients[index] for index in own_indices])
                if self.row_norm:
                    stack_NOI = stack_NOI / stack_NOI.norm(dim=-1, keepdim=True).clamp_min(_LEAST_NORM)
                done = orthogonalise(stack_NOI, self.steps, self.polar_express)
                done *= max(1.0, done.shape[1] / done.shape[2]) ** 0.5
                for index, update in zip(own_indices, done, strict=True):
                    parts[index].copy_(update.flatten())
        self.group.sum(flat)
        return [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)]

"""Calibration for GPTQ: the Hessian of each matrix, measured on training data.

The Hessian is the mean of the outer products of a matrix's inputs. The tokens are a function of the configuration and
its seed. Validation tokens are no argument, so none can be read.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from golf.artifact.pack import grid_of
from golf.config.config import QuantConfig, RunConfig
from golf.data.shards import TokenStream
from golf.model.gepa import GEPA

EMBEDDING = "token_embedding.weight"
CALIBRATION_BATCH = 16_384
"""Tokens of one forward pass."""


def calibrate(model: GEPA, stream: TokenStream, config: RunConfig) -> dict[str, Tensor]:
    """Returns the Hessian of every matrix that is packed by GPTQ, on tokens of the training stream; see `hessians`."""
    length = config.batch.sequence_length
    batches = (
        torch.stack([torch.from_numpy(stream.read(start, length)) for start in starts.tolist()])
        for starts in calibration_starts(stream, config).split(max(1, CALIBRATION_BATCH // length))
    )
    return hessians(model, batches, config.quant)


@torch.no_grad()
def hessians(model: GEPA, batches: Iterable[Tensor], quant: QuantConfig) -> dict[str, Tensor]:
    """Returns the Hessian of every matrix that is packed by GPTQ, by the parameter's name.

    Args: model: with the weights to be packed, on the device that computes; its loop is on; batches: ids int64 (B, T).
    Returns: float64 (inputs, inputs) on that device; query, key and value, which have the same inputs, share one. The
        token embedding is measured as the matrix of the outputs.
    """
    sums, sources, hooks = dict[str, Tensor](), dict[str, str](), []
    for name, parameter in model.named_parameters():
        grid = grid_of(name, parameter.numel(), quant)
        if grid is not None and grid.method == "gptq":
            sources[name] = source = name.replace(".key.", ".query.").replace(".value.", ".query.")
            if source not in sums:
                sums[source] = torch.zeros(parameter.shape[1], parameter.shape[1]).to(parameter.device).double()
                if name != EMBEDDING:
                    linear = model.get_submodule(source.removesuffix(".weight"))
                    hooks.append(linear.register_forward_pre_hook(_adder(sums[source])))
    device, num_tokens = next(model.parameters()).device, 0
    for tokens_BT in batches:
        num_tokens += tokens_BT.numel()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            h_BTD = model.hidden(tokens_BT.to(device), False, tokens_BT.shape[1])
            h_BTD = h_BTD if model.embedding_out is None else model.embedding_out(h_BTD)
        if EMBEDDING in sums:
            _add(sums[EMBEDDING], h_BTD)
    for hook in hooks:
        hook.remove()
    return {name: sums[source] / num_tokens for name, source in sources.items()}


def calibration_starts(stream: TokenStream, config: RunConfig) -> Tensor:
    """Returns where in the training stream the sequences of the calibration begin, drawn by the run's seed."""
    count = -(-config.quant.calibration_tokens // config.batch.sequence_length)
    return torch.randint(stream.num_tokens, (count,), generator=torch.Generator().manual_seed(config.seed))


def _adder(total_II: Tensor) -> Callable[[nn.Module, Any], None]:
    """Returns a hook that adds the outer products of a matrix's inputs."""

    def add(module: nn.Module, inputs: Any) -> None:
        _add(total_II, inputs[0])

    return add


def _add(total_II: Tensor, x: Tensor) -> None:
    x_NI = x.flatten(0, -2).float()
    total_II.add_(x_NI.T @ x_NI)

"""PyTorch's optimisers without its compiler, whose import takes a second or two of a process that compiles nothing.

`torch.optim` wraps methods of its optimisers to keep them out of the graphs of `torch.compile`, and the first call of
any of them imports the compiler. No model that is compiled here has an optimiser in its graph.
"""

import inspect
import sys

import torch
from torch.optim import SGD, Adam, Optimizer

_WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def use_eager_optimizers() -> None:
    """Has SGD, Adam and AdamW call what PyTorch wrapped, to the same bits; does nothing once the compiler is imported.

    From then on no optimiser of this process is differentiable (`torch.optim`'s `differentiable`).
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in _WRAPPED:
        setattr(Optimizer, name, inspect.unwrap(getattr(Optimizer, name)))
    for kind in (SGD, Adam):
        kind.step = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[method-assign]

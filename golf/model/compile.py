"""How a model runs on a device: the type of its activations, and whether it is compiled.

Compiling is the configuration's choice, since it changes the last bits; it changes no weight.
"""

import shutil
from typing import cast

import torch
from torch import nn

from golf.model.gepa import GEPA


def activation_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 on GPUs, float32 on CPUs."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def compile_model(model: GEPA, choice: bool | None, device: torch.device) -> nn.Module:
    """Returns the model for forward passes, compiled or itself.

    Args: choice: the configuration's; None: compiled on GPUs. The first pass of each shape then takes up to a minute.
    Raises: ValueError when a CPU's code cannot be compiled for want of a compiler.
    """
    on_cpu = device.type == "cpu"
    if choice is False or (choice is None and on_cpu):
        return model
    if on_cpu and not (shutil.which("g++") or shutil.which("clang++")):
        raise ValueError(
            "compile is true, but neither g++ nor clang++ is installed; install one or set compile to null"
        )
    return cast(nn.Module, torch.compile(model, dynamic=False))

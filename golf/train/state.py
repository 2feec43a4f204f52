"""All that a training run needs to go on: weights, average, optimisers and the step, in one object.

The data position is a function of the step, so the step is all of it. Saved whole and read back with
weights-only unpickling. A saved state says what it is the state of, and is refused for anything else.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.config import OptimizerConfig
from golf.dist import Group
from golf.files import load_plain, write_whole
from golf.model.gepa import GEPA
from golf.train.groups import UNTRAINED, make_optimizers, optimizer_group

STATE_FORMAT = 2


class TrainState:
    """Weights, their average, both optimisers and the number of finished steps."""

    def __init__(self, model: GEPA, config: OptimizerConfig, group: Group) -> None:
        self.model = model.to(group.device)
        self.parameters = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.muon, self.adamw = make_optimizers(self.parameters, model.num_encoder, config, group)
        self.step = 0
        sizes = [p.numel() for p in self.parameters.values()]
        self.reduced = torch.zeros(sum(sizes) + 1, device=group.device)
        """Every gradient and, last, the loss: one buffer, so that one sum over the ranks reduces all."""
        views = zip(self.parameters.values(), self.reduced[:-1].split(sizes), strict=True)
        self.gradients = [view.view(parameter.shape) for parameter, view in views]
        for parameter, gradient in zip(self.parameters.values(), self.gradients, strict=True):
            parameter.grad = gradient
        named = zip(self.parameters, self.gradients, strict=True)
        self.uncleared = [g for name, g in named if optimizer_group(name, model.num_encoder) == UNTRAINED]
        """Gradients of what no optimiser trains. The record clears gradients by optimiser, so these add up over the
        steps (clipped with the others each time) and count in the global norm."""

    def clear_gradients(self, group: Group) -> None:
        """Zero the gradients and the loss; what is never cleared stays on rank 0: the ranks' sum has it once."""
        kept = [gradient.clone() for gradient in self.uncleared]
        self.reduced.zero_()
        if group.first:
            for gradient, before in zip(self.uncleared, kept, strict=True):
                gradient.copy_(before)

    def live_weights(self) -> dict[str, Tensor]:
        """The weights as trained, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged weights, on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self.average.items()}

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write the state to `path`, whole, with what it is the state of."""
        state = {
            "format": STATE_FORMAT,
            "identity": json.dumps(identity, sort_keys=True),
            "step": self.step,
            "weights": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "momenta": self.muon.momenta,
            "adamw": self.adamw.state_dict(),
            "uncleared": [gradient.clone() for gradient in self.uncleared],
        }
        write_whole(path, lambda file: torch.save(state, file))

    def load(self, path: Path, identity_at: Callable[[int], dict[str, Any]]) -> None:
        """Go on from the state in `path`.

        Args: identity_at: what the state after so many steps must be the state of.

        Raises: ValueError when the file is damaged, of another format or another run's state.
        """
        state = read_tensors(path)
        if state.get("format") != STATE_FORMAT:
            raise ValueError(f"{path}: state format must be {STATE_FORMAT}, got {state.get('format')!r}; delete it")
        saved = json.loads(state["identity"])
        for field, value in identity_at(state["step"]).items():
            if saved.get(field) != value:
                raise ValueError(
                    f"{path} is the state of another run: {field} was {saved.get(field)!r}, now {value!r}; "
                    "train into another folder, or delete this one to start again"
                )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["weights"][name])
                self.average[name].copy_(state["average"][name])
            for momentum, stored in zip(self.muon.momenta, state["momenta"], strict=True):
                momentum.copy_(stored)
            for gradient, stored in zip(self.uncleared, state["uncleared"], strict=True):
                gradient.copy_(stored)
        self.adamw.load_state_dict(state["adamw"])
        self.step = state["step"]


def save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write named tensors, or nested plain values with tensors, to `path`, whole."""
    write_whole(path, lambda file: torch.save(tensors, file))


def read_tensors(path: Path) -> dict[str, Any]:
    """What `save_tensors` or a state wrote, on the CPU; nothing in the file is executed.

    Raises: FileNotFoundError; ValueError naming the file when it is damaged or holds anything but plain data.
    """
    try:
        loaded = load_plain(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a file of weights: {error}; delete it to have it made again") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(loaded).__name__}")
    return loaded

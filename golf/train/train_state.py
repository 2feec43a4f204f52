"""Everything that a training needs to continue, in one object: weights, average, optimisers and the step.

The data position is a function of the step. A saved state holds what it depends on, and is refused for another run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.config.config import OptimizerConfig
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import load_optimizer, optimizer_tensors, prefixed, read_stored, unprefixed, write_tensors
from golf.train.param_groups import UNTRAINED, make_optimizers, optimizer_group

STATE_FORMAT = 3


class TrainState:
    """Weights, their average, both optimisers and the number of finished steps."""

    def __init__(self, model: GEPA, config: OptimizerConfig, group: ProcessGroup) -> None:
        self.model = model.to(group.device)
        self.parameters = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.muon, self.adamw = make_optimizers(self.parameters, model.num_encoder, config, group)
        self.step = 0
        sizes = [p.numel() for p in self.parameters.values()]
        self.summed = torch.zeros(sum(sizes) + 2, device=group.device)
        """Every gradient, the loss and the preemptions in one buffer, so that one sum over the ranks reduces all."""
        self.reduced, self.preempted = self.summed[:-1], self.summed[-1]
        """The gradients and, last, the loss; how many ranks are to end."""
        views = zip(self.parameters.values(), self.reduced[:-1].split(sizes), strict=True)
        self.gradients = [view.view(parameter.shape) for parameter, view in views]
        for parameter, gradient in zip(self.parameters.values(), self.gradients, strict=True):
            parameter.grad = gradient
        named = zip(self.parameters, self.gradients, strict=True)
        self.uncleared = [g for name, g in named if optimizer_group(name, model.num_encoder) == UNTRAINED]
        """Gradients of what no optimiser trains. The record clears gradients by optimiser, so these add up over the
        steps (clipped with the others each time) and count in the global norm."""

    def clear_gradients(self, group: ProcessGroup) -> None:
        """Zeroes the gradients and the loss; what is never cleared stays on rank 0, so the ranks' sum has it once."""
        uncleared = [gradient.clone() for gradient in self.uncleared]
        self.reduced.zero_()
        if group.first:
            for gradient, before in zip(self.uncleared, uncleared, strict=True):
                gradient.copy_(before)

    def live_weights(self) -> dict[str, Tensor]:
        """Returns the weights as trained, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    def averaged_weights(self) -> dict[str, Tensor]:
        """Returns the averaged weights, on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self.average.items()}

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Writes the state to `path`, whole, with what it depends on."""
        plain = {"format": STATE_FORMAT, "identity": identity, "step": self.step}
        write_tensors(path, self._tensors(), plain)

    def _tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by name; writing into them changes the state."""
        return {
            **prefixed("weights", {name: p.detach() for name, p in self.parameters.items()}),
            **prefixed("average", self.average),
            **prefixed("momenta", {str(index): tensor for index, tensor in enumerate(self.muon.momenta)}),
            **prefixed("uncleared", {str(index): tensor for index, tensor in enumerate(self.uncleared)}),
            **prefixed("adamw", optimizer_tensors(self.adamw.state_dict())),
        }

    def load(self, path: Path, identity_at: Callable[[int], dict[str, Any]]) -> None:
        """Continues from the state in `path`.

        Args: identity_at: returns what the state after a number of steps must depend on.
        Raises: ValueError when the file is damaged, of another format or another run's state.
        """
        tensors, plain = read_stored(path)
        if plain.get("format") != STATE_FORMAT:
            raise ValueError(
                f"{path}: state format must be {STATE_FORMAT}, got {str(plain.get('format'))[:9]}; delete it"
            )
        step, saved = plain.get("step"), plain.get("identity")
        if type(step) is not int or step < 0 or not isinstance(saved, dict):
            raise ValueError(f"{path} says neither its step nor what it is the state of; delete it")
        for field, value in identity_at(step).items():
            if saved.get(field) != value:
                raise ValueError(
                    f"{path} is the state of another run: {field} was {str(saved.get(field))[:80]}, now {value!r}; "
                    "train into another folder, or delete this one to start again"
                )
        self._fill(path, tensors)
        self.step = step

    @torch.no_grad()
    def _fill(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """Copies stored tensors of the very same names and shapes."""
        try:
            load_optimizer(self.adamw, unprefixed(tensors, "adamw"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; delete it") from error
        targets = self._tensors()
        if targets.keys() != tensors.keys():
            raise ValueError(
                f"{path} lacks, or has too many, of {sorted(targets.keys() ^ tensors.keys())[:3]}; delete it"
            )
        for name, tensor in targets.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"{path}: {name[:80]} has shape {list(tensors[name].shape)}, not {list(tensor.shape)}")
            tensor.copy_(tensors[name])

"""Every switch changes what it should: a dead flag once made a record's QAT a no-op under torch.compile.

A model and tokens enter; the loss with and without each part leaves, on the model as it is and as a captured graph.
The weights are moved off the quantisation grid first, on which quantising again would rightly change nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from golf.check.points import Finding, judged
from golf.check.proofs import Copy, Evaluator, Probe
from golf.config import ModelConfig, RunConfig
from golf.dist import Group
from golf.model.gepa import GEPA

PARTS: dict[str, dict[str, Any]] = {
    "xsa": {"xsa_layers": 0},
    "value_embedding": {"value_dim": None, "value_layers": ()},
    "bigram": {"bigram_buckets": None},
}
"""What a model without the part has in its configuration."""
GRAPH_TOLERANCE = 1e-3
"""Largest difference of the QAT switch's effect between the model and its captured graph, in nats."""


def off_the_grid(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every weight with noise of 2 % of its tensor's size, and a little more where that is 0, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        moved[name] = weight + 0.02 * (weight.square().mean().sqrt() + 0.1) * noise
    return moved


def without(config: ModelConfig, part: str) -> ModelConfig | None:
    """The shape without a part; None where it has none."""
    shape = replace(config, **PARTS[part])
    return None if shape == config else shape


@torch.no_grad()
def loss_of(model: Callable[..., Tensor], x_BT: Tensor, y_BT: Tensor, qat: bool = False) -> float:
    """Mean NLL in nats."""
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=x_BT.device.type == "cuda"):
        return float(model(x_BT, y_BT, qat=qat))


def prove_switches(
    model: GEPA,
    config: RunConfig,
    tokens: Tensor,
    averaging: Mapping[str, float] | None,
    group: Group,
    captured: bool = True,
) -> Finding:
    """QAT, XSA, value embedding, bigram and averaging change the loss; QAT does in a captured graph as well (point 22).

    Args: tokens: a few hundred, int64; averaging: the rungs "live" and "ema" in BPB, where they were measured;
        captured: whether the graph is looked at, which takes seconds to capture.
    """
    x_BT, y_BT = tokens[None, :-1].to(group.device), tokens[None, 1:].to(group.device)
    weights = off_the_grid(model.state_dict())
    whole = _loaded(model.config, weights, model)
    loss = loss_of(whole, x_BT, y_BT)
    qat = loss_of(whole, x_BT, y_BT, qat=True) - loss
    changes: dict[str, float] = {"qat": qat}
    absent = []
    for part in PARTS:
        shape = without(model.config, part)
        if shape is None:
            absent.append(part)
        else:
            changes[part] = loss_of(_loaded(shape, weights, model), x_BT, y_BT) - loss
    if averaging is not None and config.schedule.averaging != "none":
        changes[f"{config.schedule.averaging} (BPB)"] = averaging["ema"] - averaging["live"]
    dead = [name for name, change in changes.items() if change == 0.0]
    evidence: dict[str, Any] = {"loss_nats": loss, "changes_by": changes, "absent": absent}
    if captured:
        graph = torch.compile(whole, backend="eager", dynamic=False)
        in_graph = loss_of(graph, x_BT, y_BT, qat=True) - loss_of(graph, x_BT, y_BT)
        dead += ["qat in a graph"] if in_graph == 0.0 or abs(in_graph - qat) > GRAPH_TOLERANCE else []
        evidence["qat_in_a_graph_changes_by"] = in_graph
    return judged(22, not dead, evidence, f"switches without effect: {', '.join(dead)}")


def _loaded(shape: ModelConfig, weights: Mapping[str, Tensor], like: GEPA) -> GEPA:
    """A model of a shape with those of the weights that it has."""
    model = type(like)(shape, like.activation_dtype).to(next(like.parameters()).device)
    own = model.state_dict().keys()
    model.load_state_dict({name: weight for name, weight in weights.items() if name in own})
    return model


def prove_qat_in_training(evaluate: Evaluator, model: GEPA, probe: Probe) -> Finding:
    """The switch for QAT in test-time training is alive, so that "off" means off (point 22)."""
    runs = [replace(probe, adapt=replace(probe.adapt, qat=qat)) for qat in (False, True)]
    off, on = (float(run.run(evaluate, Copy(model), probe.stream.tokens).mean()) for run in runs)
    evidence = {"qat_in_ttt": probe.adapt.qat, "qat_in_ttt_changes_by": on - off}
    return judged(22, on != off, evidence, "adapt.qat changes nothing")

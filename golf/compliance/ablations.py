"""Whether every switch changes what it should: a dead flag once made a record's QAT a no-op under torch.compile.

Scores with and without each part are compared, on the model as it is and as a captured graph. The weights are moved off
the quantisation grid first, on which quantising again would rightly change nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from golf.compliance.evaluator import Evaluator, ModelCopy, Probe
from golf.compliance.points import Evidence, PointResult, judged
from golf.config.config import ModelConfig, RunConfig
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup

PARTS: dict[str, Mapping[str, Any]] = {
    "xsa": {"xsa_layers": 0},
    "value_embedding": {"value_dim": None, "value_layers": ()},
    "bigram": {"bigram_buckets": None},
}
"""Configuration of a model without the part."""
GRAPH_TOLERANCE = 0.1
"""Largest difference of the QAT switch's effect between the model and its captured graph, as a share of it."""


def off_the_grid(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns every weight with noise of 2 % of its tensor's size, a little more where that is 0, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        moved[name] = weight + 0.02 * (weight.square().mean().sqrt() + 0.1) * noise
    return moved


def without(config: ModelConfig, part: str) -> ModelConfig | None:
    """Returns the shape without a part; None where it has none."""
    off = not getattr(config, next(iter(PARTS[part])))
    return None if off else replace(config, **PARTS[part])


@torch.no_grad()
def nll_of(model: Callable[..., Tensor], x_BT: Tensor, y_BT: Tensor, qat: bool = False) -> Tensor:
    """Returns the NLL of each target in nats, float64 (B, T)."""
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=x_BT.device.type == "cuda"):
        return model(x_BT, y_BT, qat=qat, reduction="none").double()


def prove_switches(
    model: GEPA,
    config: RunConfig,
    tokens: Tensor,
    averaging: Mapping[str, float] | None,
    group: ProcessGroup,
    captured: bool = True,
) -> PointResult:
    """Shows that QAT, XSA, value embedding, bigram and averaging change scores, QAT in a graph as well (point 22).

    Args:
        model: of the run.
        config: of the run.
        tokens: a few hundred, int64.
        averaging: the rungs "live" and "ema" in BPB, where they were measured.
        group: one process.
        captured: whether the graph is looked at, which takes seconds to capture.
    """
    x_BT, y_BT = tokens[None, :-1].to(group.device), tokens[None, 1:].to(group.device)
    weights = off_the_grid(model.state_dict())
    moved = _loaded(model.config, weights, model)
    nll = nll_of(moved, x_BT, y_BT)
    qat = nll_of(moved, x_BT, y_BT, qat=True) - nll
    changes = {"qat": float(qat.abs().max())}
    absent = []
    for part in PARTS:
        shape = without(model.config, part)
        if shape is None:
            absent.append(part)
        else:
            changes[part] = float((nll_of(_loaded(shape, weights, model), x_BT, y_BT) - nll).abs().max())
    if averaging is not None and config.schedule.averaging != "none":
        changes[f"{config.schedule.averaging} (BPB)"] = averaging["ema"] - averaging["live"]
    dead = [name for name, change in changes.items() if change == 0.0]
    evidence: Evidence = {"changes_by_up_to": changes, "absent": absent}
    if captured:
        graph = torch.compile(moved, backend="eager", dynamic=False)
        in_graph = nll_of(graph, x_BT, y_BT, qat=True) - nll_of(graph, x_BT, y_BT)
        evidence["qat_in_a_graph"] = float(in_graph.abs().max())
        dead += ["qat in a graph"] if float((in_graph - qat).abs().max()) > GRAPH_TOLERANCE * changes["qat"] else []
    return judged(22, not dead, evidence, f"switches without effect: {', '.join(dead)}")


def _loaded(shape: ModelConfig, weights: Mapping[str, Tensor], like: GEPA) -> GEPA:
    """Returns a model of a shape with those of the weights that it has."""
    model = type(like)(shape, like.activation_dtype).to(next(like.parameters()).device)
    own = model.state_dict().keys()
    model.load_state_dict({name: weight for name, weight in weights.items() if name in own})
    return model


def prove_qat_in_training(evaluate: Evaluator, model: GEPA, probe: Probe) -> PointResult:
    """Shows that the switch for QAT in test-time training works, so that "off" means off (point 22)."""
    runs = [replace(probe, ttt=replace(probe.ttt, qat=qat)) for qat in (False, True)]
    off, on = (run.run(evaluate, ModelCopy(model), probe.stream.tokens) for run in runs)
    change = float((on - off).abs().max())
    evidence = {"qat_in_ttt": probe.ttt.qat, "qat_in_ttt_changes_by_up_to": change}
    return judged(22, change > 0.0, evidence, "ttt.qat changes nothing")

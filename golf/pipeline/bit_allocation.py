"""Bits and clips per tensor group that use a byte cap best: the least predicted loss among the splits that fit.

Each group is quantised alone with each of OPTIONS. Its added loss is measured on a few training sequences, as the mean
of that with the error added and that with it subtracted (which cancels what is chance), and its bytes with the real
codec. Both are taken to add up over the groups, all combinations are compared, and the best is packed for real; where
that is too large, less is allowed until it fits. Validation shards are never opened.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.artifact.container import encode
from golf.artifact.correction import corrections, restore
from golf.artifact.pack import group_of, quantise_tensors
from golf.artifact.quantizer import Quantised
from golf.config.config import RECORD_INT6, RECORD_INT8, GridConfig, QuantConfig, RunConfig, plain_shape
from golf.data.shards import TokenStream, token_stream
from golf.model.compile import activation_dtype
from golf.model.gepa import GEPA
from golf.pipeline.bundle import code_bytes
from golf.runtime.process_group import ProcessGroup

FIT_GROUPS = ("attention", "mlp", "token_embedding", "tables")
"""The groups of QuantConfig, each with a choice of its own."""
OPTIONS: Mapping[str, GridConfig] = {
    **{f"int{bits}": GridConfig(bits=bits) for bits in range(4, 8)},
    **{
        f"int{bits}, step from 1/{2 ** (bits - 1) - 1}": replace(
            RECORD_INT6, bits=bits, scale_floor=1 / (2 ** (bits - 1) - 1)
        )
        for bits in range(4, 8)
    },
    "int8": RECORD_INT8,
    # Eight bits never clip at these steps: the codec, not the range, makes them small.
    **{
        f"steps of 1/{divisor:g} deviation": GridConfig(bits=8, clip="deviations", deviations=127 / divisor)
        for divisor in (10, 7, 5, 3.5, 2.5, 1.75)
    },
}
"""Grids to choose from, by name: the record's, the same without their floor, and steps in standard deviations."""

Stored = dict[str, Quantised | Tensor]


@dataclass(frozen=True)
class Option:
    """The cost of one group on one grid."""

    name: str
    bytes: int
    """Bytes of the model, relative to the grid of the configuration."""
    loss: float
    """Nats per token, relative to the group in floats."""


@dataclass(frozen=True)
class Fitted:
    """A split that fits."""

    quant: QuantConfig
    chosen: dict[str, Option]
    """By group; groups without a quantised tensor are left out."""
    predicted_bytes: int
    model_bytes: int
    """Predicted and real bytes of the model."""
    code_bytes: int
    float_loss: float
    predicted_loss: float
    measured_loss: float
    """Nats per token on the training tokens: of the float weights, and of the split as predicted and as measured."""
    options: dict[str, list[Option]]
    """All that was measured, by group."""


def training_tokens(folder: Path, vocab_size: int) -> TokenStream:
    """Returns the stream of a dataset's training shards alone."""
    shards = sorted(folder.glob("*_train_*.bin"))
    if not shards:
        raise FileNotFoundError(f"{folder} has no training shards (*_train_*.bin) to measure on; name them with --data")
    return token_stream(shards, vocab_size)


def training_loss(
    config: RunConfig, stream: TokenStream, tokens: int, group: ProcessGroup
) -> Callable[[Mapping[str, Tensor]], float]:
    """Returns a function: weights -> mean loss in nats per token, on tokens spread over the stream."""
    length = config.batch.sequence_length
    rows = max(1, tokens // length)
    windows = [stream.read(row * stream.num_tokens // rows, length + 1) for row in range(rows)]
    tokens_BT = torch.from_numpy(np.stack(windows)).to(group.device)
    model = GEPA(config.model, activation_dtype(group.device)).to(group.device)

    @torch.inference_mode()
    def loss(weights: Mapping[str, Tensor]) -> float:
        model.load_state_dict(weights)
        total = 0.0
        for part_BT in tokens_BT.split(8):
            with torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda"):
                total += float(model(part_BT[:, :-1], part_BT[:, 1:])) * len(part_BT)
        return total / rows

    return loss


def fit(
    weights: Mapping[str, Tensor],
    config: RunConfig,
    loss: Callable[[Mapping[str, Tensor]], float],
    margin_bytes: int = 0,
    options: Mapping[str, GridConfig] = OPTIONS,
    event: Callable[[str, Option], None] = lambda group, option: None,
) -> Fitted:
    """Returns the split of least predicted loss whose artifact has at most `config.cap_bytes - margin_bytes` bytes.

    Args: weights: float32, by parameter name; loss: of such weights, see `training_loss`; event: called with each
        option.
    Raises: ValueError when nothing fits, with the bytes that the smallest split needs.
    """
    plain, quant = plain_shape(config.model), config.quant
    if quant.calibrated:  # what GPTQ would choose is not compared: it needs Hessians for every option
        clip = {group: replace(getattr(quant, group), method="clip") for group in FIT_GROUPS}
        quant = replace(quant, **clip)
    base = quantise_tensors(weights, quant)
    floats = {n: weights[n] if isinstance(t, Quantised) else t.float() for n, t in base.items()}
    base_bytes, float_loss = len(encode(base, plain, quant.codec, quant.level)), loss(floats)

    def on_grid(group: str, name: str) -> Stored:
        grids = with_options(quant, {group: options[name]})
        return quantise_tensors({n: weights[n] for n in base if group_of(n) == group}, grids)

    def added(part: Stored) -> float:
        values = restore(part)
        mirrored = {name: 2 * floats[name] - value for name, value in values.items()}
        return (loss(floats | values) + loss(floats | mirrored)) / 2 - float_loss

    measured_options: dict[str, list[Option]] = {}
    for group in FIT_GROUPS:
        if any(group_of(name) == group and isinstance(tensor, Quantised) for name, tensor in base.items()):
            measured_options[group] = []
            for name in options:
                part = on_grid(group, name)
                size = len(encode(base | part, plain, quant.codec, quant.level)) - base_bytes
                measured_options[group].append(Option(name, size, added(part)))
                event(group, measured_options[group][-1])
    allowance = config.cap_bytes - margin_bytes - code_bytes(config)
    while True:
        chosen = best(measured_options, allowance - base_bytes)
        if chosen is None:
            least = base_bytes + sum(min(option.bytes for option in group) for group in measured_options.values())
            raise ValueError(nothing_fits(least, config, margin_bytes))
        split = with_options(quant, {group: options[option.name] for group, option in chosen.items()})
        code = code_bytes(replace(config, quant=split))
        packed = dict(base)
        for group, option in chosen.items():
            packed |= on_grid(group, option.name)
        if quant.correction is not None:
            packed |= corrections(weights, packed, quant.correction)
        real = len(encode(packed, plain, quant.codec, quant.level))
        predicted = base_bytes + sum(option.bytes for option in chosen.values())
        over = real + code - (config.cap_bytes - margin_bytes)
        if over <= 0:
            predicted_loss = float_loss + sum(option.loss for option in chosen.values())
            measured = loss(floats | restore(packed))
            return Fitted(split, chosen, predicted, real, code, float_loss, predicted_loss, measured, measured_options)
        allowance = min(allowance - over, predicted - 1)


def with_options(quant: QuantConfig, grids: Mapping[str, Any]) -> QuantConfig:
    """Returns `quant` with the grids of some groups."""
    return replace(quant, **grids)


def best(options: Mapping[str, Sequence[Option]], most_bytes: int) -> dict[str, Option] | None:
    """Returns the combination of one option a group with the least loss, then the fewest bytes, within `most_bytes`."""
    losses, sizes = np.zeros(()), np.zeros((), np.int64)
    for group in options.values():
        losses = np.add.outer(losses, [option.loss for option in group])
        sizes = np.add.outer(sizes, [option.bytes for option in group])
    fitting = np.flatnonzero(sizes.ravel() <= most_bytes)
    if not len(fitting):
        return None
    first = fitting[np.lexsort((sizes.ravel()[fitting], losses.ravel()[fitting]))[0]]
    indices = np.unravel_index(first, losses.shape)
    return {name: group[int(index)] for (name, group), index in zip(options.items(), indices, strict=True)}


def fit_lines(fitted: Fitted, config: RunConfig, margin_bytes: int) -> Iterator[str]:
    """Yields lines on what was measured and chosen (*), group by group, and on the result."""
    yield f"{'group':16s} {'grid':28s} {'model bytes':>12s} {'added loss':>11s}   more or less than now; nats per token"
    for group, options in fitted.options.items():
        for option in sorted(options, key=lambda option: option.bytes):
            mark = "*" if option == fitted.chosen[group] else ""
            yield f"{group:16s} {option.name:28s} {option.bytes:+12,d} {option.loss:+11.5f} {mark}"
    artifact_bytes = fitted.model_bytes + fitted.code_bytes
    yield (
        f"model {fitted.model_bytes:,} bytes (predicted {fitted.predicted_bytes:,}) + code {fitted.code_bytes:,} = "
        f"{artifact_bytes:,} of {config.cap_bytes:,}: {config.cap_bytes - artifact_bytes:,} to spare, "
        f"{margin_bytes:,} wanted"
    )
    yield (
        f"loss on training tokens {fitted.measured_loss:.5f} nats per token (predicted {fitted.predicted_loss:.5f}, "
        f"in floats {fitted.float_loss:.5f})"
    )


def nothing_fits(least: int, config: RunConfig, margin_bytes: int) -> str:
    """Returns the error of a cap that is too small."""
    return (
        f"nothing fits: the smallest split takes about {least:,} bytes and the code {code_bytes(config):,}, the cap is "
        f"{config.cap_bytes:,} with a margin of {margin_bytes:,}; raise --cap, or train a smaller model"
    )

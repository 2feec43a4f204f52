"""Score-first test-time training against the plain version, and against anybody else's, side by side in one run.

    python -m benchmarks.ttt [--quick] [--compile] [--peer MODULE.py]

The same random weights and tokens at the shapes of the demo and of the public record. On a CPU the record's chunks are
one sequence long instead of sixteen, with `--quick` half as many windows and epochs: scoring and training keep their
proportion. Prints a table and last one JSON object: `ratio` (the smallest over the shapes of the plain seconds to ours)
and `largest_difference` (of any target's NLL in nats, also after the updates). Needs golf and torch only.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks import evaluators
from benchmarks.scoring import SHAPES, compare, finish, is_slow, parse, random_model, random_tokens, to_warm
from golf.config.config import RunConfig, ScoreConfig, TTTConfig
from golf.config.presets import PRESETS
from golf.model.gepa import GEPA
from golf.runtime.process_group import pick_device

Adapt = Callable[[GEPA, Tensor, ScoreConfig, TTTConfig], Tensor]


def settings(shape: str, device: torch.device, quick: bool) -> RunConfig:
    """The shape's configuration, with chunks that a CPU gets through."""
    config = PRESETS[SHAPES[shape]]
    if not is_slow(shape, device):
        return config
    assert config.ttt is not None
    epochs = config.ttt.epochs // 2 if quick else config.ttt.epochs
    score = replace(config.score, chunk_tokens=config.score.sequence_length)
    return replace(config, score=score, ttt=replace(config.ttt, epochs=epochs))


def from_same_weights(ttt: Adapt, model: GEPA, tokens: Tensor, config: RunConfig) -> Callable[[], Tensor]:
    """The evaluator as something to time: every call adapts the same copy of the model, with its first weights."""
    assert config.ttt is not None
    adapting, subject, weights = config.ttt, copy.deepcopy(model), copy.deepcopy(model.state_dict())

    def run() -> Tensor:
        subject.load_state_dict(weights)
        return ttt(subject, tokens, config.score, adapting)

    return run


def main() -> None:
    """Time both shapes."""
    parsed, device = parse(__doc__ or "", turns=3), pick_device()
    others = {"peer": evaluators.load_peer(parsed.peer, "ttt").ttt} if parsed.peer else {}
    adapters: dict[str, Adapt] = {"plain": evaluators.ttt, "ours": evaluators.Ours(parsed.compile).ttt} | others
    shapes = {}
    for shape in parsed.shapes:
        slow = is_slow(shape, device)
        config = settings(shape, device, parsed.quick)
        chunks = 1.5 if parsed.quick and slow else 3
        tokens = random_tokens(int(chunks * config.score.chunk_tokens), config.model.vocab_size)
        model = random_model(config, device)
        work = {name: from_same_weights(ttt, model, tokens, config) for name, ttt in adapters.items()}
        turns = 1 if parsed.quick and slow else parsed.turns
        shapes[shape] = compare(shape, work, turns, device, "chunk", chunks, to_warm(work, slow, parsed.compile))
    finish(shapes, device, parsed.json)


if __name__ == "__main__":
    main()

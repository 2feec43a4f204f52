"""Proofs of legality by running an evaluator: coverage, order, causality and normalisation.

Evaluates a short stream as a whole, with its later tokens changed, and with every possible value of one token, and
compares what must not differ. An evaluator has the signature of `golf.evaluate.ttt.score_with_ttt`: it takes `start`,
`stop_after` and `sink` and returns a `TTTState`. Nothing that it says of itself is believed.

Source of the rules: openai/parameter-golf, issue #1017 (C1 to C4).
"""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from golf.compliance.eval_probe import watching
from golf.compliance.points import PointResult, judged, not_applicable
from golf.config.config import RunConfig, ScoreConfig, TTTConfig
from golf.evaluate.sliding import Stream, TokenSink, score
from golf.evaluate.ttt import TTTState, score_with_ttt
from golf.evaluate.windows import make_windows, windows_by_chunk
from golf.model.compile import compile_model
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup

Evaluator = Callable[..., TTTState]
"""(model, stream, score_config, ttt_config, group, *, start, stop_after, sink), as `score_with_ttt` has them."""
NO_TRAINING = TTTConfig(epochs=0)
"""Settings of an evaluation without test-time training."""
REPEATS_DIFFER = 10.0
"""Where two equal evaluations differ, a flip may change an earlier score by so many times that."""
MASS_TOLERANCE = 1e-4
"""How far from 1 probabilities may sum."""
SUM_TOLERANCE = 1e-9
"""Largest relative difference of a chunk's sum from the sum of its targets' scores."""
MODEL_TOLERANCE = 1e-4
"""On CPUs: largest difference of a score from the model's own, in nats; another shape of a batch rounds differently."""
MEAN_TOLERANCE = 5e-3
"""On GPUs: largest mean difference; one score may differ by tenths of a nat where activations are bfloat16."""
LARGE_VOCABULARY = 4096
"""Above it one chunk's token is varied instead of three."""
MASS_LENGTH = 32
"""Tokens of a window in the proof that probabilities sum to 1, which needs an evaluation for each token id."""


def sliding(
    model: GEPA,
    stream: Stream,
    score_config: ScoreConfig,
    config: TTTConfig,
    group: ProcessGroup,
    *,
    forward: nn.Module | None = None,
    start: TTTState | None = None,
    stop_after: int | None = None,
    sink: TokenSink | None = None,
) -> TTTState:
    """Scoring by sliding windows as an evaluator; `config` is not used."""
    begun = () if start is None else start.scored.chunks
    scored = score(forward or model, stream, score_config, group, start=begun, stop_after=stop_after, sink=sink)
    return TTTState(scored, {}, {})


def evaluator_of(config: RunConfig, device: torch.device, compiled: bool) -> Evaluator:
    """The evaluator of a configuration: with test-time training, or by sliding windows alone.

    Args: compiled: whether the model is compiled where the configuration says so.
    """
    forwards: dict[GEPA, nn.Module] = {}
    choice = config.compile if compiled else False

    def evaluate(model: GEPA, *arguments: Any, **how: Any) -> TTTState:
        forward = forwards.setdefault(model, compile_model(model, choice, device))
        return (sliding if config.ttt is None else score_with_ttt)(model, *arguments, forward=forward, **how)

    return evaluate


class Copy:
    """A model to be evaluated many times, each time with the weights that it has now."""

    def __init__(self, model: GEPA) -> None:
        self._model = copy.deepcopy(model)
        self._weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @property
    def fresh(self) -> GEPA:
        """The model with its first weights, without gradients."""
        self._model.load_state_dict(self._weights)
        self._model.zero_grad(set_to_none=True)
        return self._model.requires_grad_(True)


@dataclass(frozen=True)
class Probe:
    """A short evaluation, long enough for every border to occur."""

    stream: Stream
    score: ScoreConfig
    ttt: TTTConfig
    group: ProcessGroup

    def run(
        self,
        evaluate: Evaluator,
        subject: "Copy",
        tokens: Tensor,
        start: TTTState | None = None,
        stop_after: int | None = None,
    ) -> Tensor:
        """The NLL of each target of these tokens instead of the stream's, float64 (N,); NaN where there is none."""
        nll = torch.full((self.stream.num_targets,), torch.nan, dtype=torch.float64)

        def sink(first: int, values: Tensor) -> None:
            nll[first : first + len(values)] = values.detach().cpu().nan_to_num(nan=math.inf)

        stream, how = replace(self.stream, tokens=tokens), {"start": start, "stop_after": stop_after, "sink": sink}
        with repeatable():
            evaluate(subject.fresh, stream, self.score, self.ttt, self.group, **how)
        return nll


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Deterministic kernels for the block, wherever there are some."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def probe_of(
    stream: Stream, score: ScoreConfig, ttt: TTTConfig | None, group: ProcessGroup, small: bool
) -> Probe | None:
    """The first two chunks and a half of a stream; None when it is too short for three chunks.

    Args: small: chunks of two windows, wide strides and at most 2 epochs, so that it takes seconds on any machine.
    """
    training = NO_TRAINING if ttt is None else ttt
    if small:
        length = score.sequence_length
        score = replace(score, stride=max(score.stride, length // 4), chunk_tokens=2 * length)
        training = replace(training, epochs=min(training.epochs, 2))
    targets = 2 * score.chunk_tokens + score.chunk_tokens // 2
    if stream.num_targets <= 2 * score.chunk_tokens + score.sequence_length:
        return None
    return Probe(Stream(stream.tokens[: targets + 1], stream.target_bytes[:targets]), score, training, group)


def prove_order(evaluate: Evaluator, model: GEPA, probe: Probe) -> list[PointResult]:
    """Coverage, sums, the order of scoring and training, and connections (points 11, 16, 19 and 20).

    The tokens are drawn, since text repeats itself and a row has to be found again at its one place.
    """
    subject, num_targets = copy.deepcopy(model), probe.stream.num_targets
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (num_targets + 1,), generator=generator).to(probe.group.device)
    stream = replace(probe.stream, tokens=tokens)
    with watching(subject, tokens) as watch:
        told = evaluate(subject, stream, probe.score, probe.ttt, probe.group, sink=watch.sink).scored.chunks
    times, nats = watch.times_scored, math.fsum(chunk.nll_nats for chunk in told)
    scored = float(watch.nll.sum())
    coverage = {
        "targets": num_targets,
        "scored_once": int((times == 1).sum()),
        "never": int((times == 0).sum()),
        "more_than_once": int((times > 1).sum()),
        "no_number": int((~watch.nll.isfinite()).sum()) - int((times == 0).sum()),
        "windows_read_again": watch.read_twice,
        "tokens_counted": sum(chunk.num_tokens for chunk in told),
        "bytes_counted": sum(chunk.num_bytes for chunk in told),
        "sum_differs_relatively": abs(nats - scored) / abs(scored),
    }
    whole = coverage["scored_once"] == coverage["tokens_counted"] == num_targets and not watch.read_twice
    whole &= coverage["no_number"] == 0
    whole &= coverage["bytes_counted"] == int(probe.stream.target_bytes.sum())
    whole &= coverage["sum_differs_relatively"] <= SUM_TOLERANCE
    why = "every target is scored by one pass over its window, and the sums are those of the scores"
    windows = make_windows(num_targets, probe.score.sequence_length, probe.score.stride)
    last = windows_by_chunk(windows, probe.score.chunk_tokens)[-1][0].first_scored
    order = {
        "optimiser_steps": watch.steps,
        "targets_trained_on": int(watch.trained.sum()),
        "before_their_score": int(watch.too_early.sum()),
        "in_last_chunk": int(watch.trained[last:].sum()),
        "rows_of_unknown_place": watch.unknown_trained,
    }
    early, in_last = order["before_their_score"] > 0, order["in_last_chunk"] > 0
    reached = {
        "reached_training_before_score": order["before_their_score"],
        "steps_before_any": watch.before_first_score,
    }
    if watch.steps == 0 and order["targets_trained_on"] == 0:
        trace = not_applicable(19, "nothing is trained during evaluation", {"optimiser_steps": 0})
    else:
        why_not = "score a chunk before training on it, in its own order; never train on the last"
        trace = judged(19, not (early or in_last or watch.unknown_trained), order, why_not)
    return [
        judged(11, not watch.connections, {"connections": len(watch.connections)}, " ".join(watch.connections[:3])),
        judged(16, whole, coverage, why),
        trace,
        judged(20, not early and not watch.before_first_score, reached, "a token was trained on before it was scored"),
    ]


def flip_places(probe: Probe, seed: int, few: bool) -> list[int]:
    """Numbers of first tokens to change: at borders of chunks and windows and between them.

    Args: seed: draws the places between borders; few: only the three that find most.
    """
    generator, chunk = torch.Generator().manual_seed(seed), probe.score.chunk_tokens
    length, stride, last = probe.score.sequence_length, probe.score.stride, probe.stream.num_targets

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, max(high, low + 1), (), generator=generator))

    places = [between(length // 4, length), chunk + length // 2, between(chunk + length, 2 * chunk)]
    if not few:
        windows = make_windows(last, length, stride)
        inside = [window.first_scored for window in windows if chunk < window.first_scored < last - 1]
        on_chunk_boundary = inside[len(inside) // 2]
        places += [
            1,
            2,
            chunk,
            chunk + 1,
            chunk + 2,
            on_chunk_boundary,
            on_chunk_boundary + 1,
            2 * chunk + 1,
            between(2 * chunk + 2, last),
            last,
        ]
    return sorted(set(places))


def prove_causality(evaluate: Evaluator, model: GEPA, probe: Probe, places: list[int]) -> PointResult:
    """Changing a token and all later ones changes no earlier score, with training running (point 18)."""
    tokens, chunk = probe.stream.tokens, probe.score.chunk_tokens
    subject = Copy(model)
    base = probe.run(evaluate, subject, tokens)
    earlier, blind = torch.zeros(0, len(base), dtype=torch.float64), 0
    for place in places:
        flipped = tokens.clone()
        flipped[place:] = (flipped[place:] + 1) % model.config.vocab_size
        change = _change(probe.run(evaluate, subject, flipped, stop_after=(place - 1) // chunk + 1), base)
        blind += not bool((change[place - 1 :] > 0).any())
        change[place - 1 :] = torch.nan  # the first changed token is the target at place - 1
        earlier = torch.cat([earlier, change[None]])
    by_chunk = [_largest(part) for part in earlier.split(chunk, dim=1)]
    noise: list[float] | None = None
    if max(by_chunk) > 0:
        repeats = torch.stack([_change(probe.run(evaluate, subject, tokens), base) for _ in range(2)])
        noise = [_largest(part) for part in repeats.split(chunk, dim=1)]
    evidence = {
        "flips": len(places),
        "at_tokens": places,
        "earlier_scores": int((~earlier.isnan()).sum()),
        "of_them_changed": int((earlier > 0).sum()),
        "largest_change_nats_by_chunk": by_chunk,
    }
    evidence |= {} if noise is None else {"equal_runs_differ_by": noise}
    limits = [REPEATS_DIFFER * one for one in noise or [0.0] * len(by_chunk)]
    legal = all(worst <= limit for worst, limit in zip(by_chunk, limits, strict=True))
    why = "the scores do not depend on the tokens" if legal else "a score depends on tokens that come after it"
    return judged(18, legal and not blind, evidence, why)


def _change(found: Tensor, base: Tensor) -> Tensor:
    """|difference| of two runs' scores, 0 where both are no number; NaN where one has no score."""
    return torch.where(found == base, 0.0, (found - base).abs())


def _largest(differences: Tensor) -> float:
    """The largest number; where there is no score, nothing can differ."""
    return float(differences.nan_to_num(0.0, posinf=math.inf).max()) if differences.numel() else 0.0


def prove_normalised(evaluate: Evaluator, model: GEPA, probe: Probe, chunks: tuple[int, ...]) -> PointResult:
    """The probabilities of all values of one token sum to 1, each from an evaluation of its own (point 17).

    Args: chunks: in each of which a token is varied, after training on those before.
    """
    vocab_size, subject, targets = model.config.vocab_size, Copy(model), probe.stream.num_targets
    length = min(MASS_LENGTH, probe.score.sequence_length, targets // 2)
    score = replace(
        probe.score, sequence_length=length, stride=max(1, length // 2), chunk_tokens=2 * length, batch_windows=1
    )
    sums = {}
    fitting = [chunk for chunk in chunks if (chunk + 1) * score.chunk_tokens <= targets]
    chunks = tuple(fitting if vocab_size <= LARGE_VOCABULARY else fitting[-1:])
    for chunk in chunks:
        place = _place_with_history(probe.stream.tokens, chunk * score.chunk_tokens, length)
        end = (chunk + 1) * score.chunk_tokens
        tokens = probe.stream.tokens[: end + 1].clone()
        short = replace(probe, stream=Stream(tokens, probe.stream.target_bytes[:end]), score=score)
        start = None
        if chunk:
            start = evaluate(subject.fresh, short.stream, score, probe.ttt, probe.group, stop_after=chunk)
        total = 0.0
        for value in range(vocab_size):
            tokens[place] = value
            total += math.exp(-float(short.run(evaluate, subject, tokens, start=start)[place - 1]))
        sums[f"chunk {chunk}"] = total
    furthest = max(abs(total - 1.0) for total in sums.values())
    evidence = {"evaluations": vocab_size * len(chunks), "sums": sums, "furthest_from_1": furthest}
    why = "the scores of all values of one token are no probabilities: they must sum to 1, whatever the token is"
    return judged(17, furthest <= MASS_TOLERANCE, evidence, why)


def compare_with_model(evaluate: Evaluator, model: GEPA, probe: Probe) -> PointResult:
    """The scores are those of the model's own softmax, before and after training (point 17, the cheap form).

    All windows of two chunks are compared, those of the second with the weights that the evaluator says it had there.
    """
    subject, stream, device = Copy(model), probe.stream, probe.group.device
    with repeatable():
        begun = evaluate(subject.fresh, stream, probe.score, probe.ttt, probe.group, stop_after=1)
    nll = probe.run(evaluate, subject, stream.tokens, stop_after=1)
    later = probe.run(evaluate, subject, stream.tokens, start=begun, stop_after=2)
    nll = torch.where(later.isnan(), nll, later)
    windows = make_windows(stream.num_targets, probe.score.sequence_length, probe.score.stride)
    own, total = subject.fresh, 1.0
    differences = []
    for chunk, members in enumerate(windows_by_chunk(windows, probe.score.chunk_tokens)[:2]):
        own.load_state_dict(own.state_dict() | (dict(begun.weights) if chunk else {}))
        for window in members:
            ids = stream.tokens[window.start : window.end + 1].to(device)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits_SV = own.logits(ids[None, :-1], last=window.end - window.first_scored)[0]
            log_p_SV = logits_SV.double().log_softmax(-1)
            expected = -log_p_SV.gather(1, ids[-len(log_p_SV) :, None])[:, 0].cpu()
            differences.append(nll[window.first_scored : window.end] - expected)
            sums = log_p_SV.exp().sum(-1)
            total = max(total, float(sums.max()), key=lambda one: abs(one - 1.0))
    found = torch.cat(differences)
    largest, mean = _largest(found.abs()), abs(float(found.mean()))
    near = largest <= MODEL_TOLERANCE if device.type == "cpu" else mean <= MEAN_TOLERANCE
    evidence = {"sum_of_probabilities": total, "scores_differ_from_the_model_by_up_to": largest, "on_average": mean}
    why = "the scores are not those of the model's softmax, which alone is known to sum to 1"
    return judged(17, near and abs(total - 1.0) <= MASS_TOLERANCE, evidence, why)


def _place_with_history(tokens: Tensor, first_target: int, length: int) -> int:
    """The number of a token in the chunk whose predecessor stood in the stream before: what a cache would know."""
    for place in range(first_target + length // 2, first_target + length):
        if bool((tokens[: place - 1] == tokens[place - 1]).any()):
            return place
    return first_target + length // 2

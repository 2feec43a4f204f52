"""Proofs of legality by running an evaluator: coverage, order, causality and normalisation.

They evaluate a short stream, also with its later tokens changed and with every possible value of one token, and compare
what must not differ. Nothing that an evaluator says of itself is believed.

Source of the rules: openai/parameter-golf, issue #1017 (C1 to C4).
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from golf.compliance.eval_probe import Watch, watching
from golf.compliance.evaluator import Evaluator, ModelCopy, Probe, repeatable
from golf.compliance.points import Evidence, PointResult, judged, not_applicable
from golf.evaluate.sliding import ChunkScore, Stream
from golf.evaluate.windows import make_windows, windows_by_chunk
from golf.model.gepa import GEPA

REPEATS_DIFFER = 10.0
"""Where two equal evaluations differ, a flip may change an earlier score by so many times that."""
MASS_TOLERANCE = 1e-4
"""How far from 1 the sum of probabilities may be."""
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


def prove_order(evaluate: Evaluator, model: GEPA, probe: Probe) -> list[PointResult]:
    """Shows coverage, sums, the order of scoring and training, and connections (points 11, 16, 19 and 20).

    The tokens are drawn, since text repeats itself and a row has to be identified by its content.
    """
    subject, num_targets = copy.deepcopy(model), probe.stream.num_targets
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (num_targets + 1,), generator=generator).to(probe.group.device)
    stream = replace(probe.stream, tokens=tokens)
    with watching(subject, tokens) as watch:
        chunks = evaluate(subject, stream, probe.score, probe.ttt, probe.group, sink=watch.sink).scored.chunks
    connections = {"connections": len(watch.connections)}
    early = int(watch.too_early.sum())
    reached = {"reached_training_before_score": early, "steps_before_any": watch.before_first_score}
    return [
        judged(11, not watch.connections, connections, " ".join(watch.connections[:3])),
        _coverage(watch, chunks, probe.stream),
        _training_order(watch, probe, early),
        judged(20, not early and not watch.before_first_score, reached, "a token was trained on before it was scored"),
    ]


def _coverage(watch: Watch, chunks: Sequence[ChunkScore], stream: Stream) -> PointResult:
    """Returns the result on point 16: each target is scored once, and the sums are those of the scores."""
    times, nats, scored = watch.times_scored, math.fsum(chunk.nll_nats for chunk in chunks), float(watch.nll.sum())
    coverage = {
        "targets": stream.num_targets,
        "scored_once": int((times == 1).sum()),
        "never": int((times == 0).sum()),
        "more_than_once": int((times > 1).sum()),
        "no_number": int((~watch.nll.isfinite()).sum()) - int((times == 0).sum()),
        "windows_read_again": watch.read_twice,
        "tokens_counted": sum(chunk.num_tokens for chunk in chunks),
        "bytes_counted": sum(chunk.num_bytes for chunk in chunks),
        "sum_differs_relatively": abs(nats - scored) / abs(scored),
    }
    holds = (
        coverage["scored_once"] == coverage["tokens_counted"] == stream.num_targets
        and not watch.read_twice
        and coverage["no_number"] == 0
        and coverage["bytes_counted"] == int(stream.target_bytes.sum())
        and coverage["sum_differs_relatively"] <= SUM_TOLERANCE
    )
    rule = "every target is scored by one pass over its window, and the sums are those of the scores"
    return judged(16, holds, coverage, rule)


def _training_order(watch: Watch, probe: Probe, early: int) -> PointResult:
    """Returns the result on point 19: chunks are trained on after their score, the last one never."""
    windows = make_windows(probe.stream.num_targets, probe.score.sequence_length, probe.score.stride)
    last = windows_by_chunk(windows, probe.score.chunk_tokens)[-1][0].first_scored
    order = {
        "optimiser_steps": watch.steps,
        "targets_trained_on": int(watch.trained.sum()),
        "before_their_score": early,
        "in_last_chunk": int(watch.trained[last:].sum()),
        "rows_of_unknown_place": watch.unknown_trained,
    }
    if watch.steps == 0 and order["targets_trained_on"] == 0:
        return not_applicable(19, "nothing is trained during evaluation", {"optimiser_steps": 0})
    holds = not (early or order["in_last_chunk"] or watch.unknown_trained)
    return judged(19, holds, order, "score a chunk before training on it, in its own order; never train on the last")


def flip_positions(probe: Probe, seed: int, few: bool) -> list[int]:
    """Returns numbers of first tokens to change: at borders of chunks and windows and between them.

    Args:
        probe: the short evaluation.
        seed: draws the positions between borders.
        few: only the three that show most.
    """
    generator, chunk = torch.Generator().manual_seed(seed), probe.score.chunk_tokens
    length, stride, last = probe.score.sequence_length, probe.score.stride, probe.stream.num_targets

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, max(high, low + 1), (), generator=generator))

    positions = [between(length // 4, length), chunk + length // 2, between(chunk + length, 2 * chunk)]
    if not few:
        windows = make_windows(last, length, stride)
        inside = [window.first_scored for window in windows if chunk < window.first_scored < last - 1]
        border = inside[len(inside) // 2]
        positions += [1, 2, chunk, chunk + 1, chunk + 2, border, border + 1, 2 * chunk + 1, last]
        positions.append(between(2 * chunk + 2, last))
    return sorted(set(positions))


def prove_causality(evaluate: Evaluator, model: GEPA, probe: Probe, positions: Sequence[int]) -> PointResult:
    """Shows that changing a token and all later ones changes no earlier score, with training running (point 18)."""
    tokens, chunk = probe.stream.tokens, probe.score.chunk_tokens
    subject = ModelCopy(model)
    base = probe.run(evaluate, subject, tokens)
    earlier, blind = torch.zeros(0, len(base), dtype=torch.float64), 0
    for position in positions:
        flipped = tokens.clone()
        flipped[position:] = (flipped[position:] + 1) % model.config.vocab_size
        scores = probe.run(evaluate, subject, flipped, stop_after=(position - 1) // chunk + 1)
        change = _change(scores, base)
        blind += not bool((change[position - 1 :] > 0).any())
        change[position - 1 :] = torch.nan  # the first changed token is the target before it
        earlier = torch.cat([earlier, change[None]])
    by_chunk = [_largest(part) for part in earlier.split(chunk, dim=1)]
    evidence: Evidence = {
        "flips": len(positions),
        "at_tokens": list(positions),
        "earlier_scores": int((~earlier.isnan()).sum()),
        "of_them_changed": int((earlier > 0).sum()),
        "largest_change_nats_by_chunk": by_chunk,
    }
    noise = [0.0] * len(by_chunk)
    if max(by_chunk) > 0:
        repeats = torch.stack([_change(probe.run(evaluate, subject, tokens), base) for _ in range(2)])
        noise = evidence["equal_runs_differ_by"] = [_largest(part) for part in repeats.split(chunk, dim=1)]
    causal = all(worst <= REPEATS_DIFFER * limit for worst, limit in zip(by_chunk, noise, strict=True))
    why = "the scores do not depend on the tokens" if causal else "a score depends on tokens that come after it"
    return judged(18, causal and not blind, evidence, why)


def _change(scores: Tensor, base: Tensor) -> Tensor:
    """Returns |difference| of two runs' scores, 0 where both are no number; NaN where one has no score."""
    return torch.where(scores == base, 0.0, (scores - base).abs())


def _largest(differences: Tensor) -> float:
    """Returns the largest number; where there is no score, nothing can differ."""
    return float(differences.nan_to_num(0.0, posinf=math.inf).max()) if differences.numel() else 0.0


def prove_normalised(evaluate: Evaluator, model: GEPA, probe: Probe, chunks: tuple[int, ...]) -> PointResult:
    """Shows that the probabilities of all values of one token sum to 1, an evaluation for each (point 17).

    Args:
        evaluate: the evaluator.
        model: evaluated with its weights.
        probe: the short evaluation.
        chunks: in each of which a token is varied, after training on those before.
    """
    vocab_size, subject, targets = model.config.vocab_size, ModelCopy(model), probe.stream.num_targets
    length = min(MASS_LENGTH, probe.score.sequence_length, targets // 2)
    score = replace(
        probe.score, sequence_length=length, stride=max(1, length // 2), chunk_tokens=2 * length, batch_windows=1
    )
    sums = {}
    fitting = [chunk for chunk in chunks if (chunk + 1) * score.chunk_tokens <= targets]
    for chunk in fitting if vocab_size <= LARGE_VOCABULARY else fitting[-1:]:
        position = _position_with_history(probe.stream.tokens, chunk * score.chunk_tokens, length)
        end = (chunk + 1) * score.chunk_tokens
        tokens = probe.stream.tokens[: end + 1].clone()
        short = replace(probe, stream=Stream(tokens, probe.stream.target_bytes[:end]), score=score)
        start = None
        if chunk:
            start = evaluate(subject.fresh, short.stream, score, probe.ttt, probe.group, stop_after=chunk)
        total = 0.0
        for value in range(vocab_size):
            tokens[position] = value
            total += math.exp(-float(short.run(evaluate, subject, tokens, start=start)[position - 1]))
        sums[f"chunk {chunk}"] = total
    furthest = max(abs(total - 1.0) for total in sums.values())
    evidence = {"evaluations": vocab_size * len(sums), "sums": sums, "furthest_from_1": furthest}
    why = "the scores of all values of one token are no probabilities: they must sum to 1, whatever the token is"
    return judged(17, furthest <= MASS_TOLERANCE, evidence, why)


def _position_with_history(tokens: Tensor, first_target: int, length: int) -> int:
    """Returns the number of a token in the chunk whose predecessor occurred before: what a cache would know."""
    for position in range(first_target + length // 2, first_target + length):
        if bool((tokens[: position - 1] == tokens[position - 1]).any()):
            return position
    return first_target + length // 2


def compare_with_model(evaluate: Evaluator, model: GEPA, probe: Probe) -> PointResult:
    """Shows that the scores are those of the model's own softmax, before and after training (point 17, cheaply).

    All windows of two chunks are compared, those of the second with the weights that the evaluator says it had there.
    """
    subject, stream, device = ModelCopy(model), probe.stream, probe.group.device
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
            total = max(total, float(sums.max()), key=lambda mass: abs(mass - 1.0))
    difference = torch.cat(differences)
    largest, mean = _largest(difference.abs()), abs(float(difference.mean()))
    near = largest <= MODEL_TOLERANCE if device.type == "cpu" else mean <= MEAN_TOLERANCE
    evidence = {"sum_of_probabilities": total, "scores_differ_from_the_model_by_up_to": largest, "on_average": mean}
    why = "the scores are not those of the model's softmax, which alone is known to sum to 1"
    return judged(17, near and abs(total - 1.0) <= MASS_TOLERANCE, evidence, why)

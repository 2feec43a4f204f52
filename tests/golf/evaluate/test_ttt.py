"""Score-first test-time training: order, resume and settings."""

import math
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from golf.config.config import ScoreConfig, TTTConfig
from golf.evaluate.sliding import Stream, score
from golf.evaluate.ttt import ChunkTrainer, chunk_lr, score_with_ttt
from golf.evaluate.windows import make_windows
from golf.model.gepa import GEPA, build_model
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup

SETTINGS = TTTConfig(lr=0.05, epochs=2, frozen_blocks=1, batch_sequences=2)


def copy_of(model: GEPA) -> GEPA:
    """The same model, apart."""
    other = build_model(model.config, seed=0)
    other.load_state_dict(model.state_dict())
    return other


def test_no_epochs_is_plain_sliding(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: the evaluator with training has another idea of windows or sums."""
    expected = score(model, stream, config, ProcessGroup())
    adapted = score_with_ttt(model, stream, config, replace(SETTINGS, epochs=0), ProcessGroup())
    assert adapted.scored == expected


def test_each_chunk_is_scored_before_it_is_trained_on(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: a future token reaches an earlier score through the weights."""

    def scores(tokens: Tensor) -> Tensor:
        seen = torch.zeros(stream.num_targets, dtype=torch.float64)

        def sink(first: int, nll: Tensor) -> None:
            seen[first : first + len(nll)] = nll

        score_with_ttt(copy_of(model), Stream(tokens, stream.target_bytes), config, SETTINGS, ProcessGroup(), sink=sink)
        return seen

    before = scores(stream.tokens)
    for position in (69, 70, 71, 140, 146, 280, 300):
        tokens = stream.tokens.clone()
        tokens[position:] = (tokens[position:] + 1) % 48
        torch.testing.assert_close(scores(tokens)[: position - 1], before[: position - 1], atol=1e-5, rtol=0)


def test_training_changes_later_chunks_and_the_last_is_not_trained(
    model: GEPA, stream: Stream, config: ScoreConfig
) -> None:
    """Fault: training is a no-op, or goes on after the last score."""
    plain = score(model, stream, config, ProcessGroup())
    trained = copy_of(model)
    before_last = score_with_ttt(trained, stream, config, SETTINGS, ProcessGroup(), stop_after=4)
    assert before_last.scored.chunks[0] == plain.chunks[0]
    assert before_last.scored.chunks[1].nll_nats != plain.chunks[1].nll_nats
    done = score_with_ttt(trained, stream, config, SETTINGS, ProcessGroup(), start=before_last)
    assert all(torch.equal(done.weights[name], tensor) for name, tensor in before_last.weights.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_stopping_and_going_on_equals_no_stop(model: GEPA, stream: Stream, config: ScoreConfig, optimizer: str) -> None:
    """Fault: momentum, weights or sums are lost between two calls."""
    settings = TTTConfig(optimizer="sgd" if optimizer == "sgd" else "adamw", lr=0.01, epochs=2, frozen_blocks=1)
    whole = score_with_ttt(copy_of(model), stream, config, settings, ProcessGroup())
    part = score_with_ttt(copy_of(model), stream, config, settings, ProcessGroup(), stop_after=2)
    rest = score_with_ttt(copy_of(model), stream, config, settings, ProcessGroup(), start=part)
    assert rest.scored == whole.scored
    assert all(torch.equal(rest.weights[name], tensor) for name, tensor in whole.weights.items())


def test_frozen_blocks_do_not_move_and_embeddings_do(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: freezing the wrong parameters."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = score_with_ttt(model, stream, config, SETTINGS, ProcessGroup())
    for name, tensor in adapted.weights.items():
        assert torch.equal(tensor, start[name]) == name.startswith("blocks.0."), name


def test_qat_is_off_unless_asked_for(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: the flag of late QAT leaks into test-time training, or the switch is dead."""
    off = score_with_ttt(copy_of(model), stream, config, SETTINGS, ProcessGroup())
    on = score_with_ttt(copy_of(model), stream, config, replace(SETTINGS, qat=True), ProcessGroup())
    assert off.scored != on.scored


@pytest.mark.long
def test_two_compiled_graphs_serve_all_chunks(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: weights that a compiled graph folded in or keeps from another chunk, or a graph for every chunk."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    ours = copy_of(model)
    expected = score_with_ttt(copy_of(model), stream, config, SETTINGS, ProcessGroup())
    compiled = cast(nn.Module, torch.compile(ours, backend=counter, dynamic=False))
    found = score_with_ttt(ours, stream, config, SETTINGS, ProcessGroup(), forward=compiled)
    for a, b in zip(found.scored.chunks, expected.scored.chunks, strict=True):
        assert a.nll_nats == pytest.approx(b.nll_nats, abs=1e-3)
    assert counter.frame_count == 2


def test_a_border_in_the_last_window_makes_no_chunk(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: a chunk without a window, or another schedule than the published ceil(targets / chunk) chunks."""
    size = stream.num_targets - 1
    one = score_with_ttt(
        copy_of(model), stream, replace(config, chunk_tokens=size), TTTConfig(lr=0.1), ProcessGroup()
    ).scored
    plain = score(model, stream, replace(config, chunk_tokens=stream.num_targets), ProcessGroup())
    assert [chunk.num_tokens for chunk in one.chunks] == [stream.num_targets]
    assert one.bpb == pytest.approx(plain.bpb, abs=1e-9)
    size = (stream.num_targets - 1) // 2
    parted = replace(config, chunk_tokens=size)
    windows = make_windows(stream.num_targets, config.sequence_length, config.stride)
    assert windows[-1].first_scored < 2 * size < stream.num_targets, "no border in the last window"
    seen: list[float] = []

    class Spy(ChunkTrainer):
        def train(self, tokens: Tensor, length: int, lr: float) -> None:
            seen.append(lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("golf.evaluate.ttt.ChunkTrainer", Spy)
        found = score_with_ttt(copy_of(model), stream, parted, TTTConfig(lr=0.1), ProcessGroup()).scored
    assert len(found.chunks) == 2
    assert seen == [chunk_lr(TTTConfig(lr=0.1), 0, 3)]


def test_a_loss_that_is_no_number_ends_it_with_its_chunk(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: NaN goes on to the last chunk and into results, where JSON refuses it without saying where it began."""
    seen: list[int] = []
    with pytest.raises(Diverged, match="chunk 1: loss nan"):
        score_with_ttt(
            copy_of(model),
            stream,
            config,
            TTTConfig(lr=1e30),
            ProcessGroup(),
            after_chunk=lambda number, chunk: seen.append(number),
        )
    assert seen == [0]
    broken = copy_of(model)
    with torch.no_grad():
        broken.token_embedding.weight.fill_(math.nan)
    with pytest.raises(Diverged, match="chunk 0: loss nan"):
        score(broken, stream, config, ProcessGroup())


def test_learning_rate_over_chunks() -> None:
    """Fault: a cosine that does not start at lr and end at 0, or a warm-up that does not rise."""
    settings = TTTConfig(lr=0.4)
    rates = [chunk_lr(settings, chunk, 41) for chunk in range(41)]
    assert rates[0] == 0.4
    assert rates[20] == pytest.approx(0.2)
    assert rates[40] == pytest.approx(0.0, abs=1e-15)
    warmed = [chunk_lr(replace(settings, warmup_fraction=0.1), chunk, 41) for chunk in range(41)]
    assert warmed[4:] == rates[4:]
    assert [round(w / r, 9) for w, r in zip(warmed[:4], rates[:4], strict=True)] == [0.25, 0.5, 0.75, 1.0]
    assert math.isfinite(chunk_lr(settings, 0, 1))

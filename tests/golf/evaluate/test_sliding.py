"""Sliding-window scores against one forward pass per target."""

import math
from dataclasses import replace
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from golf.config.config import ScoreConfig
from golf.evaluate.sliding import Stream, cut_windows, make_batches, score
from golf.evaluate.windows import Window, make_windows
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup


def nll_of_targets(model: GEPA, stream: Stream, length: int, stride: int) -> Tensor:
    """Each target's NLL from a pass of its own, by the recipe's words."""
    values = []
    for target in range(stream.num_targets):
        window = 0 if target < length else -(-(target + 1 - length) // stride)
        start = window * stride
        # The stream's last window ends with it: the rotary base follows the length.
        x = torch.zeros(1, min(length, stream.num_targets - start), dtype=torch.int64)
        x[0, : target + 1 - start] = stream.tokens[start : target + 1]
        with torch.no_grad():
            logits = model.logits(x)[0, target - start].double()
        values.append(F.cross_entropy(logits, stream.tokens[target + 1]).item())
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("plain", [False, True])
def test_scores_equal_a_pass_per_target(model: GEPA, stream: Stream, config: ScoreConfig, plain: bool) -> None:
    """Fault: a wrong window, a shifted mask, or padding that reaches a scored target."""
    seen = torch.full((stream.num_targets,), math.nan, dtype=torch.float64)

    def sink(first: int, nll: Tensor) -> None:
        seen[first : first + len(nll)] = nll

    scored = score(model, stream, config, ProcessGroup(), plain=plain, sink=sink)
    expected = nll_of_targets(model, stream, 24, 24 if plain else 7)
    torch.testing.assert_close(seen, expected, atol=2e-5, rtol=0)
    total_bytes = int(stream.target_bytes.sum())
    assert scored.bpb == pytest.approx(expected.sum().item() / math.log(2) / total_bytes, abs=1e-6)
    assert sum(chunk.num_bytes for chunk in scored.chunks) == total_bytes
    assert sum(chunk.num_tokens for chunk in scored.chunks) == stream.num_targets


def test_scores_do_not_depend_on_the_batch(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: windows of one batch leak into each other."""
    one = score(model, stream, replace(config, batch_windows=1), ProcessGroup())
    many = score(model, stream, replace(config, batch_windows=64), ProcessGroup())
    for a, b in zip(one.chunks, many.chunks, strict=True):
        assert a.nll_nats == pytest.approx(b.nll_nats, abs=1e-4)


def test_changing_a_token_changes_no_earlier_score(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: a score that saw its own or a later token."""

    def scores(tokens: Tensor) -> Tensor:
        seen = torch.zeros(stream.num_targets, dtype=torch.float64)

        def sink(first: int, nll: Tensor) -> None:
            seen[first : first + len(nll)] = nll

        score(model, Stream(tokens, stream.target_bytes), config, ProcessGroup(), sink=sink)
        return seen

    before = scores(stream.tokens)
    for position in (1, 24, 70, 150, 301):
        tokens = stream.tokens.clone()
        tokens[position:] = (tokens[position:] + 1) % 48
        after = scores(tokens)
        torch.testing.assert_close(after[: position - 1], before[: position - 1], atol=1e-5, rtol=0)
        assert abs(after[position - 1] - before[position - 1]) > 1e-4


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_every_pass_reads_its_windows_and_counts_their_targets(
    num_targets: int, length: int, stride: int, rows: int, world: int
) -> None:
    """Fault: views that slip against the windows, a filled-up row that counts, shapes that change from pass to pass."""
    tokens = torch.arange(1000, 1001 + num_targets)
    windows = make_windows(num_targets, length, min(stride, length))
    for rank in range(world):
        mine, shapes = windows[rank::world], set()
        read: list[Window] = []
        for batch in make_batches(mine, rows):
            own = batch.windows[0].end - batch.windows[0].start
            x, y, counted = cut_windows(tokens, batch, own)
            assert x.shape[1] == own
            read += batch.windows
            if not batch.lone:
                shapes.add((x.shape, y.shape))
            assert counted[len(batch.windows) :].sum() == 0
            for row, window in enumerate(batch.windows):
                width = window.end - window.start
                assert x[row, :width].tolist() == list(range(1000 + window.start, 1000 + window.end))
                targets = y[row][counted[row]].tolist()
                assert targets == list(range(1001 + window.first_scored, 1001 + window.end))
                assert counted[row, : len(targets)].all()
        assert read == mine
        assert len(shapes) <= 1


@pytest.mark.long
def test_one_compiled_pass_serves_all_chunks(model: GEPA, stream: Stream, config: ScoreConfig) -> None:
    """Fault: a graph compiled again, a minute each on a GPU, for the first window, a chunk's last batch or the end."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = cast(nn.Module, torch.compile(model, backend=counter, dynamic=False))
    expected = score(model, stream, config, ProcessGroup())
    found = score(compiled, stream, config, ProcessGroup())
    for a, b in zip(found.chunks, expected.chunks, strict=True):
        assert a.nll_nats == pytest.approx(b.nll_nats, abs=1e-4)
    assert counter.frame_count == 1

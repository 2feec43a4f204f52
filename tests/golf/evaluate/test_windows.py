"""Coverage of the stream by windows."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from golf.evaluate.windows import make_windows, windows_by_chunk

lengths = st.tuples(st.integers(1, 400), st.integers(1, 48), st.integers(1, 48)).filter(lambda t: t[2] <= t[1])


@given(lengths)
def test_every_target_is_scored_exactly_once(case: tuple[int, int, int]) -> None:
    """Fault: a tail scored twice (or never) by truncated windows, as in published evaluators."""
    num_targets, length, stride = case
    counts = [0] * num_targets
    for window in make_windows(num_targets, length, stride):
        assert window.start <= window.first_scored < window.end <= window.start + length
        for target in range(window.first_scored, window.end):
            counts[target] += 1
    assert counts == [1] * num_targets


@given(lengths)
def test_later_windows_score_only_their_last_stride(case: tuple[int, int, int]) -> None:
    """Fault: targets scored with less context than length - stride tokens."""
    num_targets, length, stride = case
    for window in make_windows(num_targets, length, stride)[1:]:
        assert window.end - window.first_scored <= stride
        assert window.first_scored - window.start == length - stride


@given(lengths, st.integers(48, 100))
@example((100, 32, 32), 97)
@example((100, 32, 16), 99)
def test_chunks_hold_each_window_once_and_never_score_ahead_of_training(
    case: tuple[int, int, int], chunk_tokens: int
) -> None:
    """Fault: a chunk is trained on before one of its targets was scored, or has none: a border in the last window."""
    num_targets, length, stride = case
    windows = make_windows(num_targets, length, stride)
    chunks = windows_by_chunk(windows, chunk_tokens)
    assert [window for chunk in chunks for window in chunk] == windows
    assert all(chunks), "a chunk without a window has no bytes to divide by"
    scored = 0
    for number, chunk in enumerate(chunks):
        scored = max([scored, *(window.end for window in chunk)])
        assert scored >= min((number + 1) * chunk_tokens, num_targets)


def test_nothing_to_score_is_an_error() -> None:
    """Fault: an empty validation split gives a score of 0 / 0."""
    with pytest.raises(ValueError, match="nothing to score"):
        make_windows(0, 8, 4)

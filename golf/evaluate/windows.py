"""The tokens that each window reads, and those it scores: every token of the stream is scored exactly once.

Pure arithmetic on positions. Target position t is token t + 1 of the stream, predicted from the tokens up to
t. The first window scores all its targets, each later one those that the window before did not reach.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Targets [start, end) are read; [first_scored, end) are scored."""

    start: int
    first_scored: int
    end: int


def make_windows(num_targets: int, sequence_length: int, stride: int) -> list[Window]:
    """Returns windows in the order of their start; their scored parts tile [0, num_targets).

    Windows run to the end of the stream; the last one scores what is left. `stride` = `sequence_length` makes
    plain windows without overlap.
    Raises: ValueError when there is nothing to score.
    """
    if num_targets < 1:
        raise ValueError(f"nothing to score: the stream must have at least 2 tokens, got {num_targets + 1}")
    windows = [Window(0, 0, min(sequence_length, num_targets))]
    while windows[-1].end < num_targets:
        start, done = windows[-1].start + stride, windows[-1].end
        windows.append(Window(start, done, min(start + sequence_length, num_targets)))
    return windows


def windows_by_chunk(windows: list[Window], chunk_tokens: int) -> list[list[Window]]:
    """Returns the windows of each chunk of the stream: a window belongs to the chunk of its first scored target.

    The last window scores all that is left, also beyond a chunk's end. With at least a window's length per chunk, no
    chunk before the last is empty.
    """
    chunks: list[list[Window]] = [[] for _ in range(windows[-1].first_scored // chunk_tokens + 1)]
    for window in windows:
        chunks[window.first_scored // chunk_tokens].append(window)
    return chunks

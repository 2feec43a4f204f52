"""Saved chunks of a rung of the ladder, so that none of them is scored twice.

The file holds the chunks' sums and, for TTT, the tensors that are needed to continue after them. It is written between
two chunks: when it is time, on preemption, and after the first chunks by which trials are screened. A later call with
the same identity continues from it with the same bits. Only the first rank writes.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from golf.evaluate.sliding import ChunkScore, Scored
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import BEGUN, SCREEN, TENSORS
from golf.runtime.tensors import read_stored, write_tensors
from golf.train.checkpoint_policy import CheckpointTimer
from golf.train.hooks import Hooks
from golf.train.loop import Preempted


def saved_files(directory: Path, rung: str, first_chunks: int | None = None) -> list[Path]:
    """Returns the files from which a rung may continue, the furthest first.

    Args:
        directory: where chunks are saved.
        rung: one of LADDER.
        first_chunks: how many of its first chunks are to be scored at most; None: all chunks.
    """
    pattern = re.compile(rf"{rung}-(\d+){SCREEN}{TENSORS}")
    screens = {int(found[1]): file for file in directory.glob(f"{rung}-*") if (found := pattern.fullmatch(file.name))}
    counts = sorted((count for count in screens if first_chunks is None or count <= first_chunks), reverse=True)
    begun = [directory / _file_name(rung, None)] if first_chunks is None else []
    return [file for file in (*begun, *(screens[count] for count in counts)) if file.exists()]


def screen_name(rung: str, first_chunks: int) -> str:
    """Returns the name of the result of a rung's first chunks."""
    return f"{rung}-{first_chunks}{SCREEN}"


def _file_name(rung: str, first_chunks: int | None) -> str:
    return f"{rung}{BEGUN}{TENSORS}" if first_chunks is None else f"{screen_name(rung, first_chunks)}{TENSORS}"


class ChunkCheckpoint:
    """The chunks, tensors and seconds of a rung in progress."""

    def __init__(
        self,
        directory: Path,
        rung: str,
        identity: str,
        group: ProcessGroup,
        hooks: Hooks,
        first_chunks: int | None = None,
    ) -> None:
        """Continues from the furthest chunk of this rung that is saved in `directory`.

        Args:
            directory: where the chunks are saved.
            rung: one of LADDER.
            identity: digest of what the scores depend on.
            group: the ranks.
            hooks: the caller's.
            first_chunks: how much of the stream is scored; None: all of it.

        Raises: ValueError when a file is damaged or not the same on all ranks.
        """
        self.rung, self.identity, self.group, self.first_chunks = rung, identity, group, first_chunks
        self.preemption, self.timer, self.started = (
            hooks.preemption,
            CheckpointTimer(hooks.checkpoint_policy),
            time.perf_counter(),
        )
        self.file = directory / _file_name(rung, first_chunks)
        self.chunks: list[ChunkScore] = []
        self.times: list[float] = []
        """Unix seconds at which each chunk was scored."""
        self.tensors: dict[str, Tensor] = {}
        self.spent = self.before = 0.0
        """Seconds of the chunks so far, and those of them that an earlier result reports."""
        for file in saved_files(directory, rung, first_chunks):
            if not self.chunks:
                self._continue_from(file)
        group.check_same(len(self.chunks), f"chunks in {self.file}")

    def _continue_from(self, file: Path) -> None:
        """Takes the file's chunks if they are of this rung."""
        tensors, plain = read_stored(file)
        if plain.get("identity") != self.identity:
            return
        try:
            chunks = list(Scored.of(plain["chunks"]).chunks)
            times = [float(seconds) for seconds in plain["times"]]
            spent, before = float(plain["seconds"]), float(plain["before"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} does not hold chunks and seconds ({error!r}); delete it") from error
        if self.first_chunks is None or len(chunks) <= self.first_chunks:
            self.chunks, self.times, self.tensors = chunks, times, tensors
            self.spent, self.before = spent, before

    @property
    def seconds(self) -> float:
        """Seconds of the rung so far, including those before an interruption."""
        return self.spent + time.perf_counter() - self.started

    def add(self, chunk: ChunkScore) -> None:
        """Adds the next chunk."""
        self.chunks.append(chunk)
        self.times.append(time.time())

    def on_chunk_boundary(self, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Saves if it is time; saves and raises Preempted on all ranks if any is to end.

        Args:
            tensors: returns what is needed to continue from here, beside the chunks.
        """
        preempted = self.group.any(self.preemption())
        if self.group.first and (preempted or self.timer.due):
            self.timer.save(lambda: self._write(tensors(), self.before))
        if preempted:
            self.group.wait()
            raise Preempted(f"stopped after {len(self.chunks)} chunks of {self.rung}, which are saved in {self.file}")

    def finish(self, tensors: Callable[[], dict[str, Tensor]]) -> float:
        """Saves the first chunks, from which the whole rung continues; a whole rung needs no file.

        Returns: the seconds of the rung.
        """
        self.spent, self.started = self.seconds, time.perf_counter()
        if self.first_chunks is not None and self.group.first:
            self._write(tensors(), self.spent)
        return self.spent

    def _write(self, tensors: dict[str, Tensor], before: float) -> None:
        chunks = [[chunk.nll_nats, chunk.num_tokens, chunk.num_bytes] for chunk in self.chunks]
        counts = {"chunks": chunks, "times": self.times}
        plain = {"identity": self.identity, **counts, "seconds": self.seconds, "before": before}
        write_tensors(self.file, tensors, plain)

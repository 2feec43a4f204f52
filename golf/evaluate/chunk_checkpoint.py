"""What a rung of the ladder has scored so far, kept so that nothing of it is measured twice.

Chunks, and for TTT what is needed to go on after them, enter one file in a folder, at borders of chunks: when it is
time, when a notice asks for it, and after the first chunks that trials are screened on. A later call with the same
identity goes on from it, with the same bits as if it had never stopped. Only the first rank writes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from golf.evaluate.sliding import ChunkScore, Scored
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import BEGUN, SCREEN, TENSORS
from golf.runtime.tensors import read_stored, write_tensors
from golf.train.checkpoint_policy import CheckpointPolicy, CheckpointTimer
from golf.train.loop import Preempted, PreemptionCheck, never


class RungLog:
    """The chunks, tensors and seconds of a rung."""

    def __init__(
        self,
        folder: Path,
        rung: str,
        identity: str,
        group: ProcessGroup,
        saving: CheckpointPolicy,
        preemption: PreemptionCheck = never,
        first_chunks: int | None = None,
    ) -> None:
        """Go on from the furthest that `folder` holds of this rung.

        Args: identity: what the figures are the figures of; first_chunks: how much of the stream; None: all.
        Raises: ValueError when a file is damaged or not the same on all ranks.
        """
        self.rung, self.identity, self.group, self.preemption, self.first_chunks = (
            rung,
            identity,
            group,
            preemption,
            first_chunks,
        )
        self.saves, self.started = CheckpointTimer(saving), time.perf_counter()
        screen = folder / f"{rung}{SCREEN}{TENSORS}"
        self.file = folder / f"{rung}{BEGUN}{TENSORS}" if first_chunks is None else screen
        self.chunks: list[ChunkScore] = []
        self.tensors: dict[str, Tensor] = {}
        self.spent = self.before = 0.0
        """Seconds behind the chunks so far; those of them that an earlier result tells."""
        for file in dict.fromkeys((self.file, screen)):
            if file.exists():
                self._go_on_from(file)
        group.check_same(len(self.chunks), f"chunks in {self.file}")

    def _go_on_from(self, file: Path) -> None:
        """Take the file's chunks, if they are of this rung and more than there are."""
        tensors, plain = read_stored(file)
        if plain.get("identity") != self.identity:
            return
        try:
            chunks = list(Scored.of(plain["chunks"]).chunks)
            spent, before = float(plain["seconds"]), float(plain["before"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} does not hold chunks and seconds ({error!r}); delete it") from error
        if len(self.chunks) < len(chunks) and (self.first_chunks is None or len(chunks) <= self.first_chunks):
            self.chunks, self.tensors, self.spent, self.before = chunks, tensors, spent, before

    @property
    def seconds(self) -> float:
        """Seconds of the rung so far, those before an interruption included."""
        return self.spent + time.perf_counter() - self.started

    def note(self, chunk: ChunkScore) -> None:
        """Keep the next chunk."""
        self.chunks.append(chunk)

    def on_chunk_boundary(self, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Between two chunks: save if it is time; save and raise Preempted, on all ranks, if any was told to end.

        Args: tensors: gives what is needed to go on from here, beside the chunks.
        """
        preempted = self.group.any(self.preemption())
        if self.group.first and (preempted or self.saves.due):
            self.saves.save(lambda: self._write(tensors(), self.before))
        if preempted:
            self.group.wait()
            raise Preempted(f"stopped after {len(self.chunks)} chunks of {self.rung}, which are saved in {self.file}")

    def end(self, tensors: Callable[[], dict[str, Tensor]]) -> dict[str, Any]:
        """Keep the first chunks, to go on from; of a whole rung nothing is needed.

        Returns: {"seconds", "seconds_before" (that an earlier result has told already)} and what saving cost.
        """
        self.spent, self.started = self.seconds, time.perf_counter()
        if self.first_chunks is not None and self.group.first:
            self._write(tensors(), self.spent)
        return {"seconds": self.spent, "seconds_before": self.before, **self.saves.facts()}

    def _write(self, tensors: dict[str, Tensor], before: float) -> None:
        chunks = [[chunk.nll_nats, chunk.num_tokens, chunk.num_bytes] for chunk in self.chunks]
        plain = {"identity": self.identity, "chunks": chunks, "seconds": self.seconds, "before": before}
        write_tensors(self.file, tensors, plain)

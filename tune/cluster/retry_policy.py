"""The attempts at one stage: on how many workers the next one runs, and whether there is one.

What the cluster holds and how far the last attempt came enter; a number of workers or the end leaves. A stage is begun
again for as long as it comes further, so that a cluster may lose nodes all night; without progress a cause gets only so
many chances. Knows no Ray.
"""

from collections import Counter
from dataclasses import dataclass

from golf.config.config import MICRO_BATCHES
from tune.workloads.gepa.progress import Progress

SIZES = tuple(size for size in range(MICRO_BATCHES, 0, -1) if MICRO_BATCHES % size == 0)
"""Numbers of workers that divide a step's micro-batches, the largest first: the batches are the same with each."""


@dataclass(frozen=True)
class RetryPolicy:
    """What a stage on workers puts up with."""

    max_failures: int = 2
    """Failures of one cause in a row, none of which came further than the attempt before."""
    patience_seconds: float = 120.0
    """That places for all the workers are waited for before fewer are taken: for a node that is restarted or bought."""
    most_waits: int = 30
    """Times that so long is waited while there is no place at all."""
    timeout_seconds: float = 300.0
    """After which a worker that does not answer the others is given up."""

    def __post_init__(self) -> None:
        if self.max_failures < 0 or self.most_waits < 1:
            raise ValueError(
                f"max_failures must be >= 0 and most_waits >= 1, got {self.max_failures}, {self.most_waits}"
            )
        if min(self.patience_seconds, self.timeout_seconds) <= 0:
            found = f"{self.patience_seconds}, {self.timeout_seconds}"
            raise ValueError(f"patience_seconds and timeout_seconds must be > 0, got {found}")


class RetryState:
    """What became of a trial's attempts so far."""

    def __init__(self, asked: int, retry_policy: RetryPolicy) -> None:
        """Args: asked: workers that are wanted."""
        self.asked, self.retry_policy = asked, retry_policy
        self.last = asked
        """Workers of the last attempt that got its places."""
        self.waits = 0
        self.failures: Counter[str] = Counter()
        self.furthest: Progress = ()

    def begin(self) -> None:
        """Another stage begins; what the cluster gave last is still known."""
        self.waits, self.furthest = 0, ()
        self.failures.clear()

    def size(self, free: int, whole: int) -> int:
        """Workers of the next attempt: all that are wanted, or fewer where nodes were lost and none came in time.

        Args: free: workers that the cluster has places for now; whole: that it would have with nothing else on it.
        """
        # What others hold comes free again; a node that is gone may be back soon, one that was waited for may not.
        if whole >= self.asked or (self.waits == 0 and self.last == self.asked):
            return self.asked
        return next((size for size in SIZES if size <= min(free, self.asked)), self.asked)

    def waited(self) -> bool:
        """The last attempt got no places; whether to go on waiting."""
        self.waits += 1
        return self.waits < self.retry_policy.most_waits

    def failed(self, kind: str, progress: Progress, workers: int) -> bool:
        """The last attempt, on so many workers, ended by a cause of this kind; whether there is another one.

        Args: progress: how far the stage is now; a step further than ever before makes its failures forgotten.
        """
        self.waits, self.last = 0, workers
        if progress > self.furthest:
            self.failures.clear()
            self.furthest = progress
        self.failures[kind] += 1
        return self.failures[kind] <= self.retry_policy.max_failures

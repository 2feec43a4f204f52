"""The attempts at one stage: on how many workers the next one runs, and whether there is one.

A stage is begun again for as long as each attempt comes further than the one before, so that a cluster may lose nodes
all night; without progress a kind of failure gets only so many attempts. Nothing here calls Ray.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tune.records.entries import FailureKind


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

    def __init__(self, asked: int, sizes: Sequence[int], retry_policy: RetryPolicy) -> None:
        """Begins with no attempt.

        Args:
            asked: workers that are wanted.
            sizes: numbers of workers that give the same results, the largest first.
            retry_policy: how many failures are put up with.
        """
        self.asked, self.sizes, self.retry_policy = asked, sizes, retry_policy
        self.last = asked
        """Workers of the last attempt that got its places."""
        self.waits = 0
        self.failures: Counter[FailureKind] = Counter()
        self.furthest: tuple[int, ...] = ()

    def begin(self) -> None:
        """Begins another stage; what the cluster had last is still known."""
        self.waits, self.furthest = 0, ()
        self.failures.clear()

    def size(self, free: int, whole: int) -> int:
        """Returns the workers of the next attempt: all, or fewer where nodes were lost and none came in time.

        Args: free: workers that the cluster has places for now; whole: that it would have with nothing else on it.
        """
        # What others hold comes free again; a node that is gone may be back soon, one that was waited for may not.
        if whole >= self.asked or (self.waits == 0 and self.last == self.asked):
            return self.asked
        return next((size for size in self.sizes if size <= min(free, self.asked)), self.asked)

    def waited(self) -> bool:
        """Counts an attempt that got no places. Returns: whether to go on waiting."""
        self.waits += 1
        return self.waits < self.retry_policy.most_waits

    def failed(self, kind: FailureKind, progress: tuple[int, ...], workers: int) -> bool:
        """Counts an attempt on so many workers that ended by this kind of failure. Returns: whether to make another.

        Args: progress: how far the stage is now; a step further than ever before makes its failures forgotten.
        """
        self.waits, self.last = 0, workers
        if progress > self.furthest:
            self.failures.clear()
            self.furthest = progress
        self.failures[kind] += 1
        return self.failures[kind] <= self.retry_policy.max_failures

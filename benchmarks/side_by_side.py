"""Times things side by side in one run: taken in turns, so that what else the machine does falls on all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from golf.model.compile import activation_dtype

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """What each of them gave and how long it took."""

    results: dict[str, T]
    """Of the last turn."""
    seconds: dict[str, list[float]]
    """One for each turn."""

    def ratio(self, slow: str, fast: str) -> float:
        """The median over the turns of how many times longer `slow` took."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(s / f for s, f in pairs)

    def median(self, name: str) -> float:
        """Median seconds of a turn."""
        return statistics.median(self.seconds[name])


def time_in_turns(work: Mapping[str, Callable[[], T]], turns: int, device: torch.device) -> Timed[T]:
    """Each piece of work once in every turn, in an order that turns around."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    results: dict[str, T] = {}
    for turn in range(turns):
        for name in list(work) if turn % 2 == 0 else list(reversed(list(work))):
            _wait(device)
            began = time.perf_counter()
            results[name] = work[name]()
            _wait(device)
            seconds[name].append(time.perf_counter() - began)
    return Timed(results, seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device) -> float:
    """Operations per second of a large matrix product in the type of the activations."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device).to(activation_dtype(device))
    timed = time_in_turns({"product": lambda: a @ a}, 12, device)
    return 2 * size**3 / min(timed.seconds["product"])

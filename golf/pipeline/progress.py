"""What a run of golf tells on the terminal and in record.json, and how signals stop it."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from golf.config.config import to_plain
from golf.pipeline.stage_context import StageContext
from golf.runtime.results import PackResult, RunResults
from golf.train.loop import Preempted, PreemptionCheck


def size_line(pack: PackResult) -> str:
    """Returns the line of an artifact's bytes."""
    verdict = "fits" if pack.fits else f"over by {pack.over_bytes:,}"
    sizes = f"{pack.artifact_bytes:,} bytes = model {pack.model_bytes:,} + code {pack.code_bytes:,}"
    return f"artifact {sizes} ({verdict})"


def ladder_lines(results: RunResults) -> Iterator[str]:
    """Yields the run's sizes and scores, one line each."""
    yield size_line(results.pack)
    yield f"train      {results.train.seconds:9.1f} s"
    for rung in results.ladder:
        scores = f"{rung.bpb:.6f} BPB  {rung.nats_per_token:.6f} nats/token"
        yield f"{rung.name:10s} {rung.seconds:9.1f} s  {scores}"


def record_values(run: StageContext, results: RunResults) -> dict[str, Any]:
    """Returns the content of record.json: the configuration, the data's digest and the results of all stages."""
    values, pack = to_plain(results), results.pack
    values["pack"] |= {"artifact_bytes": pack.artifact_bytes, "over_bytes": pack.over_bytes, "fits": pack.fits}
    return {"config": to_plain(run.config), "data": run.dataset.digest} | values


class Progress:
    """Prints the progress of a run, at most one line in `every` seconds, on the first rank only."""

    def __init__(self, quiet: bool, every: float = 5.0) -> None:
        self.quiet, self.every, self.printed = quiet, every, -every

    def __call__(self, curve: str, step: int, value: float) -> None:
        """Prints a point of a curve; those of the training are lines of the log."""
        if curve not in ("train_loss", "validation_bpb"):
            self._print(f"{curve:15s} {step:6d} {value:.4f}")

    def line(self, line: str) -> None:
        """Prints a line of the log that has figures of a step."""
        if line.startswith("step:"):
            self._print(line, "val_bpb" in line)

    def _print(self, line: str, always: bool = False) -> None:
        if not self.quiet and (always or time.monotonic() - self.printed >= self.every):
            self.printed = time.monotonic()
            print(line, flush=True)


@contextlib.contextmanager
def preemption_signals(first: bool) -> Iterator[PreemptionCheck]:
    """Takes Ctrl-C and SIGTERM as a preemption within the block; a second Ctrl-C ends it at once.

    Args: first: whether this rank tells the user.
    Yields: the check whether a signal has come.
    Raises: SystemExit with the shell's code of the signal (130, 143), once the state is saved.
    """
    seen: list[int] = []

    def take(number: int, frame: object) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    except Preempted as stop:
        if first:
            print(f"\n{stop}; the same command continues", file=sys.stderr)
        raise SystemExit(128 + (seen or [signal.SIGTERM])[0]) from stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

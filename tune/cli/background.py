"""A watcher of a sweep in a thread of its own, so that what it imports delays no trial."""

import queue
import threading
from collections.abc import Callable

from tune.cluster.sweep import Watcher
from tune.records.entries import TrialEntry
from tune.search.space import Trial

_STEP_SECONDS = 10.0
"""That the first trial's first step is waited for at most."""


class BackgroundWatcher:
    """Passes what happens on to a watcher that is made in a thread of its own when the first trial has done a step."""

    def __init__(self, make: Callable[[], Watcher]) -> None:
        """Args: make: imports what it needs and returns the watcher."""
        self._make = make
        self._events: queue.SimpleQueue[Callable[[Watcher], None] | None] = queue.SimpleQueue()
        self._has_stepped = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="watcher", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        """A trial began."""
        self._events.put(lambda watcher: watcher.started(trial))

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point of a curve."""
        self._events.put(lambda watcher: watcher.point(trial, curve, step, value))
        self._has_stepped.set()

    def ended(self, entry: TrialEntry) -> None:
        """A trial's entry is in the ledger."""
        self._events.put(lambda watcher: watcher.ended(entry))
        self._has_stepped.set()

    def close(self, timeout: float) -> None:
        """Waits until all that happened is passed on, for at most `timeout` seconds. Raises: what `make` raised."""
        self._events.put(None)
        self._has_stepped.set()
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        event = self._events.get()
        if event is None:
            return
        self._has_stepped.wait(_STEP_SECONDS)
        try:
            watcher = self._make()
        except Exception as error:  # of an import or of an address; the trials go on
            self._error = error
            return
        while event is not None:
            event(watcher)
            event = self._events.get()

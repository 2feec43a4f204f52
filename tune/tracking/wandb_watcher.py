"""Weights & Biases beside MLflow: one run for each trial that runs, grouped by its sweep or seed study.

Watching only: what an earlier start finished is not sent again, and nothing is read back. `WANDB_MODE=offline` writes
the runs to a folder, which `wandb sync` sends later.
"""

import hashlib
import importlib.util
import json
import math
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tune.records.entries import TrialEntry, TrialState
from tune.records.redaction import redact
from tune.search.space import Trial
from tune.tracking.metric_names import PROGRESS, metric_name
from tune.tracking.run_fields import config_text, describe, metrics_of, word_of

_STEP = "step"
"""The horizontal axis of every curve: steps of the training, chunks of a stream."""
_WAITING_POINTS = 50_000
"""Most points that wait; later ones are left out."""
_TIMEOUT = 20.0
"""Seconds that a server gets to answer at a run's start and end."""


def check_login() -> None:
    """Raises ValueError where runs cannot be logged: no wandb, or nobody is logged in. Nothing is asked."""
    if importlib.util.find_spec("wandb") is None:
        raise ValueError("--wandb needs the package wandb: pip install wandb")
    if not _is_offline() and not _wandb().api.api_key:
        raise ValueError("--wandb: nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")


def _wandb() -> Any:
    """Returns the module, which is optional and takes a second to import."""
    return importlib.import_module("wandb")


def _is_offline() -> bool:
    wandb = _wandb()
    settings = wandb.setup(wandb.Settings(silent=True)).settings
    return bool(settings.mode != "online")


class WandbWatcher:
    """Shows trials in Weights & Biases while they run, as a watcher of a sweep; a trial that is continued has one run.

    Every method but `close` returns at once.
    """

    def __init__(self, project: str, sweep: str, folder: Path) -> None:
        """Args: project: of Weights & Biases; sweep: whose trials run; folder: under which wandb keeps its files."""
        self._project, self._sweep, self._folder = project, sweep, folder
        self._runs: dict[str, Any] = {}
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb-watcher", daemon=True)
        self._thread.start()
        self.problem: str | None = None
        """One line for the user when something was not taken, else None."""

    def started(self, trial: Trial) -> None:
        """Opens a trial's run, in which it goes on if it has one."""
        self._queue.put(partial(self._start, trial))

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Adds a point to a curve; one that is not finite is left out."""
        if curve not in PROGRESS and math.isfinite(value) and self._queue.qsize() < _WAITING_POINTS:
            self._queue.put(partial(self._add, trial.trial, {metric_name(curve): value, _STEP: step}))

    def ended(self, entry: TrialEntry) -> None:
        """Completes a trial's run with its ledger entry."""
        self._queue.put(partial(self._finish, entry))

    def close(self, timeout: float) -> None:
        """Sends what waits, for at most `timeout` seconds. Runs of trials that did not end are marked as preempted."""
        self._queue.put(self._leave)
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.problem = f"Weights & Biases: not done after {timeout:g} s"

    def _work(self) -> None:
        """Runs what waits; whatever wandb raises is noted, for the trials do not depend on it."""
        while (act := self._queue.get()) is not None:
            try:
                act()
            except Exception as error:
                self.problem = redact(f"Weights & Biases: {type(error).__name__}: {error}".splitlines()[0])

    def _start(self, trial: Trial) -> None:
        wandb = _wandb()
        self._folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = json.loads(config_text(trial.config))
        run = wandb.init(
            project=self._project,
            group=self._sweep,
            name=trial.name,
            id=hashlib.sha256(f"{self._sweep}/{trial.trial}".encode()).hexdigest()[:16],
            config=config | {"trial": trial.trial, "searched": ", ".join(trial.parameters)},
            dir=str(self._folder),
            resume=None if _is_offline() else "allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                x_disable_stats=True,
                init_timeout=_TIMEOUT,
                finish_timeout=_TIMEOUT,
                x_graphql_retry_max=3,
                x_graphql_retry_wait_max_seconds=2,
                x_graphql_timeout_seconds=10,
            ),
        )
        run.define_metric("*", step_metric=_STEP)
        self._runs[trial.trial] = run

    def _add(self, trial: str, values: dict[str, float]) -> None:
        if trial in self._runs:
            self._runs[trial].log(values)

    def _finish(self, entry: TrialEntry) -> None:
        run = self._runs.pop(entry.trial, None)
        if run is None:
            return
        run.summary.update({**metrics_of(entry), "state": word_of(entry)})
        run.notes = redact(describe(entry))
        run.finish(exit_code=int(entry.state == TrialState.FAILED))

    def _leave(self) -> None:
        while self._runs:
            run = self._runs.popitem()[1]
            run.mark_preempting()
            run.finish(exit_code=1)

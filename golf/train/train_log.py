"""The curves, log lines, seconds and saved states of a training in progress.

Only the first rank writes; the others read the same files.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import STATE
from golf.train.checkpoint_policy import CheckpointTimer
from golf.train.hooks import Hooks
from golf.train.loop import Preempted
from golf.train.run_log import machine_lines, step_line, utc_now
from golf.train.train_state import TrainState

CURVES_FILE = "curves.json"


class TrainingLog:
    """What a training reports and saves."""

    def __init__(
        self,
        state: TrainState,
        identity_at: Callable[[int], dict[str, Any]],
        directory: Path,
        group: ProcessGroup,
        hooks: Hooks,
        steps: int,
        start: Path | None = None,
    ) -> None:
        """Continues from the state in the run's directory, else from the one in `start`, if there is one.

        Args:
            state: the state to save; it is loaded from where the training continues.
            identity_at: returns what the state after a number of steps depends on.
            directory: the run's.
            group: the ranks.
            hooks: the caller's; the lines before an interruption are logged again, first.
            steps: steps of the whole training.
            start: directory of another run's state.

        Raises: ValueError when the state is damaged, of another run or not the same on all ranks.
        """
        self.state, self.identity_at, self.directory, self.group = state, identity_at, directory, group
        self.timer, self.before, self.started = CheckpointTimer(hooks.checkpoint_policy), 0.0, time.perf_counter()
        self.steps, self.hooks, self.lines = steps, hooks, list[str]()
        self.curves: dict[str, list[list[float]]] = {"train_loss": [], "validation_bpb": []}
        begin = directory if (directory / STATE).exists() else start
        if begin is not None:
            state.load(begin / STATE, identity_at)
            stored = read_json(begin / CURVES_FILE)
            self.before = stored.pop("seconds")[0][2]
            self.lines = [self._line_now(line) for line in stored.pop("log", []) if _step_of(line) <= state.step]
            # A kill between the two files leaves the curves a little longer than the state.
            last = {"train_loss": state.step - 1, "validation_bpb": state.step}
            self.curves = {name: [p for p in points if p[0] <= last[name]] for name, points in stored.items()}
        for line in self.lines:
            hooks.log(line)
        self.add_lines(f"{'continued' if state.step else 'started'}: {utc_now()}", *machine_lines(group))
        group.check_same(state.step, f"steps of the state in {begin or directory}")

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before an interruption."""
        return self.before + time.perf_counter() - self.started

    def has(self, curve: str, step: int) -> bool:
        """Returns whether the last point of a curve is that of `step`."""
        return bool(self.curves[curve]) and self.curves[curve][-1][0] == step

    def add_point(self, curve: str, step: int, value: float) -> None:
        """Adds a point with its time to a curve and reports it."""
        self.curves[curve].append([step, time.time(), value])
        self.hooks.event(curve, step, value)

    def add_lines(self, *lines: str) -> None:
        """Adds lines to the log and reports them."""
        for line in lines:
            self.lines.append(line)
            self.hooks.log(line)

    def add_step_line(self, step: int, **values: float) -> None:
        """Adds the line of figures after so many steps to the log."""
        self.add_lines(step_line(step, self.steps, self.seconds, **values))

    def _line_now(self, line: str) -> str:
        """Returns a line that a training of another length may have logged, with the length of this one."""
        return re.sub(r"^(step:\d+)/\d+", rf"\1/{self.steps}", line)

    def save_when_due(self) -> None:
        """Saves into the run's directory if it is time."""
        if self.group.first and self.timer.due:
            self.timer.save(lambda: self.save(self.directory))

    def stop_when(self, preempted: bool) -> None:
        """Saves and raises Preempted if `preempted`, which is the same on all ranks."""
        if preempted:
            if self.group.first:
                self.timer.save(lambda: self.save(self.directory))
            self.group.wait()
            raise Preempted(f"stopped after {self.state.step} steps, which are saved in {self.directory / STATE}")

    def save(self, directory: Path) -> None:
        """Writes the curves, then the state, into a directory."""
        if self.group.first:
            spent = [self.state.step - 1, time.time(), self.seconds]
            write_json(directory / CURVES_FILE, self.curves | {"seconds": [spent], "log": self.lines})
            self.state.save(directory / STATE, self.identity_at(self.state.step))


def _step_of(line: str) -> int:
    """Returns the number of steps in a line of the log; 0 where it has none."""
    match = re.match(r"step:(\d+)/", line)
    return int(match[1]) if match else 0

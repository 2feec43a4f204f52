"""A training's curves, time and saved states on their way to the run's folder.

A state and a folder enter; the state goes on from what the folder holds, and is saved there when it is time or when a
notice asks for it. Only the first rank writes; the others read the same files.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import STATE
from golf.train.checkpoint_policy import CheckpointPolicy, CheckpointTimer
from golf.train.loop import Preempted
from golf.train.run_log import Say, machine_lines, step_line, unsaid, utc_now
from golf.train.train_state import TrainState

CURVES_FILE = "curves.json"


class TrainingLog:
    """What a training tells and leaves behind."""

    def __init__(
        self,
        state: TrainState,
        identity_at: Callable[[int], dict[str, Any]],
        folder: Path,
        group: ProcessGroup,
        event: Callable[[str, int, float], None],
        saving: CheckpointPolicy,
        start: Path | None = None,
        steps: int = 1,
        say: Say = unsaid,
    ) -> None:
        """Go on from the state in the run's folder, else from the one in `start`, if there is one.

        Args: steps: of the whole training; say: takes the lines of the log, those before an interruption first.
        Raises: ValueError when the state is damaged, of another run or not the same on all ranks.
        """
        self.state, self.identity_at, self.folder, self.group, self.event = state, identity_at, folder, group, event
        self.saves, self.before, self.started = CheckpointTimer(saving), 0.0, time.perf_counter()
        self.steps, self.say, self.lines = steps, say, list[str]()
        self.curves: dict[str, list[list[float]]] = {"train_loss": [], "validation_bpb": []}
        begin = folder if (folder / STATE).exists() else start
        if begin is not None:
            state.load(begin / STATE, identity_at)
            stored = read_json(begin / CURVES_FILE)
            self.before = stored.pop("seconds")[0][2]
            self.lines = [self._line_now(line) for line in stored.pop("log", []) if _step_of(line) <= state.step]
            # A kill between the two files leaves the curves a little longer than the state.
            last = {"train_loss": state.step - 1, "validation_bpb": state.step}
            self.curves = {name: [p for p in points if p[0] <= last[name]] for name, points in stored.items()}
        for line in self.lines:
            say(line)
        self.tell(f"{'continued' if state.step else 'started'}: {utc_now()}", *machine_lines(group))
        group.check_same(state.step, f"steps of the state in {begin or folder}")

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.before + time.perf_counter() - self.started

    def has(self, curve: str, step: int) -> bool:
        """Whether the last point of a curve is that of `step`."""
        return bool(self.curves[curve]) and self.curves[curve][-1][0] == step

    def note(self, curve: str, step: int, value: float) -> None:
        """Keep and tell a point."""
        self.curves[curve].append([step, time.time(), value])
        self.event(curve, step, value)

    def tell(self, *lines: str) -> None:
        """Keep lines of the log and say them."""
        for line in lines:
            self.lines.append(line)
            self.say(line)

    def tell_step(self, step: int, **values: float) -> None:
        """Keep and say figures after so many steps."""
        self.tell(step_line(step, self.steps, self.seconds, **values))

    def _line_now(self, line: str) -> str:
        """A line of the log, which another training of other length may have begun."""
        return re.sub(r"^(step:\d+)/\d+", rf"\1/{self.steps}", line)

    def save_when_due(self) -> None:
        """Save into the run's folder if it is time."""
        if self.group.first and self.saves.due:
            self.saves.save(lambda: self.save(self.folder))

    def stop_when(self, preempted: bool) -> None:
        """Save and raise Preempted, on all ranks alike, if any was told to end."""
        if preempted:
            if self.group.first:
                self.saves.save(lambda: self.save(self.folder))
            self.group.wait()
            raise Preempted(f"stopped after {self.state.step} steps, which are saved in {self.folder / STATE}")

    def save(self, place: Path) -> None:
        """Write the curves, then the state, into the folder `place`."""
        if self.group.first:
            spent = [self.state.step - 1, time.time(), self.seconds]
            write_json(place / CURVES_FILE, self.curves | {"seconds": [spent], "log": self.lines})
            self.state.save(place / STATE, self.identity_at(self.state.step))


def _step_of(line: str) -> int:
    """The steps behind a line of the log; 0 where it does not tell."""
    found = re.match(r"step:(\d+)/", line)
    return int(found[1]) if found else 0

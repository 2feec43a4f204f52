"""The smallest workload: a quadratic with noise, which runs as a whole."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from golf.runtime.results import digest
from golf.train.loop import Preempted
from tune.records.entries import Outcome, Series, TrialState, WorldShape
from tune.search.space import Point, Trial, point_name
from tune.workloads.base import RankContext
from tune.workloads.opaque import OpaqueWorkload


@dataclass(frozen=True)
class Quadratic(OpaqueWorkload):
    """(x - 3)**2 + 1 with noise of the seed."""

    world: WorldShape
    name, preset, data, dataset, code = "quadratic", "toy", "none", "none", "0" * 64

    def trial(self, point: Point) -> Trial:
        if not isinstance(point.get("x", 0), (int, float)):
            raise ValueError(f"x must be a number, got {point['x']!r}")
        config = {"x": 0, "seed": 42, **point}
        return Trial(trial=digest(config)[:12], parameters=dict(point), name=point_name(point), config=config)

    def compute(self, trial: Trial, directory: Path, context: RankContext) -> tuple[Outcome, Series]:
        noise = random.Random(trial.config["seed"]).gauss(0, 0.01)
        points = [(step, time.time(), (trial.config["x"] - 3) ** 2 + 1 + noise / step) for step in (1, 2, 4)]
        for step, _, value in points:
            context.report("loss", step, value)
        return Outcome(state=TrialState.DONE, bpb=points[-1][2]), Series({"loss": points})


@dataclass(frozen=True)
class Counting(Quadratic):
    """Counts to `x` in a file, ten a second, and goes on where it was stopped."""

    name = "counting"

    def compute(self, trial: Trial, directory: Path, context: RankContext) -> tuple[Outcome, Series]:
        counted = directory / "counted.txt"
        with (directory / "starts.txt").open("a") as starts:
            starts.write(f"{counted.read_text() if counted.exists() else 0} ")
        while (number := int(counted.read_text()) if counted.exists() else 0) < trial.config["x"]:
            counted.write_text(str(number + 1))
            time.sleep(0.1)
            if context.preemption():
                raise Preempted(f"counted to {number + 1}")
        return Outcome(state=TrialState.DONE, bpb=float(number)), Series()

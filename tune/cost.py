"""What a trial would still cost, given what has been computed: for a search that looks at gain per second.

Trials and ledger entries enter, seconds leave. A stage that an earlier trial of this sweep wants, or that the store
holds, costs nothing; seconds of the others are estimated from those already seen. Changes no result, only the order.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from golf.record import LADDER
from tune.space import Trial
from tune.stages import TrialStages

Stages = Callable[[Trial], TrialStages]
"""The stages of a trial."""


class Costs:
    """Marginal seconds of trials."""

    def __init__(self, stages: Stages, stored: Callable[[str], bool] = lambda key: False) -> None:
        """Args: stages: the keys of a trial's stages; stored: whether the store holds a key."""
        self._stages, self._stored = stages, stored
        self._wanted: set[str] = set()
        self._seen: dict[str, list[float]] = {}

    def take(self, trial: Trial) -> None:
        """Count the stages of a trial that was given out as computed."""
        self._wanted |= set(self._stages(trial).keys)

    def learn(self, entry: Mapping[str, Any]) -> None:
        """Take the seconds of a ledger entry as those of later trials."""
        metrics, steps = entry["metrics"], entry["config"]["schedule"]["steps"]
        for stage in ("pack", *LADDER):
            if f"{stage}_seconds" in metrics:
                self._seen.setdefault(stage, []).append(metrics[f"{stage}_seconds"])
        if "train_seconds" in metrics:
            self._seen.setdefault("step", []).append(metrics["train_seconds"] / steps)

    def seconds(self, trial: Trial) -> float:
        """Seconds of the stages that are still to compute; before anything was seen, a step counts as one."""
        stages, rate = self._stages(trial), {stage: statistics.median(seen) for stage, seen in self._seen.items()}
        chain = [(one.steps, self._known(one.key)) for one in stages.training]
        trained = max((steps for steps, known in chain if known), default=0)
        total = (chain[-1][0] - trained) * rate.get("step", 1.0)
        return total + sum(rate.get(one.name, 0.0) for one in (stages.pack, *stages.rungs) if not self._known(one.key))

    def _known(self, key: str) -> bool:
        return key in self._wanted or self._stored(key)

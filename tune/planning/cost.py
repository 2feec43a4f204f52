"""What a trial would still cost, given what has been computed: for a search that looks at gain per second.

Trials and ledger entries enter, seconds leave. A stage that an earlier trial of this sweep wants, or that the store
holds, costs nothing; seconds of the others are estimated from those already seen. Changes no result, only the order.
"""

from collections.abc import Callable, Mapping
from typing import Any

from golf.config.config import to_plain
from tune.planning.stage_timings import StageTimings
from tune.search.space import Trial
from tune.workloads.gepa.stages import GepaStages

Stages = Callable[[Trial], GepaStages]
"""The stages of a trial."""


class Costs:
    """Marginal seconds of trials."""

    def __init__(self, stages: Stages, pace: StageTimings, stored: Callable[[str], bool] = lambda key: False) -> None:
        """Args: stages: the keys of a trial's stages; pace: their seconds; stored: whether the store holds a key."""
        self._stages, self._pace, self._stored = stages, pace, stored
        self._wanted: set[str] = set()

    def take(self, trial: Trial) -> None:
        """Count the stages of a trial that was given out as computed."""
        self._wanted |= set(self._stages(trial).keys)

    def learn(self, entry: Mapping[str, Any]) -> None:
        """Take the seconds of a ledger entry as those of later trials."""
        self._pace.learn(entry)

    def seconds(self, trial: Trial) -> float:
        """Seconds of the stages that are still to compute; before anything was seen, a step counts as one."""
        stages, plain = self._stages(trial), to_plain(trial.config)
        trained = max((one.steps for one in stages.training if self._known(one.key)), default=0)
        step = self._pace.step(plain)
        total = (stages.training[-1].steps - trained) * (1.0 if step is None else step)
        missing = (str(one.name) for one in (stages.pack, *stages.rungs) if not self._known(one.key))
        return total + sum(self._pace.stage(name, plain) or 0.0 for name in missing)

    def _known(self, key: str) -> bool:
        return key in self._wanted or self._stored(key)

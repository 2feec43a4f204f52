"""The stages of a trial that shares nothing: the methods of `CachedStageRunner` without a store."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tune.cache.stage_graph import StageOutput


class UncachedStageRunner:
    """Computes every stage in the trial's own directory; a stage that is complete there is not computed again."""

    def __init__(self, directory: Path, seconds_of: Callable[[Path, StageOutput], float]) -> None:
        """Args: directory: the trial's; seconds_of: reads the seconds behind an output from its files."""
        self.directory, self._seconds_of = directory, seconds_of
        self.computed: dict[str, float] = {}
        """Output -> seconds that it took."""

    def obtain(
        self,
        outputs: Sequence[StageOutput],
        compute: Callable[[Sequence[StageOutput]], None],
        with_weights: bool = False,
    ) -> None:
        """Has the outputs in the trial's directory; `compute` goes on from what is there."""
        compute(outputs)
        self.computed |= {str(output.name): self._seconds_of(self.directory, output) for output in outputs}

    def train(
        self,
        chain: Sequence[StageOutput],
        train: Callable[[Path | None, Mapping[int, Path]], None],
        with_weights: bool = False,
    ) -> None:
        """Has the trained weights in the trial's directory; states on the way are not kept."""
        trained = chain[-1]
        if not (self.directory / trained.files[-1]).exists():
            train(None, {})
        self.computed[str(trained.name)] = self._seconds_of(self.directory, trained)

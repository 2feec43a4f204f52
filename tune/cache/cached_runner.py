"""Runs a trial's stages through the store: fetches what is stored; claims, computes and publishes what is missing.

Of many trials that need one output exactly one computes it, and the others wait. A training publishes the state at a
branch point as soon as it has passed it, so that nobody waits for the rest of the training. The right to compute is
claimed here, in the trial's driver, never by training ranks.
"""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tune.cache.entries import Damaged
from tune.cache.entry import EntryRecord
from tune.cache.lease import Lease
from tune.cache.stage_graph import StageGraph, StageOutput
from tune.cache.store import Store
from tune.cache.world_history import read_world_history, write_world_history

Compute = Callable[[Sequence[StageOutput]], None]
"""Computes outputs: afterwards their files are in the trial's directory."""
Train = Callable[[Path | None, Mapping[int, Path]], None]
"""Trains from the state in a directory (None: from the beginning) to the end, and writes the state after so many steps
to the directory that is given for it."""
SecondsOf = Callable[[Path, StageOutput], float]
"""(trial's directory, output in it) -> seconds of computing; for a state of a training, all since its first step."""
_POLL_SECONDS = 0.5
"""Time between two looks for what a stage has left on its way."""


class CachedStageRunner:
    """The stages of one trial, shared with other trials through a store."""

    def __init__(self, store: Store, directory: Path, trial: str, seconds_of: SecondsOf) -> None:
        """Args: directory: the trial's; trial: its id, which the records name."""
        self.store, self.directory, self.trial, self.seconds_of = store, directory, trial, seconds_of
        self.computed: dict[str, float] = {}
        """Seconds of what was computed here, by the output's name."""
        self.waited_seconds = 0.0
        """Seconds that were spent waiting for what other trials compute."""
        self._present: dict[str, set[str]] = {}
        """Files of published outputs that are in the directory, by key."""

    def obtain(self, outputs: Sequence[StageOutput], compute: Compute, with_weights: bool = False) -> None:
        """Fetches or computes outputs that do not depend on each other.

        Args: compute: is called for those that no other trial computes; with_weights: whether all files are needed;
            else only the results (JSON) of what is stored are fetched.
        """
        acquirers = {output.key: self.store.acquirer(output.key) for output in outputs}
        missing = list(outputs)
        while missing := [output for output in missing if not self._fetch(output, with_weights)]:
            claimed = {key: lease for key in (output.key for output in missing) if (lease := acquirers[key].attempt())}
            with _HeldLeases(claimed) as leases:
                # Another may have published an output between the look and the claim.
                own = [output for output in missing if output.key in claimed and self.store.find(output.key) is None]
                if own:
                    # Each is published as soon as it is there; what an earlier start left may be computed again.
                    new = [output for output in own[:-1] if not (self.directory / output.files[-1]).exists()]
                    with self._publishing(new, lambda output: self._finish(output, leases)):
                        compute(own)
                for output in own:
                    if output.key in leases.leases:
                        self._finish(output, leases)
            if not claimed:
                self._wait()

    def train(self, chain: Sequence[StageOutput], train: Train, with_weights: bool = False) -> None:
        """Fetches the last output of a chain of training states, or trains from the longest prefix that is stored.

        Args: chain: states on the way, each trained on from the one before, and last the trained weights; with_weights:
            as in `obtain`.
        """
        acquirers = {output.key: self.store.acquirer(output.key) for output in chain}
        while not self._fetch(chain[-1], with_weights):
            stored = max((n for n, output in enumerate(chain) if self.store.find(output.key) is not None), default=-1)
            missing, claimed = chain[stored + 1 :], dict[str, Lease]()
            # All are looked at first: one that is claimed in vain would be given up and claimed again at every look.
            free = [acquirers[output.key].is_free() for output in missing]
            if all(free):
                for output in missing:
                    lease = acquirers[output.key].attempt()
                    if lease is None:
                        break
                    claimed[output.key] = lease
            with _HeldLeases(claimed) as leases:
                # Another may have published a part between the look and the claim.
                if len(claimed) == len(missing) > 0 and not any(self.store.find(output.key) for output in missing):
                    start = chain[stored] if stored >= 0 else None
                    if start is None or self._fetch(start, with_weights=True):
                        self._train(missing, start, train, leases)
                        break
            self._wait()
        for output in chain[:-1]:
            shutil.rmtree(self.directory / str(output.name), ignore_errors=True)
            self._present.pop(output.key, None)

    def _train(
        self, missing: Sequence[StageOutput], start: StageOutput | None, train: Train, leases: "_HeldLeases"
    ) -> None:
        """Trains and publishes every state on the way as soon as it is there."""
        spent = 0.0 if start is None else self.seconds_of(self.directory, start)

        def publish(output: StageOutput) -> None:
            nonlocal spent
            spent = self._finish(output, leases, spent)

        with self._publishing(missing[:-1], publish):
            train(
                None if start is None else self.directory / str(start.name),
                {output.steps: self.directory / str(output.name) for output in missing[:-1]},
            )
        self._finish(missing[-1], leases, spent)

    @contextmanager
    def _publishing(self, outputs: Sequence[StageOutput], publish: Callable[[StageOutput], object]) -> Iterator[None]:
        """Publishes outputs that are computed within the block, one after the other, each as soon as it is there."""
        waiting, ended = list(outputs), threading.Event()

        def publish_passed() -> None:
            while waiting:
                last_look = ended.is_set()
                while waiting and (self.directory / waiting[0].files[-1]).exists():
                    try:
                        publish(waiting[0])
                    except OSError as error:  # the stage itself goes on; its end meets the same fault, or none
                        self.store.warn(f"{waiting[0].name} is not shared: {error}")
                    del waiting[0]
                if last_look:
                    return
                ended.wait(_POLL_SECONDS)

        publisher = threading.Thread(target=publish_passed, name="publisher", daemon=True)
        publisher.start()
        try:
            yield
        finally:
            ended.set()
            publisher.join()

    def _wait(self) -> None:
        """Waits a moment for what another trial computes."""
        time.sleep(self.store.lease_config.poll_seconds)
        self.waited_seconds += self.store.lease_config.poll_seconds

    def _fetch(self, output: StageOutput, with_weights: bool) -> bool:
        """Returns whether the output's files are in the trial's directory, where stored ones are copied to."""
        names, present = set(output.files if with_weights else output.results), self._present.get(output.key)
        if present is not None and names <= present:
            return True
        entry = self.store.find(output.key)
        if entry is None:
            return False
        try:
            # What an earlier start left in the directory may be another computation's than what is published.
            self.store.fetch(entry, self.directory, sorted(names - (present or set())))
        except Damaged:
            return False
        self._present[output.key] = names | (present or set())
        write_world_history(self.directory, str(output.name), entry.record.world_history)
        return True

    def _finish(self, output: StageOutput, leases: "_HeldLeases", seconds_before: float = 0.0) -> float:
        """Publishes an output that was computed here; returns the seconds behind it, `seconds_before` included."""
        seconds = self.seconds_of(self.directory, output)
        turns = read_world_history(self.directory, str(output.name))
        record = EntryRecord(
            stage=output.name,
            seconds=seconds - seconds_before,
            parents=output.parents,
            trial=self.trial,
            host=socket.gethostname(),
            time=time.time(),
            # Of a state on the way, the turns that began before it.
            world_history=tuple(turn for turn in turns if turn.first < output.steps or not output.steps),
        )
        entry = self.store.publish(output.key, self.directory, output.files, record)
        if entry.record == record:  # else another was first, and its files are those of the entry
            self._present[output.key] = set(output.files)
        leases.release(output.key)
        self.computed[str(output.name)] = seconds - seconds_before
        return seconds


class UncachedStageRunner:
    """The methods of `CachedStageRunner` without a store: every stage is computed in the trial's own directory, where
    one that is complete is not computed again.
    """

    def __init__(self, directory: Path, seconds_of: SecondsOf) -> None:
        """Args: directory: the trial's."""
        self.directory, self._seconds_of = directory, seconds_of
        self.computed: dict[str, float] = {}
        """Output -> seconds that it took."""

    def obtain(self, outputs: Sequence[StageOutput], compute: Compute, with_weights: bool = False) -> None:
        """Has the outputs in the trial's directory; `compute` goes on from what is there."""
        missing = [output for output in outputs if str(output.name) not in self.computed]
        if missing:
            compute(missing)
        self.computed |= {str(output.name): self._seconds_of(self.directory, output) for output in missing}

    def train(self, chain: Sequence[StageOutput], train: Train, with_weights: bool = False) -> None:
        """Has the trained weights in the trial's directory; states on the way are not kept."""
        trained = chain[-1]
        if not (self.directory / trained.files[-1]).exists():
            train(None, {})
        self.computed[str(trained.name)] = self._seconds_of(self.directory, trained)


class _HeldLeases:
    """Leases that end one after the other; those that are left at the end are given up for others."""

    def __init__(self, leases: Mapping[str, Lease]) -> None:
        self.leases = dict(leases)

    def __enter__(self) -> "_HeldLeases":
        for lease in self.leases.values():
            lease.__enter__()
        return self

    def release(self, key: str) -> None:
        """Ends the lease of a key whose output is published."""
        self.leases.pop(key).__exit__(None, None, None)

    def __exit__(self, *_: object) -> None:
        for lease in self.leases.values():
            lease.__exit__(InterruptedError, None, None)


StageRunner = CachedStageRunner | UncachedStageRunner


@contextmanager
def stage_runner(
    store: Store | None, directory: Path, trial: str, stages: StageGraph, seconds_of: SecondsOf
) -> Iterator[StageRunner]:
    """Yields what computes a trial's stages: through a store, where what it needs is kept for the block, or alone."""
    if store is None:
        yield UncachedStageRunner(directory, seconds_of)
        return
    store.pin(stages.needed(lambda key: store.find(key) is not None), trial)
    try:
        yield CachedStageRunner(store, directory, trial, seconds_of)
    finally:
        store.unpin(trial)

"""A trial's stages through the store: what is there is fetched, what is missing is claimed, computed and published.

Wanted results enter, their numbers stand in the trial's folder afterwards, and weights where a stage that reads them
has to be computed. Of many trials that want one result exactly one computes it; the others wait. A training publishes
the state at a branch point as soon as it has passed it, so that nobody waits for the rest of it. The right to compute
is claimed here, in the trial's driver, never by training ranks.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.runtime.files import read_json
from golf.runtime.results import STATE
from tune.cache.entries import Damaged, Entry
from tune.cache.lease import Lease, LeaseAcquirer
from tune.cache.stage_graph import StageOutput
from tune.cache.store import INTERIOR, Store
from tune.cache.world_history import read_world_history, write_world_history

Compute = Callable[[Sequence[StageOutput]], None]
"""Leaves the files of the wanted results in the trial's folder."""
Train = Callable[[Path | None, Mapping[int, Path]], None]
"""(folder of the state to start from, steps -> folders that get the state there): leaves "train" in the folder."""
_GLANCE_SECONDS = 0.5
"""Between two looks for a state that a training has passed."""


class CachedStageRunner:
    """The stages of one trial, shared with others through a store."""

    def __init__(self, store: Store, folder: Path, trial: str) -> None:
        """Args: folder: the trial's; trial: its name, under which its keys are pinned."""
        self.store, self.folder, self.trial = store, folder, trial
        self.computed: dict[str, float] = {}
        """Seconds of what was computed here, by the result's name."""
        self._here: dict[str, set[str]] = {}
        """Files of published results that stand in the folder, by key."""

    def obtain(self, wanted: Sequence[StageOutput], compute: Compute, whole: bool = False) -> None:
        """Have the results of all `wanted`, which do not depend on each other, in the trial's folder.

        Args: whole: whether all their files are needed.
        """
        claimers = {one.key: self._claimer(one) for one in wanted}
        missing = list(wanted)
        while missing:
            missing = [one for one in missing if not self._fetch(one, whole)]
            leases = {one.key: lease for one in missing if (lease := claimers[one.key].attempt()) is not None}
            mine = [one for one in missing if one.key in leases]
            if mine:
                with _Held(leases) as held:
                    mine = [one for one in mine if self.store.find(one.key) is None]
                    if mine:
                        compute(mine)
                    for one in mine:
                        result = read_json(self.folder / one.files[-1])["result"]
                        seconds = float(result["seconds"]) - float(result.get("seconds_before", 0.0))
                        self._publish(one, seconds)
                        held.done(one.key)
                        self.computed[one.name] = seconds
            elif missing:
                time.sleep(self.store.lease_config.poll_seconds)

    def train(self, chain: Sequence[StageOutput], train: Train, whole: bool = False) -> None:
        """Have a training's results in the trial's folder, from the longest prefix that anyone has computed.

        Args: whole: whether the weights are needed.
        """
        claimers = {one.key: self._claimer(one) for one in chain}
        while not self._fetch(chain[-1], whole):
            stored = max((n for n, one in enumerate(chain) if self.store.find(one.key) is not None), default=-1)
            leases: dict[str, Lease] = {}
            for one in chain[stored + 1 :]:
                lease = claimers[one.key].attempt()
                if lease is None:
                    break
                leases[one.key] = lease
            mine = [one for one in chain if one.key in leases]
            with _Held(leases) as held:
                # Another may have published a part between the look and the claim.
                claimed_all = len(mine) == len(chain) - stored - 1
                if mine and claimed_all and not any(self.store.find(one.key) for one in mine):
                    start = self._start(chain[stored]) if stored >= 0 else None
                    if stored < 0 or start is not None:
                        self._train(mine, start, train, held)
                        return
            time.sleep(self.store.lease_config.poll_seconds)
        # Of a training that another went on with.
        (self.folder / STATE).unlink(missing_ok=True)

    def _start(self, prefix: StageOutput) -> Path | None:
        """The folder of a stored state, fetched; None when it proved damaged or is gone."""
        return self.folder / prefix.name if self._fetch(prefix, whole=True) else None

    def _train(self, mine: Sequence[StageOutput], start: Path | None, train: Train, held: "_Held") -> None:
        """Train and publish every state on the way as soon as it is there."""
        before = _seconds_at(start) if start is not None else 0.0
        waiting = [one for one in mine if one.interior]
        ended = threading.Event()

        def publish_passed() -> None:
            spent = before
            while waiting:
                last = ended.is_set()
                while waiting and (self.folder / waiting[0].name / STATE).exists():
                    one = waiting.pop(0)
                    seconds = _seconds_at(self.folder / one.name)
                    self._publish(one, seconds - spent)
                    self.computed[one.name] = seconds - spent
                    spent = seconds
                    held.done(one.key)
                if last:
                    return
                ended.wait(_GLANCE_SECONDS)

        publisher = threading.Thread(target=publish_passed, name="publisher", daemon=True)
        publisher.start()
        try:
            train(start, {one.steps: self.folder / one.name for one in mine if one.interior})
        finally:
            ended.set()
            publisher.join()
        total = float(read_json(self.folder / "train.json")["result"]["seconds"])
        rest = total - before - sum(self.computed.get(one.name, 0.0) for one in mine)
        self._publish(mine[-1], rest)
        held.done(mine[-1].key)
        self.computed[mine[-1].name] = rest
        for folder in self.folder.glob("prefix-*"):
            shutil.rmtree(folder)

    def _claimer(self, one: StageOutput) -> LeaseAcquirer:
        return LeaseAcquirer(self.store.place, one.key, self.store.lease_config, self.store.say)

    def _fetch(self, one: StageOutput, whole: bool) -> bool:
        """Whether the result is stored, and in the trial's folder now."""
        entry = self.store.find(one.key)
        if entry is None:
            return False
        names = set(one.files if whole else one.results)
        try:
            # What an earlier start left in the folder may be another computation's than what is published.
            self.store.fetch(entry, self.folder, sorted(names - self._here.get(one.key, set())))
        except Damaged:
            return False
        self._here.setdefault(one.key, set()).update(names)
        write_world_history(self.folder, one.name, entry.record.get("ranks", []))
        return True

    def _publish(self, one: StageOutput, seconds: float) -> Entry:
        """Let the result appear in the store, whole."""
        staging = Path(tempfile.mkdtemp(dir=self.folder, prefix=".publish-"))
        try:
            for name in one.files:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(self.folder / name, staging / name)
            record: dict[str, Any] = {"stage": one.name, "parents": list(one.parents), "seconds": seconds}
            record |= {"trial": self.trial, "time": time.time()} | ({"kind": INTERIOR} if one.interior else {})
            turns = read_world_history(self.folder, one.name)
            record |= {"ranks": [turn for turn in turns if turn[1] < one.steps or not one.steps]} if turns else {}
            entry = self.store.publish(one.key, staging, record, move=True)
            if entry.record == record:  # else another was first, and its files are the ones
                self._here[one.key] = set(one.files)
            return entry
        finally:
            shutil.rmtree(staging, ignore_errors=True)


class _Held:
    """Leases that end one by one; what is left is given up for others."""

    def __init__(self, leases: Mapping[str, Lease]) -> None:
        self.leases = dict(leases)

    def __enter__(self) -> "_Held":
        for lease in self.leases.values():
            lease.__enter__()
        return self

    def done(self, key: str) -> None:
        """The result of `key` is published."""
        self.leases.pop(key).__exit__(None, None, None)

    def __exit__(self, *_: object) -> None:
        for lease in self.leases.values():
            lease.__exit__(InterruptedError, None, None)


def _seconds_at(folder: Path) -> float:
    """Seconds of training behind the state in `folder`."""
    return float(read_json(folder / "curves.json")["seconds"][0][2])

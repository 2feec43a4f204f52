"""Ray and MLflow around the runs of a command, where any are left to be run."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from golf.cli.start import imported
from golf.cli.terminal import python_line
from tune.cli.options import Machines, Places
from tune.cli.runs import Runs
from tune.cluster.limits import Ended, LimitWatch
from tune.cluster.workers import MAX_SLOTS
from tune.records.ledger import warn_of_damage

if TYPE_CHECKING:
    from tune.cli.mirror import Mirror
    from tune.cli.trial_runner import TrialRunner

_COPYING_SECONDS = 300.0
"""That the mirror gets at the end."""


class Session:
    """Ray and MLflow for as long as the block lasts, started with the first trials: without any, nothing is started."""

    def __init__(self, places: Places, machines: Machines, preset: str) -> None:
        """Args: places: where results go; machines: what trials run on; preset: names the MLflow experiment."""
        self.places, self.machines, self.preset = places, machines, preset
        self.storage, self.uri = places.storage, places.tracking_uri
        self.stopped = False
        """Whether Ctrl-C ended the runs."""
        self.ended = Ended()
        """How the last runs ended otherwise."""
        self._mirror: Mirror | None = None
        if places.mirror is not None:
            self._mirror = imported("tune.cli.mirror:Mirror")(
                places.storage, places.mirror, self.uri, warn=imported("tune.cli.console:say")
            )
        self._runner: TrialRunner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, runs: Runs) -> None:
        """Runs the trials of a search, each to its ledger entry; nothing where all are there."""
        search, name = runs.search, runs.name
        if len(search.given) >= search.num_trials:
            return
        warn_of_damage(self.storage.screened(name))
        known = [entry for entry in runs.known if entry.trial in search.given]
        world = (self.machines.planned_workers() if self._runner is None else self._runner.workers).world
        reached = LimitWatch(runs.limits, self.storage.used(name), 0, runs.make_workload(world).objective, known)
        if reached.stop is not None:
            self.ended = Ended(reached.stop)
            return
        if self._runner is None:
            self._runner = self._start()
        try:
            self.ended = self._runner.run(runs, known)
        finally:
            self.stopped = self._runner.interrupted

    def _start(self) -> "TrialRunner":
        """Starts Ray or connects to it; what else the trials need is imported meanwhile."""
        address = self.machines.address
        groups = not self.machines.planned_workers().is_one_cpu
        early = self.machines.early_ray
        if early is not None:
            early.wait_for_import()
        start = imported("tune.cluster.ray_cluster:start_ray")  # before the other thread: Ray cannot be imported by two
        with ThreadPoolExecutor(1) as pool:
            importing, is_up = pool.submit(imported, "tune.cli.trial_runner:TrialRunner"), False
            try:
                with imported("tune.cluster.remote_job:explained")(address) if address else contextlib.nullcontext():
                    if early is not None:
                        early.take(groups)
                    else:
                        start(address, MAX_SLOTS, worker_groups=groups)
                is_up = True
                runner: TrialRunner = importing.result()(self.places, self.machines, self.preset, self._mirror)
            except BaseException as error:
                if is_up or not isinstance(error, ValueError):  # else it was refused: a Ray that is up is another's
                    imported("tune.cluster.ray_cluster:stop_ray")()
                raise
            return runner

    def finish_mirror(self) -> None:
        """Copies all that is there at the end, where there is a mirror, and says whether it worked; call it last."""
        where = self.places.mirror
        if self._mirror is not None and where is not None:
            fetch = f"copied to {where}; {python_line('tune', 'mirror', 'fetch', where)} FOLDER brings it back"
            print(self._mirror.close(_COPYING_SECONDS) or fetch)

    def send(self, name: str) -> str | None:
        """Completes a sweep's or study's runs in MLflow. Returns: what to tell the user if that failed."""
        sent = imported("tune.tracking.tracker:send")(name, self.uri, self.preset, self.storage)
        problem: str | None = sent.problem
        return problem

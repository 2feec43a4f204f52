"""How a sweep fills 8, 32 and 64 nodes of 8 GPUs: makespan, idle nodes, the driver's cost, the ledger.

    python -m benchmarks.scale [--quick]

The grid of 72 trials is 2 step counts x 3 warmdown starts x 3 splits x 4 TTT settings of the record's model; those of
288 and 1,152 add 4 and 16 learning rates, which share no step. A trial takes a whole node. Two kinds of runs:

- simulated: `benchmarks.simulated_cluster`, the real driver on nodes in simulated time, in the order of the tree and in
  the order of the grid; then with a tenth of the nodes lost in the middle
- real: the same driver under Ray Tune with a process for each of 8 trials at a time; stages only wait, their seconds
  divided by a number, and no worker group is started

The lower bound is the larger of all work over all nodes and of the longest way through one trial. "Driver" is the CPU
of the driver's own code, the search and the keys of all stages included; the rest of its process is Ray's. The last
line is one JSON object. With --quick fewer are run, in at most 3 minutes on two cores.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from benchmarks.simulated_cluster import Account, SimulatedCluster, seconds_of
from golf.config.presets import PRESETS
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import device_name
from tune.cache.cached_runner import stage_runner
from tune.cache.lease import LeaseConfig
from tune.cache.stage_graph import StageOutput
from tune.cluster.ray_cluster import start_ray, stop_ray
from tune.cluster.sweep import RaySearcher, ResultRecorder, SweepConfig, TrialSource, run_sweep
from tune.records.entries import Outcome, Series, TrialEntry, TrialState, WorldShape
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Order, Search, SearchConfig
from tune.search.space import Space, Trial
from tune.workloads.base import CacheConfig, StageExecutor, TrialSpec
from tune.workloads.gepa.stages import GepaStages
from tune.workloads.gepa.workload import GepaWorkload

SPACE: Space = {
    "schedule.steps": [7000, 9000],
    "schedule.warmdown_start": [3500, 4500, 5500],
    "split": ["mixed-int6-int8", "pure-int6", "int5-mlp"],
    "ttt.lr": [0.001, 0.002],
    "ttt.epochs": [3, 10],
}
NODES = {72: 8, 288: 32, 1152: 64}
"""Trials -> nodes."""
REAL_SECONDS = 40.0
"""That the lower bound of the real run is scaled to."""
SIMULATED_COLUMNS = (
    *("trials on nodes", "order", "makespan, s", "over the bound", "idle", "held by waiting trials", "lost by kills"),
    *("driver, CPU ms a trial", "driver grew, MB"),
)
WORLD = WorldShape(ranks=8, cpus=1.0, device="cuda", threads=1)


@dataclass(frozen=True, kw_only=True)
class WaitingWorkload(GepaWorkload):
    """The record's trials, whose stages only last."""

    divisor: float = 1.0
    """By which seconds are divided."""

    @property
    def code(self) -> str:
        """Digest of no code."""
        return "0" * 64

    def run_trial(self, spec: TrialSpec, execute: StageExecutor) -> tuple[Outcome, Series]:
        """Obtains all outputs through the store."""
        stages, directory = self.stages(spec.trial), spec.directory
        assert spec.cache is not None

        def last(output: StageOutput, seconds: float) -> None:
            time.sleep(seconds / self.divisor)
            for name in output.files:
                own = {"model_bytes": 15_850_000, "seconds": seconds_of(spec.trial, output)}
                write_json(directory / name, {"result": own})

        def train(start: Path | None, keep: Mapping[int, Path]) -> None:
            done = 0.0 if start is None else read_json(start / "curves.json")["result"]["seconds"]
            for output in stages.training:
                seconds = seconds_of(spec.trial, output)
                if seconds > done:
                    last(output, seconds - done)
                    done = seconds

        def compute(outputs: object) -> None:
            assert isinstance(outputs, list)
            for output in outputs:
                last(output, seconds_of(spec.trial, output))

        with stage_runner(spec.cache.open(), directory, spec.trial.trial, stages, read_seconds) as runner:
            runner.train(stages.training, train)
            runner.obtain([stages.pack], compute, with_weights=True)
            runner.obtain(stages.rungs, compute)
            waited = getattr(runner, "waited_seconds", 0.0) * self.divisor
        seconds = {**runner.computed, "waited": waited}
        return Outcome(state=TrialState.DONE, bpb=1.0, seconds=seconds, keys=tuple(stages.keys)), Series()


def read_seconds(directory: Path, output: StageOutput) -> float:
    """Returns the seconds that an output says it took."""
    return float(read_json(directory / output.files[-1])["result"]["seconds"])


class GridOrder(Search):
    """A search whose trials come in its own order, whatever others compute."""

    def order_by(self, order: Order) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Grid:
    """A grid's trials with their stages."""

    num_trials: int
    workload: WaitingWorkload
    graphs: Mapping[str, GepaStages]
    trials: Mapping[str, Trial]

    @classmethod
    def of(cls, num_trials: int) -> "Grid":
        """Returns the grid of so many trials."""
        base = PRESETS["pr598"]
        workload = WaitingWorkload(
            base=base,
            preset="pr598",
            data_directory=Path("/nowhere"),
            data="d" * 64,
            num_targets=62_021_632,
            world=WORLD,
        )
        trials = Search(search_config(num_trials), workload.trial).certain()
        assert len(trials) == num_trials
        known = workload.for_trials(trials)
        graphs = {trial.trial: known.stages(trial) for trial in trials}
        return cls(num_trials, workload, graphs, {trial.trial: trial for trial in trials})

    def bound(self, num_nodes: int) -> float:
        """Returns the seconds that no order of trials goes below."""
        return max(self.longest, self.work / num_nodes)

    @property
    def work(self) -> float:
        """Seconds of a node for all outputs, each once."""
        seconds: dict[str, float] = {}
        for name, graph in self.graphs.items():
            done = 0.0
            for output in graph.outputs:
                own = seconds_of(self.trials[name], output)
                seconds[output.key] = own - (done if output.steps else 0.0)
                done = own if output.steps else done
        return sum(seconds.values())

    @property
    def longest(self) -> float:
        """Seconds of training, packing and the longest rung of a trial."""
        return max(
            seconds_of(self.trials[name], graph.training[-1])
            + seconds_of(self.trials[name], graph.pack)
            + max(seconds_of(self.trials[name], rung) for rung in graph.rungs)
            for name, graph in self.graphs.items()
        )


def search_config(num_trials: int) -> SearchConfig:
    """Returns the grid of so many trials."""
    rates = [round(0.02 + 0.001 * number, 3) for number in range(num_trials // 72)]
    return SearchConfig(spaces=({"optimizer.matrix_lr": rates, **SPACE},), strategy="grid")


@dataclass(frozen=True)
class Simulated:
    """A simulated run."""

    account: Account
    memory_bytes: int
    """By which the driver's process grew."""
    ledger_bytes: int
    open_seconds: float


def simulate(grid: Grid, root: Path, kind: type[Search] = Search, kill_at: float | None = None) -> Simulated:
    """Runs a grid in simulated time, in a storage of its own."""
    storage, process = Storage(root), psutil.Process()
    before = process.memory_info().rss

    def open_driver(clock: Callable[[], float]) -> tuple[TrialSource, ResultRecorder]:
        cache = CacheConfig(store=str(storage.store))
        config = SweepConfig(name="s", concurrent=NODES[grid.num_trials], cache=cache)
        search = kind(search_config(grid.num_trials), grid.workload.trial)
        workload = grid.workload.for_trials(search.candidates())
        source = TrialSource(config, workload, search, storage, clock=clock)
        return source, ResultRecorder(config, workload, storage, [source])

    account = SimulatedCluster(NODES[grid.num_trials], grid.graphs, open_driver, kill_at).run()
    memory = process.memory_info().rss - before
    entries, data, seconds = Ledger(storage.ledger).latest("s"), storage.ledger.read_bytes(), []
    for _ in range(3):
        storage.ledger.write_bytes(data)  # a file that has changed is read again
        began = time.process_time()
        entries = Ledger(storage.ledger).latest("s")
        seconds.append(time.process_time() - began)
    assert len({entry.trial for entry in entries}) == len(entries) == grid.num_trials
    result = Simulated(account, memory, len(data), min(seconds))
    shutil.rmtree(root)
    return result


@contextmanager
def timed(*methods: tuple[type, str]) -> Iterator[list[float]]:
    """Yields the CPU seconds of every outermost call of some methods within the block."""
    spent, depth, originals = list[float](), [0], [(owner, name, getattr(owner, name)) for owner, name in methods]

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            began, depth[0] = time.thread_time(), depth[0] + 1
            try:
                return original(*arguments, **named)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    spent.append(time.thread_time() - began)

        return call

    for owner, name, original in originals:
        setattr(owner, name, counted(original))
    try:
        yield spent
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


@dataclass(frozen=True)
class Real:
    """A run under Ray Tune; seconds of nodes are the record's."""

    makespan: float
    waited: float
    driver_cpu: float
    """Of the whole process with Ray's threads, from the start of the first trial on."""
    own_cpu: float
    """Of it, of the driver's own code."""
    entries: list[TrialEntry]


class _Start:
    """Notes when the first trial begins."""

    wall = cpu = 0.0

    def started(self, trial: Trial) -> None:
        """A trial began."""
        if not self.wall:
            self.wall, self.cpu = time.time(), time.process_time()

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A point of a curve."""

    def ended(self, entry: TrialEntry) -> None:
        """A trial ended."""


def run_real(grid: Grid, num_nodes: int, divisor: float, root: Path, kind: type[Search] = Search) -> Real:
    """Runs a grid under Ray Tune, so many trials at a time."""
    storage, start = Storage(root), _Start()
    cache = CacheConfig(store=str(storage.store), lease_config=LeaseConfig(poll_seconds=0.1))
    config = SweepConfig(name="s", concurrent=num_nodes, cache=cache)
    search = kind(search_config(grid.num_trials), grid.workload.trial)
    with timed((RaySearcher, "suggest"), (ResultRecorder, "begin"), (ResultRecorder, "end")) as own:
        run_sweep(config, replace(grid.workload, divisor=divisor), search, storage, [start])
    cpu = time.process_time() - start.cpu
    entries = Ledger(storage.ledger).latest("s")
    failed = [entry.reason for entry in entries if not entry.done]
    if failed or len(entries) != grid.num_trials:
        raise SystemExit(f"{len(entries)} of {grid.num_trials} trials, failed: {failed[:1]}")
    end = max(entry.ended for entry in entries)
    waited = sum(entry.seconds["waited"] for entry in entries)
    shutil.rmtree(root)
    return Real((end - start.wall) * divisor, waited, cpu, sum(own), entries)


def table(*names: str) -> None:
    """Prints the head of a table."""
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names), flush=True)


def row(*cells: str) -> None:
    """Prints a line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def show_simulated(grid: Grid, root: Path, with_grid_order: bool) -> tuple[Simulated, float]:
    """Simulates a grid in several ways, with a line for each; returns the first, and its makespan over the bound."""
    num_nodes = NODES[grid.num_trials]
    bound, lost = grid.bound(num_nodes), max(1, num_nodes // 10)
    tree = simulate(grid, root / "tree")
    half = tree.account.makespan / 2
    # All nodes compute until then, and those that are left do the rest.
    killed_bound = half + (grid.work - num_nodes * half) / (num_nodes - lost)
    runs = {"tree": (tree, bound)}
    if with_grid_order:
        runs["grid"] = simulate(grid, root / "grid", GridOrder), bound
    runs[f"tree, {lost} lost"] = simulate(grid, root / "killed", kill_at=half), killed_bound
    for name, (run, least) in runs.items():
        account = run.account
        idle = account.available - account.computed - account.lost
        cells = [f"{account.makespan:,.0f}", f"{account.makespan / least:.3f}", f"{account.share(idle):.1f} %"]
        cells += [f"{account.share(account.waited):.2f} %", f"{account.share(account.lost):.1f} %"]
        cells += [f"{1000 * account.driver_cpu / grid.num_trials:.1f}", f"{run.memory_bytes / 1e6:,.0f}"]
        row(f"{grid.num_trials:,} on {num_nodes}", name, *cells)
    return tree, tree.account.makespan / bound


def show_real(root: Path, quick: bool) -> float:
    """Runs grids under Ray Tune, with a line for each; returns the CPU milliseconds a trial beside the driver's own."""
    num_nodes = NODES[72]
    table("trials on processes", "order", "over the bound", "held by waiting trials", "process, ms a trial", "own, ms")
    runs = [(72, num_nodes, REAL_SECONDS, "tree", Search)]
    if not quick:
        runs += [(72, num_nodes, REAL_SECONDS, "grid", GridOrder), (1152, 2, 0.01, "tree", Search)]
    start_ray(None, num_nodes, num_nodes)
    try:
        for num_trials, places, seconds, name, kind in runs:
            grid = Grid.of(num_trials)
            bound = grid.bound(places)
            real = run_real(grid, places, bound / seconds, root / f"real-{num_trials}-{name}", kind)
            process, own = (1000 * spent / num_trials for spent in (real.driver_cpu, real.own_cpu))
            is_timed = seconds == REAL_SECONDS
            ratio = f"{real.makespan / bound:.2f}" if is_timed else "stages take no time"
            waited = f"{100 * real.waited / (places * real.makespan):.2f} %" if is_timed else ""
            row(f"{num_trials} on {places}", name, ratio, waited, f"{process:.1f}", f"{own:.1f}")
    finally:
        stop_ray()
    return process - own


def memory_disk() -> str | None:
    """Returns a directory in memory, where there is one: other work on the disk does not count."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main(arguments: list[str]) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of it, in at most 3 minutes")
    parsed = parser.parse_args(arguments)
    cpus, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{device_name(torch.device('cpu'))} of {cpus} cores, load {load:.1f} at the start\n\n## Simulated")
    table(*SIMULATED_COLUMNS)
    with tempfile.TemporaryDirectory(prefix="golf-scale-", dir=memory_disk()) as folder:
        root = Path(folder)
        for num_trials in (72, 1152) if parsed.quick else NODES:
            grid = Grid.of(num_trials)
            simulated, ratio = show_simulated(grid, root, not parsed.quick or num_trials == 72)
        print(f"\nledger of {num_trials:,} trials: {simulated.ledger_bytes / 1e6:.1f} MB, ", end="")
        print(f"opened in {simulated.open_seconds:.2f} CPU seconds\n\n## Real")
        own_ms = 1000 * simulated.account.driver_cpu / num_trials
        results = {
            "makespan_ratio": ratio,
            "driver_ms_per_trial": own_ms,
            "idle_wait_percent": simulated.account.share(simulated.account.waited),
            "ledger_open_seconds": simulated.open_seconds,
            "ray_ms_per_trial": show_real(root, parsed.quick),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"\npeak memory of the driver's process: {peak:,.0f} MB\n")
    print(json.dumps({name: round(value, 4) for name, value in results.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

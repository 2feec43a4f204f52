"""Outputs through the store: once over several processes, also when they die, stop, fail or have other clocks."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tune.full_disk import file_size_limit
from tests.tune.toy_stages import (
    KEY,
    OTHER,
    OUTPUT,
    SECONDS,
    Settings,
    ToyProcesses,
    computing,
    record_of,
    runner_of,
)
from tune.cache.backend import StoreError
from tune.cache.cached_runner import CachedStageRunner
from tune.cache.entries import Damaged
from tune.cache.entry import FILES, Entry
from tune.cache.lease import LEASES, Lease, LeaseAcquirer, LeaseConfig
from tune.cache.stage_graph import StageName, StageOutput
from tune.cache.store import Store

QUICK = LeaseConfig(lease_seconds=5.0, poll_seconds=0.02)


@pytest.fixture(params=["local", "object"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ToyProcesses]:
    """Processes on a store in a directory or a bucket."""
    processes = ToyProcesses(Settings(request.param, tmp_path))
    yield processes
    processes.end()


def test_eight_processes_compute_once(processes: ToyProcesses) -> None:
    """Fault: two trials that begin at the same moment both train, or a waiter ends without the result."""
    started = [processes.start(compute_seconds=0.3) for _ in range(8)]
    for process in started:
        process.go()
    results = [process.result() for process in started]
    assert processes.computations == 1
    assert results == [results[0]] * 8
    assert results[0][0] == "done"
    processes.check()


@pytest.mark.parametrize("clock_shift", [0.0, 1e6, -1e6])
def test_a_killed_holder_is_replaced_once(processes: ToyProcesses, clock_shift: float) -> None:
    """Fault: all wait for ever for a dead process, or more than one replaces it, or its half result is found."""
    holder = processes.start_computing(lease_seconds=1.5, clock_shift=clock_shift)
    waiting = processes.start_waiting(3, lease_seconds=1.5)
    time.sleep(0.5)
    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert [process.result()[0] for process in waiting] == ["done"] * 3
    assert time.monotonic() - killed < 8
    assert processes.computations == 2
    processes.check()


@pytest.mark.long
@pytest.mark.parametrize("clock_shift", [1e6, -1e6])
def test_a_holder_with_another_clock_keeps_its_lease(processes: ToyProcesses, clock_shift: float) -> None:
    """Fault: a node whose clock goes before or after counts as dead, and everything is computed twice."""
    holder = processes.start_computing(lease_seconds=1.5, clock_shift=clock_shift)
    waiting = processes.start_waiting(1, lease_seconds=1.5)
    waiting += processes.start_waiting(1, lease_seconds=1.5, clock_shift=-clock_shift)
    time.sleep(3.5)
    assert processes.computations == 1
    holder.go()
    assert [process.result()[0] for process in (holder, *waiting)] == ["done"] * 3
    assert processes.computations == 1
    processes.check()


@pytest.mark.parametrize("first", ["paused", "other"])
def test_a_paused_holder_wakes_to_no_harm(processes: ToyProcesses, first: str) -> None:
    """Fault: a holder that was replaced overwrites, removes or doubles the result, or takes away the new lease."""
    paused = processes.start_computing(lease_seconds=1.0)
    paused.send_signal(signal.SIGSTOP)
    other = processes.start_computing(lease_seconds=1.0)
    results = []
    for process in (paused, other) if first == "paused" else (other, paused):
        if process is paused:
            paused.send_signal(signal.SIGCONT)
        process.go()
        results.append(process.result())
    (late,) = processes.start_waiting(1, lease_seconds=1.0)
    entries = [result[1] for result in (*results, late.result())]
    assert entries == [entries[0]] * 3
    assert processes.computations == 2
    paused.process.join(20)
    other.process.join(20)
    processes.check()


def test_a_failed_computation_is_tried_by_the_next(processes: ToyProcesses) -> None:
    """Fault: waiters share the error, wait out the lease of one that ended, or the exception is swallowed."""
    failing = processes.start_computing(fails=True)
    waiting = processes.start_waiting(2)
    time.sleep(0.3)
    started = time.monotonic()
    failing.go()
    assert failing.result() == ("failed", "no shards")
    assert [process.result()[0] for process in waiting] == ["done"] * 2
    assert time.monotonic() - started < 15, "the lease of 30 s was waited for"
    assert processes.computations == 2
    processes.check()


class Trials:
    """Runners of toy trials on one store, what they computed and what they were warned of."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs, self.warnings = root, list[str](), list[str]()

    def runner(self, trial: str) -> CachedStageRunner:
        """Returns the runner of a trial."""
        store = Store(self.root / "store", lease_config=QUICK, warn=self.warnings.append)
        return runner_of(store, self.root / trial)

    def obtain(self, trial: str, output: StageOutput = OUTPUT, with_weights: bool = True) -> CachedStageRunner:
        """Obtains an output whose content is the trial's name; returns the trial's runner."""
        runner = self.runner(trial)
        runner.obtain([output], computing(runner.directory, trial, self.runs), with_weights)
        return runner

    def entry(self) -> Entry:
        """Returns the stored entry."""
        entry = Store(self.root / "store").find(KEY)
        assert entry is not None
        return entry


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    """Trials on an empty store."""
    return Trials(tmp_path)


def test_only_who_computes_and_who_needs_them_gets_the_weights(trials: Trials) -> None:
    """Fault: hundreds of megabytes copied to every trial, or forgotten when a later stage needs them."""
    assert trials.obtain("first", with_weights=False).computed == {"toy": SECONDS}
    later = trials.obtain("later", with_weights=False)
    assert {path.name for path in later.directory.iterdir()} == {"toy.json"}
    later.obtain([OUTPUT], computing(later.directory, "again", trials.runs), with_weights=True)
    assert (later.directory / "weights").read_text() == "first"
    assert (trials.runs, later.computed, trials.warnings) == (["first"], {}, [])


def test_what_an_earlier_start_left_is_replaced(trials: Trials) -> None:
    """Fault: a result of another computation, left in the trial's directory, reported as the stored one."""
    trials.obtain("first")
    runner = trials.runner("second")
    (runner.directory / "toy.json").write_text("of another computation")
    trials.obtain("second")
    assert (runner.directory / "toy.json").read_text() == "{}"


def test_a_result_published_just_before_the_claim(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a waiter that looked too early takes the free lease and computes what is stored."""
    attempt = LeaseAcquirer.attempt

    def late(self: LeaseAcquirer) -> Lease | None:
        monkeypatch.undo()
        trials.obtain("other")
        return attempt(self)

    monkeypatch.setattr(LeaseAcquirer, "attempt", late)
    runner = trials.obtain("late")
    assert trials.runs == ["other"]
    assert (runner.directory / "weights").read_text() == "other"


def test_damage_on_the_way_is_computed_again(trials: Trials) -> None:
    """Fault: a flipped bit, found only while reading, ends the trial instead of costing one more computation."""
    trials.obtain("first")
    (trials.root / "store" / trials.entry().path / "weights").write_text("fxrst")
    second = trials.obtain("second")
    assert (second.directory / "weights").read_text() == "second"
    assert trials.runs == ["first", "second"]
    assert len(trials.warnings) == 1


def test_storage_that_damages_everything_costs_one_computation(trials: Trials) -> None:
    """Fault: a broken disk makes a trial compute for ever."""
    runner = trials.runner("trial")

    def fetch(entry: Entry, into: Path, names: Iterable[str] | None = None) -> None:
        runner.store.drop(entry.key)
        raise Damaged("as always")

    runner.store.fetch = fetch  # type: ignore[method-assign]
    trials.obtain("first")
    runner.obtain([OUTPUT], computing(runner.directory, "own", trials.runs), with_weights=True)
    assert trials.runs == ["first", "own"]


def test_the_record_says_what_it_cost(trials: Trials) -> None:
    """Fault: a hit looks free: the seconds, or where the result came from, are lost."""
    before = time.time()
    trials.obtain("trial", StageOutput(OUTPUT.name, KEY, OUTPUT.files, (OTHER,)))
    record = trials.entry().record
    assert (record.stage, record.seconds, record.parents, record.trial) == (OUTPUT.name, SECONDS, (OTHER,), "trial")
    assert record.host
    assert before <= record.time <= time.time()


@contextmanager
def unprivileged(directory: Path) -> Iterator[None]:
    """Makes a directory read-only, also when root runs the tests."""
    user = os.geteuid()
    everything = [path for path in (directory, *directory.rglob("*")) if path.is_dir()]
    for path in everything:
        path.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in everything:
            path.chmod(0o755)


def test_a_read_only_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fault: a finished store cannot be read from a read-only disk, or a missing key waits instead of saying why."""
    base = tmp_path_factory.mktemp("public")
    for path in (base, *base.parents):
        if Path(tempfile.gettempdir()) in path.parents:  # pytest's own directories, which only root may enter
            path.chmod(0o755)
    trials = Trials(base)
    trials.obtain("first")
    for name in ("reader", "late"):
        trials.runner(name).directory.chmod(0o777)
    with unprivileged(base / "store"):
        assert (trials.obtain("reader").directory / "weights").read_text() == "first"
        with pytest.raises(StoreError, match=r"cannot write .*store.*; make it readable and writable"):
            trials.obtain("late", StageOutput(OUTPUT.name, OTHER, OUTPUT.files))
        with pytest.raises(StoreError):
            Store(base / "store").publish(OTHER, base / "reader", ["weights"], record_of())
    assert trials.runs == ["first"]
    (base / "store" / trials.entry().path / "weights").write_text("evil!")
    with unprivileged(base / "store"), pytest.raises(StoreError, match="cannot write"):
        trials.obtain("late")
    assert not list(base.glob("late/.*"))


def test_a_store_below_a_file(trials: Trials) -> None:
    """Fault: a wrong path is an unexplained traceback, or the result is computed before that is seen."""
    (trials.root / "store").write_text("")
    with pytest.raises(StoreError, match=str(trials.root / "store")):
        trials.obtain("trial")
    assert trials.runs == []


@pytest.mark.parametrize("publishing", [False, True])
def test_a_full_disk_gives_up_the_lease(trials: Trials, publishing: bool) -> None:
    """Fault: the error is hidden, half a result stays, or the next one waits out the lease."""
    runner = trials.runner("trial")

    def compute(outputs: object) -> None:
        if not publishing:
            raise OSError(28, "No space left on device")
        computing(runner.directory, "x" * 100_000, [])([OUTPUT])
        full.__enter__()

    full = file_size_limit(5000)
    try:
        with pytest.raises(OSError, match="File too large" if publishing else "No space left"):
            runner.obtain([OUTPUT], compute)
    finally:
        if publishing:
            full.__exit__(None, None, None)
    assert not list((trials.root / "store").glob(f"{FILES}/*"))
    started = time.monotonic()
    trials.obtain("next")
    assert time.monotonic() - started < QUICK.lease_seconds / 2


def state(steps: int, *parents: str) -> StageOutput:
    """A state of a training after so many steps."""
    name = StageName("prefix", steps)
    return StageOutput(name, f"{steps:064x}", (f"{name}/curves.json", f"{name}/state"), parents, steps)


STATES = state(2), state(4, f"{2:064x}")
CHAIN = (*STATES, StageOutput(StageName("train"), "e" * 64, ("weights", "train.json"), (STATES[1].key,), 8))


class Training:
    """A training of 8 steps, each of a second by its curves, that notes its steps."""

    def __init__(self, runner: CachedStageRunner) -> None:
        self.runner = runner
        self.runner.seconds_of = self.seconds_of
        self.steps: list[int] = []
        self.after: Callable[[int], object] = lambda step: None

    def seconds_of(self, directory: Path, output: StageOutput) -> float:
        """Every step takes a second."""
        assert (directory / output.files[-1]).exists()
        return float(output.steps)

    def train(self, start: Path | None, states: Mapping[int, Path]) -> None:
        """Counts from the start to the end."""
        begin = 0 if start is None else int((start / "state").read_text())
        for step in range(begin + 1, CHAIN[-1].steps + 1):
            self.steps.append(step)
            if step in states:
                states[step].mkdir()
                (states[step] / "curves.json").write_text("{}")
                (states[step] / "state").write_text(str(step))
            self.after(step)
        (self.runner.directory / "weights").write_text("trained")
        (self.runner.directory / "train.json").write_text("{}")

    def run(self, chain: tuple[StageOutput, ...] = CHAIN, with_weights: bool = False) -> None:
        """Obtains the weights."""
        self.runner.train(chain, self.train, with_weights)


def wait_for(condition: Callable[[], object]) -> None:
    """Waits until a condition holds, at most a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_training_publishes_its_states_as_it_passes_them(trials: Trials) -> None:
    """Fault: who needs a prefix waits for the whole training; seconds counted twice; a state left in the directory."""
    training, store = Training(trials.runner("first")), trials.runner("other").store

    def see(step: int) -> None:
        if step in (3, 5):
            wait_for(lambda: store.find(STATES[step == 5].key))
            assert store.find(CHAIN[-1].key) is None

    training.after = see
    training.run()
    assert training.steps == list(range(1, 9))
    assert training.runner.computed == {"prefix-2": 2.0, "prefix-4": 2.0, "train": 4.0}
    seconds = {str(entry.record.stage): entry.record.seconds for entry in store.all()}
    assert seconds == training.runner.computed
    assert {path.name for path in training.runner.directory.iterdir()} == {"weights", "train.json"}
    assert store.storage.files(LEASES) == {}


def test_scores_are_published_one_by_one(trials: Trials) -> None:
    """Fault: who needs the first of two scores waits for the second; what an earlier start left is published as new."""
    scores = [StageOutput(StageName(name), 64 * name[0], (f"{name}.json",)) for name in ("a", "b", "c")]
    runner, store = trials.runner("first"), trials.runner("other").store
    (runner.directory / "b.json").write_text("old")

    def compute(outputs: Sequence[StageOutput]) -> None:
        assert list(outputs) == scores
        (runner.directory / "a.json").write_text("new")
        wait_for(lambda: store.find(scores[0].key))
        time.sleep(1.0)  # longer than between two looks
        assert store.find(scores[1].key) is None
        (runner.directory / "b.json").write_text("new")
        (runner.directory / "c.json").write_text("new")

    runner.obtain(scores, compute)
    entries = [store.find(output.key) for output in scores]
    assert [store.read(entry, entry.record.stage.kind + ".json") for entry in entries if entry] == [b"new"] * 3
    assert runner.computed == {"a": SECONDS, "b": SECONDS, "c": SECONDS}
    assert store.storage.files(LEASES) == {}


def test_a_training_goes_on_from_the_longest_stored_state(trials: Trials) -> None:
    """Fault: steps trained again, a state of another branch taken, or seconds of the stored part counted as new."""
    Training(trials.runner("first")).run()
    longer = StageOutput(StageName("train"), "f" * 64, ("weights", "train.json"), (STATES[1].key,), 8)
    second = Training(trials.runner("second"))
    second.run((*STATES, longer))
    assert second.steps == [5, 6, 7, 8]
    assert second.runner.computed == {"train": 4.0}
    third = Training(trials.runner("third"))
    third.run()
    assert (third.steps, third.runner.computed) == ([], {})


def test_a_training_that_failed_leaves_its_states_to_the_next(trials: Trials) -> None:
    """Fault: what was published before a failure is lost, or the leases of the rest are kept."""
    first = Training(trials.runner("first"))

    def fail(step: int) -> None:
        if step == 5:
            raise FloatingPointError("NaN at step 5")

    first.after = fail
    with pytest.raises(FloatingPointError):
        first.run()
    started = time.monotonic()
    second = Training(trials.runner("second"))
    second.run()
    assert second.steps == [5, 6, 7, 8]
    assert time.monotonic() - started < QUICK.lease_seconds / 2


def test_a_chain_of_which_another_holds_a_part_is_not_claimed(trials: Trials) -> None:
    """Fault: a waiter claims the free part in vain and gives it up again at every look: a file for each."""
    other = trials.runner("other").store
    lease = other.acquirer(CHAIN[-1].key).attempt()
    assert lease is not None
    training = Training(trials.runner("waiting"))
    thread = threading.Thread(target=training.run)
    with lease:
        thread.start()
        time.sleep(20 * QUICK.poll_seconds)
        assert set(other.storage.files(LEASES)) == {f"{CHAIN[-1].key}.000001"}
        assert training.steps == []
    thread.join()
    assert training.steps == list(range(1, 9))


def test_a_state_that_cannot_be_published_does_not_stop_the_training(trials: Trials) -> None:
    """Fault: one failed request ends the publishing thread, and with it every state after it or the training."""
    training = Training(trials.runner("trial"))
    publish = training.runner.store.publish

    def fail_once(key: str, *arguments: object) -> Entry:
        training.runner.store.publish = publish  # type: ignore[method-assign]
        raise StoreError(5, "cannot write it")

    training.runner.store.publish = fail_once  # type: ignore[method-assign, assignment]
    training.run()
    assert training.runner.computed == {"prefix-4": 4.0, "train": 4.0}
    assert trials.warnings == ["prefix-2 is not shared: [Errno 5] cannot write it"]


def test_who_waited_for_another_gets_the_weights_it_needs(trials: Trials) -> None:
    """Fault: whether the weights are needed is forgotten once another process holds the training."""
    first, second = Training(trials.runner("first")), Training(trials.runner("second"))
    began, seen = threading.Event(), threading.Event()

    def hold(step: int) -> None:
        began.set()
        assert seen.wait(60)

    first.after = hold
    thread = threading.Thread(target=first.run)
    thread.start()
    assert began.wait(60)
    # The second has looked, and looked again, before the first is done.
    threading.Timer(0.5, seen.set).start()
    second.run(with_weights=True)
    thread.join()
    assert second.steps == []
    assert (second.runner.directory / "weights").read_text() == "trained"

"""Processes of scripts: how they end, what is kept of their output, and that nothing of them stays."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from pathlib import Path

import pytest

from tests.tune.workloads.script.running import SECONDS, Run, always_progress, marked, wait_for
from tune.workloads.script.process import BoundedLog, Limits, lines_of, run_process

ROOT = Path(__file__).resolve().parents[4]
SLEEP = "import time; print('begun', flush=True); time.sleep(60)"
IGNORE = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]"
DETACHED = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {IGNORE}
        time.sleep(60)
    os._exit(0)
"""
"""Leaves a process that detached itself and takes no notice of SIGTERM."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs code in a directory of the test."""
    return Run(tmp_path)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.abort()", -6),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_exit_status(run: Run, code: str, expected: int) -> None:
    """Fault: a crash passes for success, or a signal for an exit status."""
    ended = run(code)
    assert (ended.code, ended.stopped, ended.left_behind) == (expected, None, 0)
    assert run.seconds < 5


def test_a_missing_program_is_said(run: Run) -> None:
    """Fault: a launcher that is not there gives a traceback of ours, or nothing."""
    ended = run("", ["no-such-launcher", "train.py"])
    assert ended.code == 127
    assert any("no-such-launcher" in line for line in ended.lines)
    assert not any("Traceback" in line for line in ended.lines)


def test_a_missing_directory_raises(tmp_path: Path) -> None:
    """Fault: a run without its directory passes for one of the script."""
    run = Run(tmp_path)
    run.directory.joinpath("output.log").touch()
    gone = Run(tmp_path / "gone")
    with pytest.raises(OSError, match="gone"):
        gone("pass")


def test_a_relative_log(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the exit status of a trial below a relative storage root is lost: its command has another directory."""
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "own").mkdir()
    run.directory = Path(tmp_path.name) / "own"
    assert run("raise SystemExit(4)").code == 4


def test_lines_of_every_form(run: Run) -> None:
    """Fault: a progress bar's carriage returns, a missing line end, binary output or a form feed lose or join lines."""
    heard: list[str] = []
    run.watch = lambda line: heard.append(line) or True  # type: ignore[func-returns-value]
    written = b"one\r\ntwo\rthree\nf\x0cour\xff\xfe\x00\n\nlast"
    ended = run(f"import os; os.write(1, {written!r})")
    expected = ["one", "two", "three", "f\x0cour\ufffd\ufffd\x00", "last"]
    assert heard == expected
    assert [line for line in ended.lines if line] == expected
    assert run.log.read_bytes() == written


def test_a_line_of_megabytes(run: Run) -> None:
    """Fault: a line without an end fills the memory, or time grows with the square of its length."""
    heard: list[int] = []
    run.watch = lambda line: heard.append(len(line)) or True  # type: ignore[func-returns-value]
    ended = run("import sys; sys.stdout.write('x' * (8 << 20) + '\\nval_bpb:1.5\\n')")
    assert sum(heard[:-1]) == 8 << 20
    assert max(heard) < 1 << 18
    assert ended.lines[-1] == "val_bpb:1.5"
    assert run.seconds < 5


def test_standard_error_is_kept_and_the_input_is_empty(run: Run) -> None:
    """Fault: a script that asks waits for ever, or its traceback is lost."""
    ended = run("import sys; print(repr(sys.stdin.read())); sys.stderr.write('to error')")
    assert ended.lines == ("''", "to error")


@pytest.mark.parametrize("most", [1000, 1 << 14, 1 << 20])
def test_a_bounded_log_against_its_definition(tmp_path: Path, most: int) -> None:
    """Fault: bytes are lost, doubled or out of order; a cut line shows another number than was written."""
    rng = random.Random(most)
    lines = [b"line %d: %s\n" % (number, b"y" * rng.randrange(60)) for number in range(rng.choice((4000, 9000)))]
    written = b"".join(lines)
    with BoundedLog(tmp_path / "log", most) as log:
        rest = written
        while rest:
            size = rng.choice((1, 7, 400, 5000, 1 << 16))
            log.write(rest[:size])
            rest = rest[size:]
    kept = (tmp_path / "log").read_bytes()
    assert len(kept) <= most + 200
    if len(written) <= most:
        assert kept == written
        return
    head, marker, tail = kept.partition(b"\n[")
    words, _, tail = tail.partition(b" are left out here]\n")
    assert marker
    assert written.startswith(head)
    assert written.endswith(tail)
    assert head.endswith(b"\n")
    assert tail.startswith(b"line ")
    assert len(head) > most * 0.5
    assert len(tail) > most * 0.1
    assert int(words.split()[0].replace(b",", b"")) == len(written) - len(head) - len(tail)


def test_lines_of_a_large_file(tmp_path: Path) -> None:
    """Fault: a log of gigabytes is read whole, or the end of it, where the score is, is left out."""
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    few = lines_of(path, 4000)
    assert sum(len(line) + 1 for line in few) <= 4000
    assert (few[0], few[-1]) == ("line 0", "line 99999")
    assert set(few) <= {f"line {number}" for number in range(100_000)}
    assert lines_of(path, 1 << 30) == tuple(path.read_text().splitlines())
    with path.open("ab") as file:
        file.truncate(50 << 30)  # a hole of 50 GB
    assert lines_of(path, 4000)[0] == "line 0"


@pytest.mark.long
def test_output_without_end_takes_bounded_memory_and_disk(run: Run) -> None:
    """Fault: a script that prints for ever fills this process's memory, the disk, or the list of its lines."""
    run.limits = Limits(grace_seconds=0.5, output_bytes=1 << 20)
    tracemalloc.start()
    ended = run("import os\nfor _ in range(600): os.write(1, (b'x' * 99 + b'\\n') * 1000)\nprint('final val_bpb:1.2')")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert run.log.stat().st_size <= (1 << 20) + 100
    assert peak < 10 << 20
    assert ended.lines[-1] == "final val_bpb:1.2"
    assert any("bytes of output are left out here" in line for line in ended.lines)


def test_many_short_lines_are_a_bounded_list(tmp_path: Path) -> None:
    """Fault: 64 MB of empty lines become 60 million objects."""
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"ab\n" * 1_000_000 + b"last\n")
    lines = lines_of(path, 64 << 20)
    assert len(lines) <= 200_000
    assert (lines[0], lines[-1]) == ("first", "last")


def test_stopped_by_what_it_says(run: Run) -> None:
    """Fault: a diverged script runs to its end."""
    run.watch = lambda line: "it diverged" if "nan" in line else True
    ended = run("import time; print('loss 1'); print('loss nan'); time.sleep(60)")
    assert ended.stopped == "it diverged"
    assert ended.code == -signal.SIGTERM
    assert run.seconds < 5


def test_the_last_line_is_heard_too(run: Run) -> None:
    """Fault: what the last line without an end says is not told."""
    run.watch = lambda line: "it diverged" if "nan" in line else True
    assert run("print('loss nan', end='')").stopped == "it diverged"


def test_stopped_from_outside(run: Run) -> None:
    """Fault: a machine that is taken away waits for the script's next line."""
    run.should_stop = lambda: "its machine is being taken away"
    ended = run(SLEEP)
    assert ended.stopped == "its machine is being taken away"
    assert run.seconds < 5


def test_stopped_for_silence_and_for_talk_without_progress(run: Run) -> None:
    """Fault: a script that hangs, or says the same for ever, holds its place."""
    run.limits = Limits(grace_seconds=0.2, no_progress_seconds=0.7)
    run.watch = lambda line: False
    ended = run("import time\nwhile True: print('waiting for data'); time.sleep(0.01)")
    assert ended.stopped == "no progress in its output for 0.7 s"
    run.watch = always_progress
    assert run(SLEEP).stopped == "no progress in its output for 0.7 s"
    assert run.seconds < 6


def test_a_script_that_closes_its_output_goes_on(run: Run) -> None:
    """Fault: a closed output passes for the end, and the script is killed at its work."""
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.4); open('made', 'w').close()"
    assert run(code).code == 0
    assert (run.directory / "made").exists()


def test_a_script_that_ignores_signals_is_killed(run: Run) -> None:
    """Fault: a process that takes no notice of SIGTERM keeps its GPU."""
    run.watch = lambda line: "stop"
    ended = run(f"{IGNORE}\n{SLEEP}")
    assert (ended.stopped, ended.code) == ("stop", -signal.SIGKILL)
    assert 0.4 < run.seconds < 5


def test_a_script_may_save_before_it_ends(run: Run) -> None:
    """Fault: a stopped script has no time to end by itself; its exit status of 0 is lost."""
    run.watch = lambda line: "stop"
    code = """
import signal, sys, time
def save(*_):
    time.sleep(0.2)
    open("saved", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("begun")
time.sleep(60)
"""
    assert run(code).code == 0
    assert (run.directory / "saved").exists()
    assert run.seconds < 5


@pytest.mark.parametrize("stops", [False, True])
def test_nothing_stays_of_a_script_that_forks(run: Run, stops: bool) -> None:
    """Fault: children that detached themselves outlive the script that started them, or the stop of it."""
    run.watch = lambda line: "stop" if stops else True
    ended = run(f"{DETACHED}\nprint('begun')\ntime.sleep({60 if stops else 0.3})")
    assert ended.left_behind == (0 if stops else 1)
    assert ended.code == (-signal.SIGTERM if stops else 0)
    assert run.seconds < 6


def test_helpers_that_end_by_themselves_are_not_left_behind(run: Run) -> None:
    """Fault: the helper processes of multiprocessing, which end a moment later, are told as a fault of the script."""
    ended = run("""
import os, time
if os.fork() == 0:
    time.sleep(0.3)
    os._exit(0)
""")
    assert (ended.code, ended.left_behind) == (0, 0)


def test_a_fork_that_keeps_writing_does_not_hold_the_run(run: Run) -> None:
    """Fault: a child that holds the output open keeps the trial waiting after the script's end."""
    ended = run("""
import os
if os.fork() == 0:
    while True:
        os.write(1, b"more\\n" * 1000)
""")
    assert (ended.code, ended.left_behind) == (0, 1)
    assert run.seconds < 5


def test_two_at_once(tmp_path: Path) -> None:
    """Fault: one run's pipes are open in the other, so that its end is not seen, or it is stopped with it."""
    long, short = Run(tmp_path / "long"), Run(tmp_path / "short")
    for one in (long, short):
        one.directory.mkdir()
    long.watch = lambda line: "stop" if "enough" in line else True
    codes: list[int | None] = []
    code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('enough')\ntime.sleep(60)"
    thread = threading.Thread(target=lambda: codes.append(long(code).code))
    thread.start()
    wait_for(lambda: marked(long.mark))
    assert short("print('begun')").code == 0
    assert short.seconds < 5
    assert marked(long.mark), "it was stopped with the other"
    (long.directory / "go").touch()
    thread.join(SECONDS)
    assert codes == [-signal.SIGTERM]


@pytest.mark.parametrize("forks", [False, True])
def test_kill_9_of_the_starter(tmp_path: Path, forks: bool) -> None:
    """Fault: a killed sweep leaves its scripts running, also where a forked child of it holds the pipe open."""
    mark = uuid.uuid4().hex
    code = f"{DETACHED}\n{IGNORE}\nprint('begun')\ntime.sleep(60)"
    starter = """
import os, sys, threading, time
from pathlib import Path
from tests.tune.workloads.script.running import Run
run = Run(Path(sys.argv[1]), mark=sys.argv[2])
def fork():
    time.sleep(1.0)
    if sys.argv[4] == "1" and os.fork() == 0:
        os.environ.clear()
        time.sleep(30)
        os._exit(0)
threading.Thread(target=fork, daemon=True).start()
run(sys.argv[3])
"""
    words = [sys.executable, "-W", "ignore", "-c", starter, str(tmp_path), mark, code, str(int(forks))]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: len(marked(mark)) >= 3)
        time.sleep(1.3 if forks else 0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
        seconds = wait_for(lambda: not marked(mark), 8)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if forks else None
    assert seconds < 4


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_nothing_outlives_a_killed_supervisor(run: Run, which: str) -> None:
    """Fault: Ray kills the child of a worker that exits, and the ranks of a torchrun go on; or the trial hangs."""

    def kill_supervisor() -> None:
        wait_for(lambda: len(marked(run.mark)) == 4)
        outer, inner = sorted(
            (one for one in marked(run.mark) if "supervisor.py" in " ".join(one.cmdline())),
            key=lambda one: one.ppid() != os.getpid(),
        )
        (outer if which == "outer" else inner).kill()

    thread = threading.Thread(target=kill_supervisor)
    thread.start()
    command = [sys.executable, "-c", f"import os, time\nif os.fork() == 0: os.setsid()\n{IGNORE}\ntime.sleep(60)"]
    environment = {"PATH": os.environ["PATH"], "MARK": run.mark}
    began = time.monotonic()
    ended = run_process(command, run.directory, environment, run.log, run.limits, always_progress, lambda: None)
    thread.join(SECONDS)
    wait_for(lambda: not marked(run.mark))
    assert time.monotonic() - began < 5
    assert ended.code != 0


def test_a_fault_of_ours_ends_the_script(run: Run) -> None:
    """Fault: a full disk in this process leaves the script running."""

    def fail(line: str) -> bool:
        raise OSError("no space left")

    run.watch = fail
    with pytest.raises(OSError, match="no space left"):
        run(f"{DETACHED}\nprint('begun', flush=True)\n{IGNORE}\ntime.sleep(60)")
    assert not marked(run.mark)

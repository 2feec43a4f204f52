"""Hostile files: spoiled inputs for every reader of what others may have written, each read in bounded time and memory.

    python -m benchmarks.hostile --inputs 100000 --seed 0

Each input is made from the seed, its reader and its number, and read in a worker process whose memory is limited. A
crash is an input that ends the process, takes longer than `--seconds`, or raises anything but the reader's own error
with the file's name; it is printed with what makes it again: `--only READER:NUMBER`. The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.model_readers import Reader
from benchmarks.readers import LONGEST_MESSAGE, make_readers

WEIGHTS = {
    **{"artifact": 10, "tensors": 12, "state": 5, "shard": 12, "ledger": 12, "series": 6, "marker": 12},
    **{"pins": 3, "dataset": 4, "tokenizer": 8, "config": 5, "result": 5},
}
"""Shares of the inputs by reader."""
ADDRESS_BYTES = 3 << 30
"""Address space that a worker may take beyond what it has when it begins."""
INPUT_SECONDS = 10.0
"""Longest time for one input."""
MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the files lie; None: among the temporary files."""
_POLL_SECONDS = 0.05
Plan = list[tuple[str, int]]
"""(reader, number) of every input of a worker."""
Maker = Callable[[Path], dict[str, Reader]]
"""Makes the readers, with their files below a folder."""


@dataclass(frozen=True)
class Crash:
    """An input that a reader did not survive."""

    reader: str
    number: int
    what: str


class Answer(NamedTuple):
    """What became of an input."""

    reader: str
    number: int
    seconds: float
    memory: int
    """Bytes at the peak beyond what the process had before the first input of this reader."""
    fault: str | None
    """None: read, or refused as it must be."""


def plan_of(inputs: int) -> Plan:
    """At least `inputs` inputs, by the readers' weights."""
    total = sum(WEIGHTS.values())
    return [(name, number) for name, weight in WEIGHTS.items() for number in range(-(-inputs * weight // total))]


def judge(reader: Reader, data: bytes) -> str | None:
    """What is wrong with how the reader takes `data`, None if nothing."""
    try:
        reader.read(data)
    except AssertionError as error:
        return f"accepted {error}"
    except (ValueError, OSError) as error:
        text = str(error)
        if not (reader.path.name in text and str(reader.path.parent) in text):
            return f"the error names no file: {type(error).__name__}: {text[:200]}"
        return None if len(text) <= LONGEST_MESSAGE else f"an error of {len(text):,} characters: {text[:200]}"
    except BaseException as error:
        where = "; ".join(f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:])
        return f"{type(error).__name__}: {str(error)[:200]} ({where})"
    return None


def hostile(reader: Reader, name: str, seed: int, number: int) -> bytes:
    """The input of that number."""
    return reader.spoil(random.Random(f"{seed}/{name}/{number}"))


def work(plan: Plan, seed: int, progress: Any, answers: Connection, make: Maker) -> None:
    """What a worker process does: its inputs in order; what it is at stands in `progress`."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        readers = make(Path(folder))
        for reader in readers.values():
            reader.read(reader.intact)  # also loads what is loaded at the first use
        limit = _status("VmSize") + ADDRESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        reading, before = "", 0
        for place, (name, number) in enumerate(plan):
            if name != reading:
                Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
                reading, before = name, _status("VmRSS")
            data = hostile(readers[name], name, seed, number)
            progress[0], progress[1] = place, time.monotonic()
            fault = judge(readers[name], data)
            seconds, memory = time.monotonic() - progress[1], _status("VmHWM") - before
            progress[1] = 0.0
            answers.send(Answer(name, number, seconds, memory, fault))
    answers.send(None)


def _status(field: str) -> int:
    """Bytes that the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class Worker:
    """A worker process, started again behind the input that ended it."""

    def __init__(self, plan: Plan, seed: int, seconds: float, make: Maker = make_readers) -> None:
        self.plan, self.seed, self.seconds, self.make = plan, seed, seconds, make
        self.answers: list[Answer] = []
        self.crashes: list[Crash] = []
        self.start()

    def start(self) -> None:
        """Start the process on what is left of the plan."""
        context = multiprocessing.get_context("spawn")
        self.progress = context.Array("d", [-1.0, 0.0], lock=False)
        self.pipe, theirs = context.Pipe(duplex=False)
        arguments = (self.plan, self.seed, self.progress, theirs, self.make)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def attend(self) -> bool:
        """Take what the process has to say, end it when it hangs; whether there is more to come."""
        try:
            while self.pipe.poll():
                answer = self.pipe.recv()
                if answer is None:
                    self.process.join()
                    return False
                self.answers.append(answer)
                if answer.fault is not None:
                    self.crashes.append(Crash(answer.reader, answer.number, answer.fault))
        except EOFError:
            self.process.join()
            return self.replace(f"the process ended with {self.process.exitcode}")
        began = self.progress[1]
        if began and time.monotonic() - began > self.seconds:
            self.process.kill()
            self.process.join()
            return self.replace(f"still reading after {self.seconds:g} s")
        return True

    def replace(self, what: str) -> bool:
        """Note the crash and go on behind it."""
        place = int(self.progress[0])
        if place < 0:
            raise RuntimeError(f"a worker ended before its first input: {what}")
        self.crashes.append(Crash(*self.plan[place], what))
        self.plan = self.plan[place + 1 :]
        if not self.plan:
            return False
        self.start()
        return True

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def run(inputs: int, seed: int, workers: int = 2, seconds: float = INPUT_SECONDS) -> dict[str, Any]:
    """Read at least `inputs` hostile files.

    Returns: {"hostile_inputs", "hostile_crashes", "slowest_seconds", "largest_memory_mb", "by_reader"}; each crash is
    printed to stderr as it is found.
    """
    plan = plan_of(inputs)
    crew = [Worker(plan[first::workers], seed, seconds) for first in range(workers)]
    try:
        waiting, told = list(crew), set[Crash]()
        while waiting:
            time.sleep(_POLL_SECONDS)
            waiting = [worker for worker in waiting if worker.attend()]
            crashes = [crash for worker in crew for crash in worker.crashes]
            for crash in set(crashes) - told:
                print(f"--seed {seed} --only {crash.reader}:{crash.number}  {crash.what}", file=sys.stderr, flush=True)
            told |= set(crashes)
    finally:
        for worker in crew:
            worker.stop()
    return summary([answer for worker in crew for answer in worker.answers], crashes)


def summary(answers: Sequence[Answer], crashes: Sequence[Crash]) -> dict[str, Any]:
    """The counts and the largest costs, in all and by reader."""

    def figures(name: str | None) -> dict[str, Any]:
        mine = [answer for answer in answers if name in (None, answer.reader)]
        ended = [crash for crash in crashes if name in (None, crash.reader)]
        unanswered = {(crash.reader, crash.number) for crash in ended} - {(a.reader, a.number) for a in mine}
        return {
            "hostile_inputs": len(mine) + len(unanswered),
            "hostile_crashes": len(ended),
            "slowest_seconds": round(max((answer.seconds for answer in mine), default=0.0), 3),
            "largest_memory_mb": round(max((answer.memory for answer in mine), default=0) / 1e6, 1),
        }

    return {**figures(None), "by_reader": {name: figures(name) for name in WEIGHTS}}


def repeat(which: str, seed: int) -> int:
    """Read one input again, here; 1 when it is a crash."""
    name, number = which.split(":")
    with tempfile.TemporaryDirectory() as folder:
        reader = make_readers(Path(folder))[name]
        data = hostile(reader, name, seed, int(number))
        print(f"{len(data):,} bytes: {data[:300]!r}")
        fault = judge(reader, data)
    print(fault or "no crash")
    return 1 if fault else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 1 when any input was a crash."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.hostile", allow_abbrev=False, description=__doc__.splitlines()[0]
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="hostile files in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--seconds", type=float, default=INPUT_SECONDS, help="longest time for one (%(default)s)")
    parser.add_argument("--only", metavar="READER:NUMBER", help="read one input again")
    parsed = parser.parse_args(arguments)
    if parsed.only is not None:
        return repeat(parsed.only, parsed.seed)
    started = time.monotonic()
    found = run(parsed.inputs, parsed.seed, parsed.workers, parsed.seconds)
    print(json.dumps({**found, "wall_seconds": round(time.monotonic() - started, 1)}))
    return 1 if found["hostile_crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())

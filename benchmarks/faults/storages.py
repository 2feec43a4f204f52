"""Faults of the storage and a notice before the end, each a small sweep that is disturbed once and then goes on.

Each fault gives a line of the table: what was done, what the sweep said, and whether the ledger is the undisturbed
one's afterwards. A full or read-only storage is a real file system of some megabytes (a tmpfs, which
takes root); slow and failing ones are the store's folder with its calls delayed or failing.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.forked import drive, forked
from benchmarks.faults.grid import Grid, differences, ledger_of
from golf.config.config import override_all, to_plain
from golf.runtime.files import write_json
from tune.cache.backend import LocalStorage
from tune.records.layout import Storage

ROOT = Path(__file__).resolve().parents[2]
DISK_MEGABYTES = 24
NOTICE_SECONDS = 120.0
NOTICE_STEPS = 400
_CALLS = ("chunks", "save", "create", "overwrite", "files", "remove")
_OUTAGE_SECONDS, _DELAY_SECONDS = 6.0, 0.05
_LIMIT_SECONDS = 240.0
_BEFORE_SECONDS = 2.0


@dataclass(frozen=True)
class Row:
    """One fault and what became of it."""

    fault: str
    outcome: str
    recovered: bool
    """Whether the ledger was the undisturbed one's at the end."""


def rows(grid: Grid, root: Path) -> Iterator[Row]:
    """A row for each fault, as it is known."""
    calm = root / "calm"
    sweep(grid, calm)
    reference, calm_seconds = ledger_of(Storage(calm / "storage")), _seconds_of(calm)
    yield on_a_disk("storage full", grid, root / "full", reference, _fill, _free)
    yield on_a_disk("storage read-only", grid, root / "read-only", reference, _forbid, _allow)
    yield slow(grid, root / "slow", reference, calm_seconds)
    yield failing(grid, root / "failing", reference)
    yield preemption(grid, root / "notice")


def sweep(grid: Grid, root: Path, before: Callable[[], object] = lambda: None, at_seconds: float | None = None) -> str:
    """Run or go on with the sweep in `root`; what it said.

    Args: before: done in the driver's process; at_seconds: after which the driver is killed, if it has not ended.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root.with_name(f"{root.name}.said")

    def act() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 2)
        before()
        drive(grid, Storage(root / "storage"))

    pid, deadline = forked(act), time.monotonic() + (at_seconds or _LIMIT_SECONDS)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    return path.read_text()


def on_a_disk(
    fault: str,
    grid: Grid,
    root: Path,
    reference: Mapping[str, Any],
    spoil: Callable[[Path], None],
    mend: Callable[[Path], None],
) -> Row:
    """The sweep on a small file system that is spoiled after it has begun, and mended."""
    with small_disk(root) as mounted:
        if not mounted:
            return Row(fault, "not tried: no right to mount a file system", recovered=False)

        # What is open for writing keeps a file system from being made read-only, so the driver is killed first.
        sweep(grid, root, at_seconds=_BEFORE_SECONDS)
        spoil(root)
        said = sweep(grid, root)
        known = entries_told(root)
        mend(root)
        sweep(grid, root)
        return Row(fault, f"{known or last_line(said)}; mended, the same command", _same(reference, root))


def entries_told(root: Path) -> str:
    """The causes that the ledger has of failed trials."""
    causes = {str(entry["cause"]) for entry in ledger_of(Storage(root / "storage")).values() if entry["cause"]}
    return "; ".join(sorted(cause for cause in causes if not cause.startswith("over the cap")))


def slow(grid: Grid, root: Path, reference: Mapping[str, Any], calm_seconds: float) -> Row:
    """Every call of the store late."""
    began = time.monotonic()
    sweep(grid, root, lambda: spoil_store_here(lambda: time.sleep(_DELAY_SECONDS)))
    took = time.monotonic() - began
    done = f"{1000 * _DELAY_SECONDS:.0f} ms for each of its calls: {took:.0f} s instead of {calm_seconds:.0f} s"
    return Row("storage slow", done, _same(reference, root))


def failing(grid: Grid, root: Path, reference: Mapping[str, Any]) -> Row:
    """A fifth of the store's calls failing for a while."""
    until, chance = time.monotonic() + _OUTAGE_SECONDS, random.Random(0)

    def fail() -> None:
        if time.monotonic() < until and chance.random() < 0.2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    sweep(grid, root, lambda: spoil_store_here(fail))
    told = entries_told(root) or "nothing was lost"
    first = _same(reference, root)
    if not first:
        sweep(grid, root)
    again = "" if first else "; the same command"
    outcome = f"a fifth of the store's calls fail for {_OUTAGE_SECONDS:.0f} s: {told}{again}"
    return Row("storage returning errors", outcome, _same(reference, root))


def preemption(grid: Grid, root: Path) -> Row:
    """SIGTERM in the middle of a training: a state is saved within the notice, and the same command goes on from it."""
    root.mkdir(parents=True)
    write_json(root / "config.json", to_plain(override_all(grid.base, {"schedule.steps": NOTICE_STEPS})))
    out, log = root / "run", root / "said"
    command = [sys.executable, "-m", "golf", "train", str(root / "config.json"), "--data", str(grid.data)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(folder: Path, file: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, "--out", str(folder)], cwd=ROOT, env=environment, stdout=file, stderr=file)

    with log.open("w") as file:
        calm = start(root / "calm", file)
        calm.wait()
        told = log.read_text().count("train_loss")
        process = start(out, file)
        deadline = time.monotonic() + 120
        while log.read_text().count("train_loss") == told and time.monotonic() < deadline:
            time.sleep(0.05)
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(NOTICE_SECONDS)
        took, saved = time.monotonic() - sent, list(out.glob("state.*"))
        process.kill()
        start(out, file).wait()
    same = _weights(out) == _weights(root / "calm")
    said = f"its state was saved {took:.1f} s after the SIGTERM" if saved else "no state was saved"
    return Row("SIGTERM with notice", f"{said}; the same command", bool(saved) and same)


def _weights(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("live.*"))]


def spoil_store_here(act: Callable[[], None]) -> None:
    """Have this process, and those forked from it, do `act` at each call of a store in a folder."""
    for name in _CALLS:
        setattr(LocalStorage, name, _spoiled(getattr(LocalStorage, name), act))


def _spoiled(call: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    def spoiled(self: LocalStorage, *arguments: Any) -> Any:
        with self._explained("use", str(arguments[0])):
            act()
        return call(self, *arguments)

    return spoiled


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of DISK_MEGABYTES at `folder`; False where it cannot be made."""
    folder.mkdir(parents=True)
    size = f"size={DISK_MEGABYTES}m"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "faults", str(folder)], check=False, capture_output=True)
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)


def _free(folder: Path) -> None:
    (folder / "filler").unlink(missing_ok=True)


def _forbid(folder: Path) -> None:
    deadline = time.monotonic() + 10  # the killed driver's trials have to be gone
    while time.monotonic() < deadline:
        if subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{folder} cannot be made read-only")


def _allow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def _same(reference: Mapping[str, Any], root: Path) -> bool:
    return not differences(reference, ledger_of(Storage(root / "storage")))


def _seconds_of(root: Path) -> float:
    lines = (root / "work.log").read_text().splitlines()
    return float(lines[-1].split()[0]) - float(lines[0].split()[0])

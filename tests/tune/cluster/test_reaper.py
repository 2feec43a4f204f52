"""What is ended with a temporary folder, and what is not."""

import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import sys, time
from tune.cluster.reaper import ReapedDirectory
print(ReapedDirectory("reaped-").path, flush=True)
time.sleep(600)
"""


def reader(file: Path, name: str, folder: str | None = None) -> "subprocess.Popen[bytes]":
    """A process of that name which holds a file open; with `folder` as its TMPDIR."""
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    environment |= {} if folder is None else {"TMPDIR": folder}
    command = ["/bin/bash", "-c", f"exec -a '{name}' tail -f {file}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_what_a_killed_process_leaves() -> None:
    """Fault: Ray's processes that wrote a title over their environment live on; a person's own look at a log ends."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        folder = Path(driver.stdout.readline().strip())
        log = folder / "log"
        log.touch()
        by_folder, by_title, person = reader(log, "raylet", str(folder)), reader(log, "ray::Agent"), reader(log, "less")
        try:
            while not all(
                Path(f"/proc/{one.pid}/exe").resolve().name == "tail" for one in (by_folder, by_title, person)
            ):
                time.sleep(0.05)
            driver.kill()
            assert by_folder.wait(timeout=30) == -9
            assert by_title.wait(timeout=30) == -9
            deadline = time.monotonic() + 30
            while folder.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not folder.exists()
            assert person.poll() is None
        finally:
            for process in (by_folder, by_title, person):
                process.kill()
                process.wait()

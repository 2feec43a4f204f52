"""File systems with faults: read-only, full, without locks, on another clock; tried for real."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from golf.cli.main import main
from golf.doctor.finding import Finding, State
from golf.doctor.storage import check_kind, check_skew, check_storage, mount_of

ROOT = Path(__file__).resolve().parents[3]
NO_LOCKS = "#include <errno.h>\nint flock(int file, int how) { %s }\n"
"""A C library's lock of a file system that has none: it says so, or it says yes to everyone."""
PROBE = """
import sys
from pathlib import Path
from golf.doctor.storage import check_locks
finding = check_locks(Path(sys.argv[1]))
print(finding.state, finding.found)
"""


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system in memory; skips where none may be mounted."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    """Findings by the name of their check."""
    return {finding.check: finding for finding in findings}


def test_a_sound_folder_is_left_as_it_was(tmp_path: Path) -> None:
    """Fault: a sound file system is accused, or a folder is made or a file left there."""
    findings = by_check(check_storage(tmp_path / "a" / "storage"))
    tried = ("writable", "rename", "hard links", "locks", "clock of the files")
    assert {name: findings[name].state for name in tried} == dict.fromkeys(tried, State.OK)
    assert findings["fsync"].state != State.FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder(tmp_path: Path) -> None:
    """Fault: a folder that cannot be written passes, or ends the check with a traceback."""
    with mounted(tmp_path, "ro"):
        found = by_check(check_storage(tmp_path / "storage"))
        assert found["writable"].state == State.FAILED
        assert "rw" in found["writable"].remedy
        assert "locks" not in found


def test_a_full_folder(tmp_path: Path) -> None:
    """Fault: a full disk is found after an hour of training."""
    with mounted(tmp_path, "size=1m"):
        (tmp_path / "big").write_bytes(bytes(1_000_000))
        found = by_check(check_storage(tmp_path))
        assert found["free space"].state == found["writable"].state == State.FAILED
        assert "full" in found["writable"].remedy
        assert found["file system"].state == State.WARNING  # in main memory
        assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """Fault: a path that is a file passes."""
    (tmp_path / "storage").touch()
    assert by_check(check_storage(tmp_path / "storage"))["writable"].state == State.FAILED


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("errno = ENOLCK; return -1;", "failed none: No locks available"),
        ("return 0;", "failed two processes get the same lock"),
    ],
)
def test_a_folder_without_locks(tmp_path: Path, body: str, says: str) -> None:
    """Fault: a file system that refuses locks, or grants each to everyone, spoils a ledger."""
    source, library = tmp_path / "locks.c", tmp_path / "locks.so"
    source.write_text(NO_LOCKS % body)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler to make a file system without locks")
    variables = {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", PROBE, str(tmp_path)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == says


def test_a_servers_clock(tmp_path: Path) -> None:
    """Fault: files dated by another clock pass."""
    assert check_skew(tmp_path).state == State.OK
    assert check_skew(tmp_path, lambda: time.time() + 5).state == State.WARNING
    assert check_skew(tmp_path, lambda: time.time() - 3600).state == State.FAILED


def test_kinds_of_file_systems(tmp_path: Path) -> None:
    """Fault: a container's own layer is taken for a disk, or the mount above for the one below it."""
    mounts, folder = tmp_path / "mounts", tmp_path / "my disk" / "golf"
    folder.mkdir(parents=True)
    place = str(folder.parent).replace(" ", "\\040")
    mounts.write_text(
        "22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw\n"
        f"30 22 0:40 / {place} rw - nfs4 server:/golf rw\n"
        f"31 22 0:41 / {place}x rw - tmpfs none rw\n"
    )
    assert check_kind(tmp_path, mounts).state == State.WARNING
    found = check_kind(folder, mounts)
    assert (found.state, "nfs4, over a network" in found.found) == (State.OK, True)
    assert mount_of(folder, tmp_path / "nothing") is None


def test_the_command_fails_when_a_check_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a script goes on where something failed; JSON that is none."""
    (tmp_path / "storage").touch()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "storage"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    failed = [finding["check"] for finding in answer["findings"] if finding["state"] == "failed"]
    assert (ended.value.code, "writable" in failed, answer["failed"]) == (1, True, len(failed))

"""Commands that run on a cluster: their lines and exit codes come back, wrong addresses are explained."""

import argparse
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobType

from tune.cluster import remote_job as remote
from tune.cluster.address import check_places, is_remote
from tune.cluster.remote_job import _follow, explained, run_there

SCRIPT = """
import pathlib, sys
def sweep():
    print(*sys.argv[1:])
    note = pathlib.Path("golf/note.txt").read_text()
    print(note, [path.name for path in pathlib.Path().iterdir()], file=sys.stderr)
    return 7
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one command, and things that must stay at home."""
    for name, text in (("golf/note.txt", "my code of now"), ("tune/cli/main.py", SCRIPT)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    for name in ("storage", ".venv", ".git", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "big").write_text("x")
    monkeypatch.setattr(remote, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's call of aiohttp
@pytest.mark.usefixtures("cluster", "project")
def test_a_job_is_the_same_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: other arguments or code there than here, lines lost, failure taken for success, gigabytes sent."""
    url = f"http://{ray._private.worker.global_worker.node.webui_url}"
    monkeypatch.setattr(remote, "_WAIT_SECONDS", 10.0)
    assert run_there("sweep", ["two words", "--address", f"job:{url}", "--x=1"], f"job:{url}") == 7
    lines = capsys.readouterr().out.splitlines()
    assert f"two words --address job:{url} --x=1 --address auto" in lines
    files = next(line for line in lines if line.startswith("my code of now"))
    assert not [name for name in ("storage", ".venv", ".git", "data") if f"'{name}'" in files]


class BrokenOnce:
    """A job's log whose first stream breaks in the middle of a line."""

    def __init__(self) -> None:
        self.streams = 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        """The log, as Ray streams it: always from its beginning."""
        self.streams += 1
        yield "one\ntw"
        if self.streams == 1:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        yield "o\nthree\n"

    def get_job_info(self, job: str) -> JobDetails:
        """It has ended."""
        return JobDetails(type=JobType.SUBMISSION, status=JobStatus.SUCCEEDED, entrypoint="", driver_exit_code=0)


def test_a_broken_connection_repeats_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: after a break lines come twice or not at all."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert _follow(BrokenOnce(), "job", "http://127.0.0.1:8265") == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_no_cluster_there() -> None:
    """Fault: a traceback, or a wait without end, when the tunnel is not open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError, match=r"ray dashboard cluster\.yaml"):
            run_there("script.py", [], f"job:http://127.0.0.1:{free.getsockname()[1]}")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (AuthenticationError("Forbidden: Invalid authentication token"), PermissionError, "auth_token"),
        (RuntimeError("Version mismatch: The cluster was started with: Ray: 2.50.0"), ValueError, "2.50.0"),
        (ConnectionError("Failed to connect"), ConnectionError, "8265"),
    ],
)
def test_what_ray_raises_is_explained(error: Exception, kind: type[Exception], message: str) -> None:
    """Fault: a user is left with Ray's own words, or a bug of ours is called a missing cluster."""
    with pytest.raises(kind, match=message), explained("http://127.0.0.1:8265"):
        raise error
    with pytest.raises(PermissionError), explained("auto"):
        raise ConnectionError("Failed to connect") from RuntimeError("InvalidAuthToken: missing")
    with pytest.raises(KeyError), explained("auto"):
        raise KeyError("a bug")


def test_addresses_and_paths_that_cannot_be_meant() -> None:
    """Fault: results in a job's own folder, which is deleted with it; a wait for a client that is not there."""
    for storage, data, address, fault in (
        ("storage", None, "job", "--storage"),
        ("/mnt/golf", "data", "auto", "--data"),
        ("/mnt/golf", None, "ray://head:10001", "--address ray://head:10001: .* give --address job"),
        ("/mnt/golf", None, "job:http://10.0.0.1:8265", None),
        ("storage", "data", None, None),
    ):
        parsed = argparse.Namespace(
            storage=Path(storage), data=data and Path(data), address=address, store="s3://b/x", mirror=None
        )
        if fault is None:
            check_places(parsed)
        else:
            with pytest.raises(ValueError, match=fault):
                check_places(parsed)


def test_which_addresses_are_elsewhere() -> None:
    """Fault: a command submits itself again and again, or a job runs on the laptop."""
    assert all(map(is_remote, ("job", "job:http://10.0.0.1:8265")))
    assert not any(map(is_remote, (None, "auto", "10.0.0.1:6379", "jobs")))

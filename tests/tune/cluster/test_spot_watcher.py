"""The notice of a spot machine, read from a service that behaves like Amazon's; drained nodes are in test_ddp."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer

import pytest

from tests.tune.cluster.metadata import Metadata
from tune.cluster.spot_watcher import interruption_time, time_of


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The service's address."""
    service = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{service.server_port}"
    Metadata.taken = None
    service.shutdown()
    service.server_close()
    thread.join()


def test_the_notice_and_none(endpoint: str) -> None:
    """Fault: a machine drained that nobody wants, a notice overlooked or read in another time zone."""
    assert interruption_time(endpoint) is None
    Metadata.taken = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert interruption_time(endpoint) == Metadata.taken


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"time": 7}', b'{"time": "soon"}'])
def test_a_notice_that_cannot_be_read_is_one(text: bytes) -> None:
    """Fault: a machine that is taken away unnoticed because a field of the notice changed."""
    assert timedelta(seconds=100) < time_of(text) - datetime.now(UTC) <= timedelta(seconds=120)


def test_a_service_that_is_not_there() -> None:
    """Fault: silence taken for "no notice" where the address is wrong."""
    with pytest.raises(OSError, match="refused"):
        interruption_time("http://127.0.0.1:9")

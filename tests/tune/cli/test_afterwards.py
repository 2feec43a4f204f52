"""The command of --then: told how the sweep ended, whatever the end."""

import contextlib
from pathlib import Path

import pytest

from golf.config.presets import PRESETS
from golf.train.checkpoint_policy import CheckpointPolicy
from tests.tune.entries import scored
from tune.cli.afterwards import Afterwards
from tune.cli.options import Machines, Places
from tune.cli.session import Session
from tune.cluster.limits import Ended, Stop
from tune.cluster.retry_policy import RetryPolicy
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.workloads.gepa.space import make_trial

LIMIT = Ended(Stop("the 2 h are used", "more continues", ends_running=True))


def session_of(root: Path, tracking_uri: str = "") -> Session:
    """A session that has started nothing."""
    places = Places(storage=Storage(root), tracking_uri=tracking_uri, store="", budget_bytes=None, mirror=None)
    machines = Machines(
        address=None,
        workers=1,
        cpus_per_worker=1.0,
        gpus_per_worker=None,
        concurrent=1,
        checkpoint_policy=CheckpointPolicy(),
        retry_policy=RetryPolicy(),
    )
    return Session(places, machines, "demo")


@pytest.mark.parametrize(
    ("ended", "error", "stopped", "status", "told"),
    [
        (Ended(), None, False, 0, "s finished 2.125"),
        (LIMIT, None, False, 0, "s limit 2.125"),
        (Ended(), None, False, 1, "s failed 2.125"),
        (Ended(), OSError("no cluster"), False, None, "s failed 2.125"),
        (Ended(), None, True, 130, "s interrupted 2.125"),
        (Ended(), KeyboardInterrupt(), False, None, "s interrupted 2.125"),
        (Ended(), KeyboardInterrupt(), True, None, None),
    ],
)
def test_the_command_learns_how_the_sweep_ended(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    ended: Ended,
    error: BaseException | None,
    stopped: bool,
    status: int | None,
    told: str | None,
) -> None:
    """Fault: a rented machine that runs on after a failure, one that is ended although Ctrl-C came twice."""
    search = Search(SearchConfig(spaces=({"seed": [1, 2]},)), lambda point: make_trial(PRESETS["demo"], point, "d"))
    trial = search.ask()
    assert trial is not None
    session = session_of(tmp_path)
    Ledger(session.storage.ledger).append(scored(trial, 2.125))
    command = 'echo "$GOLF_SWEEP_NAME $GOLF_SWEEP_STATE $GOLF_SWEEP_BEST_BPB"; exit 3'
    expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    with expected, Afterwards(command, session, "s", search) as afterwards:
        session.ended, session.stopped = ended, stopped
        afterwards.status = status
        if error is not None:
            raise error
    printed = capfd.readouterr().out.splitlines()
    assert (told in printed) == (told is not None)
    assert any("--then ended with status 3" in line for line in printed) == (told is not None)

"""`golf-sweep ui`: MLflow's pages of a storage folder in a browser, from the ledger, until Ctrl-C."""

import argparse
import contextlib
import signal
import webbrowser
from collections.abc import Iterator

from golf.cli.terminal import python_line
from golf.config.config import nearest
from tune.cli.mirror import show_in_mlflow
from tune.records.layout import Storage
from tune.records.ledger import Ledger, warn_of_damage
from tune.tracking.addresses import absolute_uri, database_path, default_uri
from tune.tracking.server import running_server
from tune.tracking.tracker import pages_of, shown_pages


def ui_command(parsed: argparse.Namespace) -> int:
    """Brings MLflow up to date with the ledger, serves it, and shows a sweep's table.

    Returns: the exit status. Raises: ValueError without such a sweep; OSError when nothing can be served.
    """
    storage = Storage(parsed.storage.resolve())
    sweep, experiment = _subject(storage, parsed.name)
    uri = absolute_uri(parsed.tracking_uri) if parsed.tracking_uri else default_uri(storage.root)
    problem = show_in_mlflow(storage, uri)
    if problem is not None:
        print(problem)
    if database_path(uri) is None:
        _show(pages_of(uri, uri, experiment, sweep) or [uri], parsed.no_browser)
        return 0
    print("starting MLflow", flush=True)
    with _ended_by_signals(), running_server(uri, parsed.port) as (address, server):
        _show(pages_of(uri, address, experiment, sweep) or [address], parsed.no_browser)
        print("Ctrl-C ends it", flush=True)
        status = server.wait()
        raise OSError(f"the MLflow server ended by itself, exit status {status}; start it again")
    return 0


def _subject(storage: Storage, name: str | None) -> tuple[str, str]:
    """Returns the sweep or study to show, the last one of the ledger without a name, and its experiment."""
    warn_of_damage(storage.ledger)
    presets = {entry.sweep: entry.preset for entry in Ledger(storage.ledger).trials()}
    if not presets:
        raise ValueError(f"{storage.ledger} has no trials; run a sweep first, or name another folder with --storage")
    if name is not None and name not in presets:
        show = python_line("tune", "ledger", "show", "--ledger", str(storage.ledger))
        raise ValueError(f'no sweep or study "{name}" in {storage.ledger}{nearest(name, presets)}; {show} lists them')
    sweep = list(presets)[-1] if name is None else name
    return sweep, presets[sweep]


def _show(pages: list[str], no_browser: bool) -> None:
    """Prints the addresses, and opens the first one in a browser with windows, where there is one."""
    print(shown_pages(pages))
    with contextlib.suppress(webbrowser.Error):
        browser = None if no_browser else webbrowser.get()
        if browser is not None and type(browser) is not webbrowser.GenericBrowser:  # one in this terminal
            browser.open(pages[0])


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes SIGTERM, and SIGHUP of a closed terminal, end the block as Ctrl-C does: quietly."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        print("MLflow is ended")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

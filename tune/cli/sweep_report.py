"""What the commands print at the end of a sweep, of a preset or of a script."""

import hashlib
from pathlib import Path

from golf.cli.start import imported
from golf.cli.terminal import this_python
from golf.runtime.files import write_bytes
from tune.cli.compressors import compressors_line
from tune.cli.outcome_table import ending_of, score_text, table
from tune.cli.progress import best_of
from tune.cli.session import Session
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.report.text import seeds_options
from tune.search.search import Search
from tune.tracking.addresses import database_page, database_path


def entries_of(storage: Storage, name: str, search: Search) -> list[TrialEntry]:
    """Returns the last entries of the search's trials in the sweep called `name`."""
    return [entry for entry in Ledger(storage.ledger).latest(name) if entry.trial in search.given]


def show_sweep(session: Session, name: str, search: Search, continued: str) -> int:
    """Prints the table of trials and where to look further.

    Args: session: in which the trials ran; name: of the sweep; search: that chose the trials; continued: what is
        printed after Ctrl-C behind "stopped: what was finished is kept".
    Returns: the exit status.
    """
    storage = session.storage
    entries, root = entries_of(storage, name, search), storage.root
    print(f"\n{table(entries, root)}\n")
    best = best_of(entries)
    if best is not None:
        print(f"best: {score_text(best)}, {best.name}; its folder {storage.trial(name, best.trial)}")
        compared = compressors_line(storage.data / best.dataset)
        if compared is not None:
            print(compared)
    ending = ending_of(entries, root)
    if ending.text:
        print(ending.text)
    print(f"every number: {storage.ledger}")
    print(published(session, name, bool(entries)))
    if best is not None and not session.stopped:
        print(f"is it luck? {seeds_command(name, root)}")
    stop, num_stopped = session.ended.stop, session.ended.num_stopped
    saved = f"; {num_stopped} running trial{'s were' if num_stopped != 1 else ' was'} stopped" if num_stopped else ""
    if session.stopped:
        print(f"stopped: what was finished is kept{saved}{continued}")
        return 130
    if stop is not None:
        print(f"stopped: {stop.reason}{saved}; {stop.remedy}")
    return ending.status


def published(session: Session, name: str, has_entries: bool) -> str:
    """Brings MLflow and the report up to date with the ledger, where they are not. Returns: lines that say where.

    Args: session: in which the trials ran; name: of the sweep; has_entries: whether there is anything to report.
    """
    storage, database = session.storage, database_path(session.uri)
    stamp, report = storage.sweep(name) / "published", storage.report(name) / "report.html"
    if database is not None and stamp.is_file() and stamp.read_text() == _state(storage, name, database):
        return f"report: {report}\n{database_page(session.uri, database, name)}"
    problem = session.send(name)
    if problem is not None:
        return problem
    page = str(imported("tune.tracking.tracker:runs_page")(session.uri, session.preset, name))
    if not has_entries or session.stopped:
        return page
    line = str(imported("tune.cli.report:report_at_end")(storage, name, session.uri, session.preset))
    if database is not None and line == f"report: {report}":
        write_bytes(stamp, _state(storage, name, database).encode())
    return f"{line}\n{page}"


def _state(storage: Storage, name: str, database: Path) -> str:
    """Returns a digest of what report and MLflow are made from, and of them as they are."""
    code = sorted(Path(__file__).parents[1].rglob("*.py"))
    report = sorted(path for path in storage.report(name).glob("*") if path.is_file())
    files = [path for path in (storage.ledger, database, *report, *code) if path.exists()]
    states = [(str(path), (state := path.stat()).st_size, state.st_mtime_ns, state.st_ino) for path in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def seeds_command(sweep: str, root: Path) -> str:
    """Returns the command that runs the best trial of a sweep under several seeds."""
    program = f"{this_python()} run_seeds.py" if Path("run_seeds.py").is_file() else "golf-seeds"
    return f"{program} {seeds_options(sweep, root)}"

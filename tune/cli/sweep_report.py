"""What the commands print at the end of a sweep, of a preset or of a script."""

from tune.cli.compressors import compressors_line
from tune.cli.outcome_table import ending_of, score_text, table
from tune.cli.progress import best_of
from tune.cli.report import report_at_end, seeds_command
from tune.cli.session import Session
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search
from tune.tracking.tracker import runs_page, sync


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
    sent = sync(Ledger(storage.ledger).latest(name), session.uri, session.preset, storage)
    print(f"every number: {storage.ledger}")
    if sent.problem is None and entries and not session.stopped:
        print(report_at_end(storage, name, session.uri, session.preset))
    print(sent.problem or runs_page(session.uri, session.preset, name))
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

"""Which trials of a sweep are not run again."""

from collections.abc import Mapping

from tune.records.entries import FailureKind, TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.provenance import outdated

_NO_TAGS: Mapping[str, str] = {}


def finished(
    sweep: str, storage: Storage, code: str, keep_screened: bool = True, tags: Mapping[str, str] = _NO_TAGS
) -> list[TrialEntry]:
    """Returns the entries of trials that are not run again: all but those that failed of outer causes or are outdated.

    Args:
        sweep: its name.
        storage: with the ledger.
        code: digest of the code that would run them.
        keep_screened: whether trials that were screened out are finished.
        tags: that an entry has to have, such as what its run was judged by.
    """

    def is_finished(entry: TrialEntry) -> bool:
        if outdated(entry, code) or any(entry.tags.get(name) != value for name, value in tags.items()):
            return False
        if entry.state == TrialState.SCREENED:
            return keep_screened
        diverged = entry.failure is not None and entry.failure.kind == FailureKind.DIVERGED
        return entry.state != TrialState.FAILED or diverged

    return [entry for entry in Ledger(storage.ledger).latest(sweep) if is_finished(entry)]

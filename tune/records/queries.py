"""The trials among the ledger's entries, and the last entry of each."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Entry = TypeVar("Entry", bound=Mapping[str, Any])
"""A ledger entry."""
TRIAL = "trial"
"""Kind of a trial's entries."""


def trials_of(entries: Iterable[Entry], sweep: str | None = None) -> list[Entry]:
    """The trial entries, of one sweep where it is named, in the ledger's order."""
    return [e for e in entries if e.get("kind") == TRIAL and (sweep is None or e.get("sweep") == sweep)]


def latest(entries: Iterable[Entry], sweep: str | None = None) -> list[Entry]:
    """The last entry of each trial of each sweep, or of one sweep, in the order of their first."""
    return list({(entry.get("sweep"), entry.get("trial")): entry for entry in trials_of(entries, sweep)}.values())

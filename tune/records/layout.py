"""Where everything below the storage root lies. The only place that joins these names."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tune.records.entries import TrialEntry

REPORT_FORMATS = ("html", "md", "svg")
"""Suffixes of the files of a report: the page, its short form for a pull request, and each figure."""
TABLE_FORMATS = (".csv", ".json", ".parquet")
"""Suffixes of the files that tables are written to."""
_LOGS = ("log.txt", "output.log", "failure.log")
"""What a run, a script and a failure write in the trial's folder."""


@dataclass(frozen=True)
class Storage:
    """The storage root: an absolute folder that every node sees."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The append-only ledger, the source of every number."""
        return self.root / "ledger.jsonl"

    @property
    def data(self) -> Path:
        """Prepared datasets."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """Results of stages, shared by all sweeps."""
        return self.root / "store"

    @property
    def optuna(self) -> Path:
        """The ledger's sweeps as Optuna studies, a view that is made anew."""
        return self.root / "optuna.db"

    def sweep(self, sweep: str) -> Path:
        """The folder of one sweep."""
        return self.root / "sweeps" / one_name(sweep)

    def trial(self, sweep: str, trial: str) -> Path:
        """The run folder of one trial."""
        return self.sweep(sweep) / "trials" / one_name(trial)

    def files(self, entry: TrialEntry) -> dict[str, Path]:
        """Returns the files of a trial by their use; they may be gone.

        They are in the trial's folder, wherever the storage is now: only the last part of a path in the entry counts.
        """
        folder = self.trial(entry.sweep, entry.trial)
        return {use: folder / Path(path).name for use, path in entry.files.items() if Path(path).name}

    def logs(self, entry: TrialEntry) -> list[Path]:
        """Returns the logs of a trial that are there: what it printed, and the last lines of a failure."""
        folder = self.trial(entry.sweep, entry.trial)
        return [path for name in _LOGS if (path := folder / name).is_file()]

    def relative(self, path: Path) -> str:
        """A path below the root as the ledger names it."""
        return path.relative_to(self.root).as_posix()

    def screened(self, sweep: str) -> Path:
        """Scores of first chunks of a sweep's trials, as a ledger."""
        return self.sweep(sweep) / "screened.jsonl"

    def stop_file(self, sweep: str) -> Path:
        """The file whose existence asks a sweep's running trials to save their state and end."""
        return self.sweep(sweep) / "stop"

    def status(self, sweep: str) -> Path:
        """What the driver of a running sweep says of it."""
        return self.sweep(sweep) / "status.json"

    def used(self, sweep: str) -> Path:
        """The hours and GPU-hours that a sweep has used in all its starts."""
        return self.sweep(sweep) / "used.json"

    def report(self, name: str) -> Path:
        """The folder of the report on a sweep or seed study; a name that is no plain word is a folder all the same."""
        plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._=+-]{0,99}", name) and not name.endswith(" ")
        mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
        return self.root / "reports" / (name if plain else f"_{mark}")

    def study(self, study: str) -> Path:
        """What a finished seed study leaves for a submission."""
        return self.root / "studies" / one_name(study)

    def ray(self, sweep: str) -> Path:
        """Ray's own bookkeeping of a sweep; can be deleted at any time."""
        return self.root / "ray" / one_name(sweep)


def one_name(name: str) -> str:
    """`name`, which is that of one folder and leads nowhere else. Raises: ValueError."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode(errors="replace")) > 255:
        raise ValueError(f"{name[:80]!r} must be one folder's name: without /, not . or .., at most 255 bytes")
    return name

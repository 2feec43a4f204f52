"""The three verbs for notebooks and scripts: run a sweep, run a seed study, read what is there.

    from tune import load, seeds, sweep

    results = sweep("demo", trials=12, space={"ttt.lr": "log:0.003..0.03"})
    results.best.bpb
    study = seeds("demo", seeds=[1, 2, 3], baseline="demo-seeds")
    load("storage").table("demo").to_pandas()

Options are those of the commands by their names, with _ for -: `run_sweep.py --help`, `run_seeds.py --help`. A call
continues what it began, as the commands do.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.cli.start import function_of, parse
from golf.submission.study import StudyRecord
from golf.submission.study_file import read_study
from tune.cli.command_file import MakeParser, read_command
from tune.cli.parsers import seeds_parser, sweep_parser
from tune.cli.progress import best_of
from tune.cli.script_parsers import script_seeds_parser, script_sweep_parser
from tune.records.entries import TrialEntry
from tune.records.export import Table, curve_table, trial_table
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.space import value_text


@dataclass(frozen=True)
class Results:
    """The trials of a storage folder, or of one of its sweeps."""

    storage: Path
    sweep: str | None = None
    """None: of all sweeps and seed studies."""

    @property
    def trials(self) -> list[TrialEntry]:
        """The last entry of every trial, in the order of the ledger."""
        ledger = Ledger(Storage(self.storage).ledger)
        return ledger.trials() if self.sweep is None else ledger.latest(self.sweep)

    @property
    def best(self) -> TrialEntry | None:
        """The best trial whose artifact fits; None where no trial has a score."""
        return best_of(self.trials)

    def table(self) -> Table:
        """Returns one row a trial as an Arrow table: `.to_pandas()`, `.to_pylist()`."""
        return trial_table(self.trials)

    def curves(self) -> Table:
        """Returns one row for each point of every curve: sweep, trial, curve, step, time in unix seconds, value."""
        return curve_table(self.trials, Ledger(Storage(self.storage).ledger).series)

    def study(self, name: str) -> StudyRecord:
        """Returns a seed study with its verdict. Raises: OSError, ValueError where there is none, or it is damaged."""
        return read_study(Storage(self.storage).study(name))


def load(storage: str | Path = "storage", sweep: str | None = None) -> Results:
    """Returns what a storage folder holds.

    Args: storage: the folder; sweep: only this sweep's trials.
    Raises: FileNotFoundError where it has no ledger; ValueError where the ledger has no such sweep.
    """
    path = Storage(Path(storage)).ledger
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the storage folder of a sweep")
    known = {entry.sweep for entry in Ledger(path).trials()}
    if sweep is not None and sweep not in known:
        raise ValueError(f'no sweep "{sweep}" in {path}; there are {", ".join(sorted(known))}')
    return Results(Path(storage), sweep)


def sweep(subject: str | Path, **options: Any) -> Results:
    """Runs or continues a sweep in this process.

    Args:
        subject: a preset, a config.json or a training script.
        options: of run_sweep.py; `space` and `set` are mappings of fields to choices and values.

    Returns: its trials.
    Raises: ValueError, OSError for what cannot be run; SystemExit for an option that there is not.
    """
    parsed = _run(sweep_parser, script_sweep_parser, subject, options)
    return Results(Path(parsed.storage), parsed.name or Path(subject).stem)


def seeds(subject: str | Path, **options: Any) -> StudyRecord:
    """Runs or continues a seed study in this process.

    Args: as of `sweep`, with the options of run_seeds.py; `name` is needed.
    Returns: the study with its verdict.
    Raises: as `sweep`.
    """
    if "name" not in options:
        raise ValueError('give the study a name: seeds("demo", name="demo-seeds")')
    parsed = _run(seeds_parser, script_seeds_parser, subject, options)
    return read_study(Storage(Path(parsed.storage)).study(parsed.name))


def _run(of_preset: MakeParser, of_script: MakeParser, subject: str | Path, options: Mapping[str, Any]) -> Namespace:
    line = read_command([str(subject), *_words(options)], of_preset, of_script)
    parsed = parse((of_script if line.is_script else of_preset)(), line.words)
    function_of(parsed.command)(parsed)
    return parsed


def _words(options: Mapping[str, Any]) -> list[str]:
    """Returns options as a command line has them; None and False leave one out."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Mapping):
            words += [f"{field}={_given(name, given)}" for field, given in value.items()]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += map(value_text, value)
        elif value is not True:
            words.append(str(value))
    return words


def _given(option: str, value: Any) -> str:
    """Returns what comes after FIELD=: a list is one value for `set`, and choices for all else."""
    return (
        ",".join(map(value_text, value)) if isinstance(value, (list, tuple)) and option != "set" else value_text(value)
    )

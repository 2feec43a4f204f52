"""The command `golf-sweep optuna`: writes the ledger's sweeps as Optuna studies."""

import argparse
from pathlib import Path

from golf.config.config import nearest
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger, warn_of_damage
from tune.search.optuna_study import write_studies


def optuna_command(parsed: argparse.Namespace) -> int:
    """Writes the file. Raises: ValueError, OSError when it cannot be done."""
    storage = Storage(parsed.storage.resolve())
    if not storage.ledger.is_file():
        raise FileNotFoundError(f"there is no ledger at {storage.ledger}; give --storage FOLDER")
    warn_of_damage(storage.ledger)
    path: Path = (parsed.to or storage.optuna).resolve()
    if parsed.to is not None and path.exists() and not parsed.force:
        raise ValueError(f"{path} exists; give --force to replace it")
    ledger = Ledger(storage.ledger)
    by_name: dict[str, list[TrialEntry]] = {}
    for entry in ledger.latest():
        by_name.setdefault(entry.sweep, []).append(entry)
    if parsed.name is not None and parsed.name not in by_name:
        raise ValueError(f'there is no sweep "{parsed.name}" in {storage.ledger}{nearest(parsed.name, by_name)}')
    chosen = by_name if parsed.name is None else {parsed.name: by_name[parsed.name]}
    write_studies(chosen, ledger, path)
    for name, entries in chosen.items():
        print(f"{name}: {len(entries)} trials")
    print(f"optuna-dashboard sqlite:///{path}   (pip install optuna-dashboard)")
    print(f"optuna best-trial --storage sqlite:///{path} --study-name {next(iter(chosen))}")
    return 0

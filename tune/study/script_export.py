"""The folder that a finished seed study of a script leaves: script_study.json, the script as it ran, the logs."""

import shlex
import shutil
from pathlib import Path

from golf.data.dataset import hash_file
from golf.submission.script_study import ScriptSeed, ScriptStudy, write_script_study
from golf.submission.study import StudyVerdict
from tune.records.entries import SEED, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger

_PLACES = ("env", "arg", "constant")


def export_script_study(storage: Storage, name: str, verdict: StudyVerdict) -> Path:
    """Writes the folder of a study of a script, over what an earlier export left there; returns its path.

    Raises: OSError naming what cannot be written; ValueError where no run left its script.
    """
    ledger, folder = Ledger(storage.ledger), storage.study(name)
    entries = sorted((e for e in ledger.latest(name) if not e.repeat), key=lambda entry: entry.seed or 0)
    folder.mkdir(parents=True, exist_ok=True)
    scripts = [path for entry in entries if (path := storage.files(entry).get("script")) and path.is_file()]
    if not scripts:
        raise ValueError(f'no run of "{name}" left its script; run it again')
    script = folder / scripts[0].name
    shutil.copyfile(scripts[0], script)
    for log in folder.glob("train_seed*.log"):
        log.unlink()
    first = entries[0]
    study = ScriptStudy(
        name=name,
        script=script.name,
        script_sha256=hash_file(script),
        command=_command(first),
        settings={f"{place}.{key}": value for place in _PLACES for key, value in first.config.get(place, {}).items()},
        unit=verdict.unit,
        device=next((str(entry.device) for entry in entries if entry.device is not None), None),
        versions=dict(first.environment),
        seeds=tuple(_seed(storage, entry, folder) for entry in entries),
        verdict=verdict,
    )
    write_script_study(folder, study)
    return folder


def _seed(storage: Storage, entry: TrialEntry, folder: Path) -> ScriptSeed:
    own, log = storage.files(entry).get("log"), folder / f"train_seed{entry.seed}.log"
    has_log = own is not None and own.is_file()
    if own is not None and has_log:
        shutil.copyfile(own, log)
    return ScriptSeed(
        seed=entry.seed or 0,
        trial=entry.trial,
        state=str(entry.state),
        reason=entry.reason,
        score=entry.score,
        label=entry.label,
        metrics=dict(entry.metrics),
        notes=entry.notes,
        log=log.name if has_log else None,
        log_sha256=hash_file(log) if has_log else None,
    )


def _command(entry: TrialEntry) -> str:
    """Returns the line of a shell that starts a run like an entry's, without its seed."""
    config = entry.config
    variables = [f"{key}={shlex.quote(value)}" for key, value in sorted(config["env"].items()) if key != SEED.upper()]
    flags = [f"--{key} {shlex.quote(value)}" for key, value in sorted(config["arg"].items())]
    launcher = str(config["launcher"])
    start = {
        "torchrun": f"torchrun --standalone --nproc_per_node={config['nproc']} {config['script']}",
        "python": f"python {config['script']}",
    }.get(launcher, launcher)
    return " ".join([*variables, start, *flags])

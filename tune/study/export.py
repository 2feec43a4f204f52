"""What a finished seed study leaves for a submission: a folder with study.json, the seeds' artifacts and their logs.

The ledger and the trials' files enter, the folder leaves; the ledger is the source of every number. An artifact that no
longer lies in its trial's folder comes from the store, or the record says that it is gone. study.json is written last,
so that it never names what is not there. No run of the configuration is left out.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, from_plain, to_plain
from golf.data.dataset import Dataset, hash_file
from golf.runtime.files import write_bytes, write_json
from golf.runtime.results import LADDER
from golf.submission.fields import STUDY_FILE
from golf.submission.study_file import STUDY_FORMAT
from golf.train.run_log import LOG_FILE
from tune.cache.backend import StoreError
from tune.cache.entries import Damaged
from tune.cache.store import Store
from tune.records.ledger import STAMPS, Ledger
from tune.records.layout import Storage
from tune.records.queries import latest
from tune.search.space import SEED
from tune.study.runs import Entry, repeat_of, run_of, seed_of, stream_of
from tune.study.verdict import TEXT

ARTIFACT = "artifact.golf"


def export_study(
    storage: Storage, name: str, verdict: Entry, dataset: Dataset | None = None, store: Store | None = None
) -> Path:
    """Write the folder of the study `name`, over what an earlier export left there.

    Args: verdict: on the study, as its entry; dataset: what it ran on, where it is at hand: its shards are listed;
        store: where artifacts may still be.
    Returns: the folder.
    Raises: OSError naming what cannot be written.
    """
    entries = Ledger(storage.ledger).entries()
    runs = sorted((entry for entry in latest(entries, name) if not repeat_of(entry)), key=seed_of)
    folder = storage.study(name)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [_seed_record(entry, folder, storage, store) for entry in runs]
    verdict = {field: value for field, value in verdict.items() if field not in (*STAMPS, "kind", "rows")}
    record = {
        "format": STUDY_FORMAT,
        "study": name,
        "preset": str(runs[0].get("preset") or ""),
        "track": verdict["track"],
        "config": _configuration(runs[0]),
        "data": _data_record(runs, dataset),
        "seeds": seeds,
        "verdict": {TEXT: "", **verdict},
    }
    write_json(folder / STUDY_FILE, record)
    _remove_others(folder, {seed[part]["file"] for seed in seeds for part in ("artifact", "log") if seed[part]})
    return folder


def _seed_record(entry: Entry, folder: Path, storage: Storage, store: Store | None) -> dict[str, Any]:
    """All that the ledger says of a seed, and its artifact put beside."""
    run, metrics, tags = run_of(entry), dict(entry.get("metrics") or {}), dict(entry.get("tags") or {})
    artifact, note = _bring_artifact(entry, folder, storage, store)
    return {
        "seed": run.seed,
        "trial": run.trial,
        "status": run.status,
        "cause": run.cause,
        "bpb": run.bpb,
        "nats": run.nats,
        "model_bytes": metrics.get("model_bytes"),
        "code_bytes": metrics.get("code_bytes"),
        "code_sha256": tags.get("code_sha256"),
        "stages_sha256": entry.get("code"),
        "train_seconds": run.train_seconds,
        "evaluation_seconds": run.evaluation_seconds,
        "cold": run.cold,
        "artifact": artifact,
        "artifact_note": note,
        "log": _bring_log(entry, folder, storage),
        "tags": tags,
        "versions": dict(entry.get("environment") or {}),
        "metrics": metrics,
        "ladder": _ladder(metrics, entry.get("chunks") or {}),
        "byte_groups": entry.get("ledger") or {},
        "curves": entry.get("curves") or {},
        "started": entry.get("started"),
        "ended": entry.get("ended"),
        "check": entry.get("check"),
    }


def _ladder(metrics: Mapping[str, Any], chunks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rungs that have a score, from below."""
    return [
        {
            "name": rung,
            "bpb": metrics[f"bpb_{rung}"],
            "nats_per_token": metrics[f"nats_{rung}"],
            "seconds": metrics[f"{rung}_seconds"],
            "chunks": chunks.get(rung, []),
        }
        for rung in LADDER
        if f"bpb_{rung}" in metrics
    ]


def _bring_artifact(
    entry: Entry, folder: Path, storage: Storage, store: Store | None
) -> tuple[dict[str, Any] | None, str | None]:
    """Have a seed's artifact in the folder; what it is, or why it is not there."""
    size = (entry.get("metrics") or {}).get("model_bytes")
    if size is None:
        return None, f"none was packed: {entry.get('status')}, {entry.get('cause')}"
    target = folder / f"artifact_seed{seed_of(entry)}.golf"
    part = target.with_name(f".{target.name}.part")
    source = storage.trial(str(entry["sweep"]), str(entry["trial"])) / ARTIFACT
    part.unlink(missing_ok=True)
    if source.is_file() and source.stat().st_size == size:
        _link_or_copy(source, part)
    else:
        why = f"has {source.stat().st_size} bytes, not {size}" if source.is_file() else "is not there"
        try:
            stored = "" if _fetched(entry, store, part) else "the store has none"
        except (Damaged, StoreError) as error:
            stored = str(error)
        if stored:
            return None, f"{source.name} of trial {entry['trial']} {why}, and {stored}"
    if part.stat().st_size != size:
        found = part.stat().st_size
        part.unlink()
        return None, f"what the store has of trial {entry['trial']} has {found} bytes, not {size}"
    os.replace(part, target)
    return {"file": target.name, "bytes": size, "sha256": hash_file(target)}, None


def _bring_log(entry: Entry, folder: Path, storage: Storage) -> dict[str, Any] | None:
    """Have the log that a seed's run wrote in the folder; what it is, or None where it is gone."""
    source = storage.trial(str(entry["sweep"]), str(entry["trial"])) / LOG_FILE
    target = folder / f"log_seed{seed_of(entry)}.txt"
    if source.is_file():
        write_bytes(target, source.read_bytes())
    elif not target.is_file():
        return None
    return {"file": target.name, "bytes": target.stat().st_size, "sha256": hash_file(target)}


def _link_or_copy(source: Path, target: Path) -> None:
    """One file under two names where the file system can; artifacts are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fetched(entry: Entry, store: Store | None, target: Path) -> bool:
    """Whether the store had the artifact of the trial's keys, which is now `target`."""
    if store is None:
        return False
    for key in entry.get("keys") or []:
        found = store.find(key)
        if found is not None and ARTIFACT in found.files:
            target.write_bytes(store.read(found, ARTIFACT))
            return True
    return False


def _configuration(entry: Entry) -> dict[str, Any]:
    """All fields but the seed, defaults filled in."""
    plain = to_plain(from_plain(RunConfig, entry.get("config") or {}))
    return {name: value for name, value in plain.items() if name != SEED}


def _data_record(runs: Sequence[Entry], dataset: Dataset | None) -> dict[str, Any]:
    """What the runs were trained and scored on."""
    digest = runs[0].get("data")
    known = dataset if dataset is not None and dataset.digest == digest else None
    sizes = next((stream.size for entry in runs if (stream := stream_of(entry)) is not None), (None, None))
    return {
        "digest": digest,
        "name": runs[0].get("dataset") if known is None else known.name,
        "files": None if known is None else dict(known.files),
        "train_tokens": None if known is None or known.train is None else known.train.num_tokens,
        "validation_tokens": sizes[0],
        "validation_bytes": sizes[1],
    }


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove artifacts and logs of seeds that an earlier export named and this does not."""
    for path in (*folder.glob("artifact_seed*.golf"), *folder.glob("log_seed*.txt")):
        if path.name not in kept:
            path.unlink()

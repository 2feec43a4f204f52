"""The logs of a study's seeds for the record folder, unchanged; a log of other results than the study's is refused."""

from pathlib import Path

from golf.submission.study import SeedRecord, StudyRecord
from golf.train.run_log import exact_line


def log_name(seed: int) -> str:
    """Returns the name of a seed's log in a record folder."""
    return f"train_seed{seed}.log"


def seed_log(folder: Path, study: StudyRecord, run: SeedRecord) -> bytes:
    """Returns the log that a seed's run wrote.

    Raises: ValueError naming the file when it does not end with the study's scores, or has other bytes.
    """
    assert run.log is not None, run.seed
    path = folder / run.log.name
    data = path.read_bytes()
    lines = data.decode("utf-8", "replace").splitlines()
    scores = [exact_line(rung.name, rung.nats_per_token, rung.bpb) for rung in run.ladder]
    sizes = [f"Code size: {run.code_bytes} bytes"] if run.code_bytes is not None else []
    if run.artifact_bytes is not None:
        sizes.append(f"Total submission size {study.config.quant.codec}: {run.artifact_bytes} bytes")
    absent = [line for line in sizes if line not in lines]
    if absent or lines[len(lines) - len(scores) :] != scores:
        missing = absent[0] if absent else f"these scores at its end: {scores[-1]}"
        raise ValueError(f"{path} does not say what study.json does ({missing}); give the run_seeds.py command again")
    return data

"""A record folder: README, submission.json, the logs, the shipped file and its requirements.

It is filled under a temporary name and then renamed, so that nobody sees a part of it. An existing one stays unless the
caller says otherwise.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from golf.runtime.files import write_bytes
from golf.submission.code import CODE_FILE, packages_of, readable_source, requirements_of, shipped_code
from golf.submission.entry import Submission, Submitter, submission_json
from golf.submission.faults import check_code, faults_of
from golf.submission.readme import blurb, readme
from golf.submission.study import SeedRecord, StudyRecord
from golf.train.run_log import exact_line

SOURCE_FILE = "source.md"
"""Its readable form."""


def make_submission(study: StudyRecord, folder: Path, submitter: Submitter, draft: bool = False) -> Submission:
    """Returns all that the record folder will say.

    Args:
        study: a finished study.
        folder: where its artifacts and logs are.
        submitter: who submits it, as what.
        draft: whether it may have faults, which it then names.

    Raises: ValueError when this program's bundle is not the code that the study ran, or naming the faults.
    """
    code = shipped_code(study.config, folder)
    check_code(study, code)
    packages = packages_of(code.data.decode(), study.config.quant.codec)
    faults = faults_of(study, submitter.track, packages)
    if faults and not draft:
        more = "" if len(faults) == 1 else f" ({len(faults)} reasons)"
        raise ValueError(
            f"{folder} may not be submitted{more}: {'; '.join(faults)}; correct that, or see it with --draft"
        )
    return Submission(study, folder, code, packages, submitter, faults)


def files_of(submission: Submission) -> dict[str, bytes]:
    """Returns the files of the folder by name, without artifacts."""
    study = submission.study
    values = submission_json(submission, blurb(study.config))
    texts = {
        "README.md": readme(submission),
        "submission.json": json.dumps(values, indent=2, allow_nan=False) + "\n",
        "requirements.txt": requirements_of(submission.packages),
        SOURCE_FILE: readable_source(),
    }
    logged = [run for run in study.seeds if run.log is not None]
    logs = {f"train_seed{run.seed}.log": _seed_log(submission.study_folder, study, run) for run in logged}
    return {CODE_FILE: submission.code.data} | {name: text.encode() for name, text in texts.items()} | logs


def _seed_log(folder: Path, study: StudyRecord, run: SeedRecord) -> bytes:
    """Returns the log that a seed's run wrote, unchanged.

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


def write_folder(submission: Submission, records: Path, force: bool = False, artifacts: bool = False) -> Path:
    """Writes the record folder below `records`; returns it.

    Args:
        submission: what it is made from.
        records: folder of all tracks.
        force: whether one that is there is replaced.
        artifacts: whether those of the seeds are added, which records do not hold.

    Raises: FileExistsError; ValueError when an artifact is asked for that the study does not have; OSError naming what
        cannot be written, and then nothing of it is there.
    """
    lost = [f"seed {run.seed}: {run.artifact_note}" for run in submission.study.done if run.artifact is None]
    if artifacts and lost:
        raise ValueError(f"{submission.study_folder} lacks artifacts ({'; '.join(lost)}): leave --with-artifacts out")
    files = files_of(submission)

    def fill(folder: Path) -> None:
        for name, data in files.items():
            write_bytes(folder / name, data)
        for run in submission.study.done if artifacts else ():
            assert run.artifact is not None
            shutil.copyfile(submission.study_folder / run.artifact.name, folder / run.artifact.name)

    return place_folder(records / submission.submitter.folder, fill, force)


def place_folder(folder: Path, fill: Callable[[Path], None], force: bool = False) -> Path:
    """Fills a new folder and puts it in its place, whole; returns it.

    Args:
        folder: its place.
        fill: writes the files into the folder that it is given.
        force: whether a folder that is there is replaced.

    Raises: FileExistsError; what `fill` raises, and then nothing is there.
    """
    if folder.exists() and not force:
        raise FileExistsError(f"{folder} is there already: give another --name or --date, or --force to replace it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        _move(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move(temporary: Path, folder: Path) -> None:
    """Renames a finished folder; what was there before is put back if that fails."""
    old = temporary.with_name(f"{temporary.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)

"""Why a study may not be submitted: what the rules ask of its seeds and is not there.

A draft may have faults and names them. Other code than the study ran is no fault but an error: no folder may bind its
numbers to that code.
"""

import math
from collections.abc import Sequence

from golf.config.rules import CAP_BYTES, MIN_SEEDS, RECORD, RECORD_DEVICE, SP1024_BYTES, SP1024_TOKENS, TRACK_SECONDS
from golf.submission.code import ShippedCode
from golf.submission.study import StudyRecord

_CLOSE_BYTES = 1e-3
"""Relative: another tokenizer may normalise a little of the text."""


def check_code(study: StudyRecord, code: ShippedCode) -> None:
    """Raises ValueError unless every seed ran the shipped file, as far as it says so."""
    for run in study.seeds:
        same = run.code_sha256 in (None, code.sha256) and run.code_bytes in (None, code.num_bytes)
        if not same:
            where = f"of commit {run.commit}" if run.commit else "that ran it"
            raise ValueError(
                f"study {study.name}: seed {run.seed} ran code of {run.code_bytes} bytes with SHA-256 "
                f"{run.code_sha256 or 'unknown'}, this program's train_gpt.py has {code.num_bytes} bytes and "
                f"{code.sha256}: submit with the program {where}, or run the study under another --name with this one"
            )


def faults_of(study: StudyRecord, track: str, packages: Sequence[str]) -> tuple[str, ...]:
    """Returns what forbids a submission that is no draft, the study's own faults too.

    Args:
        study: a finished study.
        track: "record" or "non-record".
        packages: that the shipped file imports.
    """
    faults = _other_text(study)
    faults += [f"seed {run.seed} has no result: {run.state}, {run.reason}" for run in study.seeds if not run.done]
    if len(study.done) < MIN_SEEDS:
        faults.append(f"results of {len(study.done)} seeds, a claim needs {MIN_SEEDS}")
    faults += study.verdict.faults
    cap = min(CAP_BYTES, study.config.cap_bytes)
    for run in study.done:
        if run.artifact_bytes is not None and run.artifact_bytes > cap:
            faults.append(f"seed {run.seed} takes {run.artifact_bytes:,} bytes, the cap is {cap:,}")
    return tuple(dict.fromkeys([*faults, *_unknown(study, packages), *_unlike(study), *_track_faults(study, track)]))


def _other_text(study: StudyRecord) -> list[str]:
    """Returns that the study's scores are of another text than the competition's, if so."""
    data = study.data
    size = (data.validation_tokens, data.validation_bytes)
    if study.config.model.vocab_size == 1024:
        complete = size == (SP1024_TOKENS - 1, SP1024_BYTES)  # the first token is no target
    else:
        complete = size[1] is not None and math.isclose(size[1], SP1024_BYTES, rel_tol=_CLOSE_BYTES)
    if complete and "fineweb" in (data.name or "").lower():
        return []
    tokens = "unknown" if data.validation_tokens is None else f"{data.validation_tokens:,}"
    return [
        f"scored on {data.name or 'data without a name'} ({tokens} tokens), not on FineWeb's validation split "
        f"({SP1024_TOKENS:,} tokens under sp1024): no maintainer can compare it"
    ]


def _unknown(study: StudyRecord, packages: Sequence[str]) -> list[str]:
    """Returns what a reader has to know and the study does not say."""
    faults = []
    for run in study.done:
        facts = {"code": run.code_sha256, "device": run.device, "version of python": run.versions.get("python")}
        facts |= {f"version of {name}": run.versions.get(name) for name in packages}
        facts |= {"log": None if run.log is None else run.log.name}
        missing = [name for name, value in facts.items() if not value]
        faults += [f"seed {run.seed}: the study does not say its {', '.join(missing)}"] if missing else []
    return faults if study.data.digest is not None else [*faults, "the study does not say which data it ran on"]


def _unlike(study: StudyRecord) -> list[str]:
    facts: dict[str, set[object]] = {
        "codes": {run.code_sha256 for run in study.done},
        "devices": {run.device for run in study.done},
        "sets of versions": {tuple(sorted(run.versions.items())) for run in study.done},
    }
    return [f"the seeds ran on {len(values)} {what}, not on one" for what, values in facts.items() if len(values) > 1]


def _track_faults(study: StudyRecord, track: str) -> list[str]:
    """Returns what the record track asks beyond the other."""
    limit = TRACK_SECONDS[track]
    if track != RECORD or limit is None:
        return []
    judged = f"the study was judged for the {study.track} track: run_seeds.py --track {RECORD}"
    faults = [] if study.track == RECORD else [judged]
    for run in study.done:
        for what, seconds in (("training", run.train_seconds), ("evaluation", run.evaluation_seconds)):
            if seconds is None or seconds > limit:
                taken = "unknown seconds" if seconds is None else f"{seconds:.1f} s"
                faults.append(f"seed {run.seed} takes {taken} for {what}, the track allows {limit:.0f} s")
        if run.cold is False:
            faults.append(f"seed {run.seed} took results from the store: a record is run again with --cold")
        if not all(part in (run.device or "") for part in RECORD_DEVICE):
            faults.append(f"seed {run.seed} ran on {run.device or 'an unknown device'}, the track is timed on 8 x H100")
    return faults

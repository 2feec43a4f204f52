"""Where a record folder ran, and on what data: hardware, training shards and validation split (10, 12, 13, 15)."""

import math
import re
import statistics
from typing import Any

from golf.compliance.points import FAILED, ONLY_RUNNING, REMARK, Cause, PointResult, not_applicable, weighed
from golf.config.rules import RECORD, SP1024_BYTES, SP1024_TOKENS
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.contents import README, RecordFolder
from golf.submission.record_folder.devices import Device, devices_in_text

LONGEST_SEQUENCE = 1 << 16
"""Tokens at the end of the validation split that a log may leave out, since they fill no sequence."""
_SMALLEST_SHARE, _MOST_BYTES = 0.9, 1.005
"""Of the split's bytes of text: fewer are a part of it, more are counted twice or another split's."""
_TOKENS_ELSEWHERE = (45_508_608, 40_540_160, 47_851_520)
"""Of the whole split in published logs of sp4096, of sp8192 and of sp8192 with marked capitals."""
RATIO_SLACK = 1e-4
"""Relative: logs leave out the last tokens that fill no sequence."""
_GPUS = 8
_DEVICE = "H100"
_NAME_IT = 'name it in submission.json, such as "hardware": "8xH100 80GB SXM"'


def hardware(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Point 10: the hardware is named; in the record track it is 8 x H100."""
    fields = folder.claims.hardware
    runs = claimed.runs
    logged = _devices(device for run in runs for device in run.devices)
    told = devices_in_text(" ".join(fields.values()), ignore_case=True)
    prose = devices_in_text(folder.readme) if not told else ()
    worlds = sorted({run.world_size for run in runs if run.world_size is not None})
    evidence: dict[str, Any] = {"hardware_told": fields or None, "devices_logged": [str(one) for one in logged] or None}
    evidence |= {"devices_in_readme": [str(one) for one in prose] or None, "world_sizes_logged": worlds or None}
    causes = []
    if fields and "hardware" not in fields:
        causes.append(
            Cause(
                f"{folder.claims.file} names the hardware as {next(iter(fields))}", "the usual name is hardware", REMARK
            )
        )
    if not fields and not logged:
        if prose:
            causes.append(Cause(f"only {README} names the hardware", _NAME_IT, REMARK))
        else:
            level = FAILED if track == RECORD else REMARK
            causes.append(Cause(f"neither {folder.claims.file} nor a log names the hardware", _NAME_IT, level))
    if track == RECORD:
        causes += _as_the_record_track(logged or told or prose, told, worlds)
    return weighed(10, evidence, causes)


def _devices(found: Any) -> tuple[Device, ...]:
    """Each model once, with a number where one is told."""
    numbers: dict[str, int | None] = {}
    for device in found:
        numbers[device.model] = device.count or numbers.get(device.model)
    return tuple(Device(model, count) for model, count in numbers.items())


def _as_the_record_track(devices: tuple[Device, ...], told: tuple[Device, ...], worlds: list[int]) -> list[Cause]:
    """What is not 8 x H100: another GPU, or another number of them."""
    rule = f"the record track is timed on {_GPUS} x {_DEVICE}"
    remedy = "run it there, or submit to the non-record track"
    others = [device for device in devices if _DEVICE not in device.model]
    others += [device for device in told if _DEVICE not in device.model and device not in others]
    if others and not any(_DEVICE in device.model for device in devices):
        number = others[0].count or (worlds[0] if len(worlds) == 1 else None)
        ran = f"{number} x {others[0].model}" if number else others[0].model
        return [Cause(f"it ran on {ran}; {rule}", remedy)]
    if others:
        named = ", ".join(str(device) for device in others)
        return [Cause(f"it names {_DEVICE} and {named}; {rule}", "say which of them the runs were timed on", REMARK)]
    counts = {device.count for device in (*devices, *told) if _DEVICE in device.model and device.count}
    if worlds and worlds != [_GPUS]:
        return [Cause(f"it ran on {' and '.join(map(str, worlds))} GPUs; {rule}", remedy)]
    if not worlds and counts and _GPUS not in counts:
        return [Cause(f"it ran on {max(counts)} x {_DEVICE}; {rule}", remedy)]
    if devices and not worlds and not counts:
        return [Cause(f"the number of GPUs is not told; {rule}", "tell it", REMARK)]
    return []


def training_data(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Point 12, as far as logs tell it."""
    shards = sorted({run.train_shards for run in claimed.runs if run.train_shards})
    evidence = {"training_shards": shards or None}
    causes = []
    if any(run.trains_on_validation for run in claimed.runs):
        causes.append(Cause("a log's training shards are those of the validation split", "train on the training split"))
    if len(shards) > 1:
        causes.append(
            Cause(
                f"the logs tell different numbers of training shards ({' | '.join(map(str, shards))})", "use the same"
            )
        )
    if causes:
        return weighed(12, evidence, causes)
    return not_applicable(12, "whether documents are shared, only the data show", evidence)


def validation_data(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Point 13: FineWeb's validation split, whole; its size is known where the tokenizer is sp1024."""
    if folder.claims.claims_nothing and folder.runs:
        return not_applicable(13, "no result is claimed: which runs are meant is not told")
    scored = [one.scored for one in claimed.results if one.scored is not None]
    runs = [*scored, *(run for run in claimed.runs if not any(run is one for one in scored))]
    tokens = sorted({run.validation_tokens for run in runs if run.validation_tokens})
    tokenizers = sorted({run.tokenizer for run in runs if run.tokenizer is not None})
    datasets = sorted({run.dataset for run in runs if run.dataset is not None} | _told_datasets(folder))
    evidence: dict[str, Any] = {"validation_tokens": tokens or None, "tokenizer": tokenizers or None}
    files = {run.validation_files for run in runs if run.validation_files is not None}
    foreign = [name for name in (*datasets, *sorted(files)) if "fineweb" not in name.lower()]
    if foreign and not any("fineweb" in name.lower() for name in (*datasets, *files)):
        counted = f" ({tokens[0]:,} tokens)" if tokens else ""
        whole = f"FineWeb's validation split ({SP1024_TOKENS:,} tokens under sp1024)"
        what = f"scored on {foreign[0]}{counted}, not on {whole}"
        return weighed(
            13,
            evidence | {"dataset": datasets},
            [Cause(f"{what}: no maintainer can compare it", "score FineWeb's split")],
        )
    wrong_files = sorted(name for name in files if re.search(r"_train_|/train/", name))
    if wrong_files:
        what = f"the validation files are {wrong_files[0]}, which are those of the training"
        return weighed(13, evidence, [Cause(what, "score the validation split")])
    limited = sorted({run.limited for run in runs if run.limited is not None})
    if limited:
        cause = Cause(f"the log says {limited[0]}: the validation split was not scored whole", "score all of it")
        return weighed(13, evidence, [cause])
    if not tokens:
        return not_applicable(13, "no log tells the number of validation tokens", evidence)
    text_bytes = _text_bytes(claimed)
    evidence |= {"bytes_of_text": round(text_bytes)} if text_bytes is not None else {}
    known = any(abs(count - whole) < LONGEST_SEQUENCE for count in tokens for whole in _TOKENS_ELSEWHERE)
    few = text_bytes is not None and text_bytes < _SMALLEST_SHARE * SP1024_BYTES
    if few and not known and tokenizers != ["sp1024"]:
        what = f"{tokens[0]:,} tokens of about {text_bytes:,.0f} bytes were scored; the split has {SP1024_BYTES:,}"
        return weighed(13, evidence, [Cause(f"{what}: it was not scored whole", "score all of it")])
    if tokenizers != ["sp1024"]:
        return not_applicable(13, "the right number is known only for the tokenizer sp1024", evidence)
    evidence |= {"validation_tokens_whole": SP1024_TOKENS, "validation_sha256": None}
    return weighed(13, evidence, [wrong for count in tokens if (wrong := _not_whole(count)) is not None])


def _text_bytes(claimed: ClaimedRuns) -> float | None:
    """The bytes of text that val_loss, val_bpb and the number of tokens mean together; None where they do not tell."""
    found = [
        one.scored.validation_tokens * one.score.nats.value / one.score.bpb.value / math.log(2)
        for one in claimed.scored
        if one.scored is not None and one.score is not None and one.scored.validation_tokens
        if one.score.nats is not None and one.score.bpb.value and math.isfinite(one.score.bpb.value)
    ]
    return statistics.median(found) if found and all(map(math.isfinite, found)) else None


def _told_datasets(folder: RecordFolder) -> set[str]:
    """The dataset that submission.json names."""
    name = folder.claims.text("dataset") or folder.claims.text("data")
    return {name} if name else set()


def _not_whole(tokens: int) -> Cause | None:
    """What is wrong with a number of validation tokens under sp1024."""
    if tokens > SP1024_TOKENS:
        what = f"{tokens:,} tokens were scored, more than the {SP1024_TOKENS:,} of the validation split"
        return Cause(f"{what}: another split, or another export of it", "score the published split")
    if tokens < SP1024_TOKENS - LONGEST_SEQUENCE:
        return Cause(
            f"{tokens:,} of {SP1024_TOKENS:,} tokens: the validation split was not scored whole", "score all of it"
        )
    return None


def byte_counts(claimed: ClaimedRuns, validation: PointResult) -> PointResult:
    """Point 15, as far as logs tell it: val_loss / val_bpb is fixed by the split's tokens and bytes.

    Args: validation: the finding on the split; another split has another ratio.
    """
    scores = [one.score for one in claimed.scored if one.score is not None]
    ratios: dict[str, float] = {}
    rounding = RATIO_SLACK
    for one, score in zip(claimed.scored, scores, strict=True):
        if (
            score.nats is not None
            and math.isfinite(score.bpb.value * score.nats.value)
            and score.bpb.value
            and score.nats.value
        ):
            ratios[str(one.key)] = score.nats.value / score.bpb.value / math.log(2)
            rounding = max(
                rounding, RATIO_SLACK + score.nats.unit / score.nats.value + score.bpb.unit / score.bpb.value
            )
    tokenizers = {one.scored.tokenizer for one in claimed.scored if one.scored is not None}
    if not ratios:
        return not_applicable(15, ONLY_RUNNING)
    if validation.state == FAILED:
        return not_applicable(15, "another split has other bytes a token", {"bytes_per_token": ratios})
    known = tokenizers == {"sp1024"}
    wanted = SP1024_BYTES / SP1024_TOKENS if known else _of_most(list(ratios.values()), rounding)
    wrong = {} if wanted is None else {key: one for key, one in ratios.items() if abs(one - wanted) > rounding * wanted}
    text_bytes = _text_bytes(claimed)
    if not wrong and not known and text_bytes is not None and text_bytes > _MOST_BYTES * SP1024_BYTES:
        what = f"val_loss / val_bpb and the tokens mean {text_bytes:,.0f} bytes of text; the split has {SP1024_BYTES:,}"
        cause = Cause(f"{what}: of one evaluation, they agree", "say how val_bpb was computed", REMARK)
        return weighed(15, {"bytes_per_token": ratios, "bytes_of_text": round(text_bytes)}, [cause])
    if not wrong:
        return not_applicable(15, ONLY_RUNNING)
    shown = ", ".join(f"{key} {ratio:.5f}" for key, ratio in list(wrong.items())[:4])
    right = "sp1024's validation split has" if known else "the other seeds have"
    what = f"val_loss / val_bpb means {shown} bytes a token; {right} {wanted:.5f}"
    cause = Cause(what, "count each token's bytes as the decoded text has them")
    return weighed(15, {"bytes_per_token": ratios, "bytes_per_token_right": wanted}, [cause])


def _of_most(ratios: list[float], rounding: float) -> float | None:
    """The ratio that all but one of three or more have."""
    middle = statistics.median_low(ratios)
    same = [ratio for ratio in ratios if abs(ratio - middle) <= rounding * middle]
    return middle if len(ratios) > 2 and len(same) == len(ratios) - 1 else None

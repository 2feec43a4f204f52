"""Whether a record folder names its hardware, and whether that is the record track's (point 10)."""

from collections.abc import Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, weighed
from golf.config.rules import RECORD
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.contents import README, RecordFolder
from golf.submission.record_folder.devices import Device, devices_in_text

_GPUS = 8
_DEVICE = "H100"
_NAME_IT = 'name it in submission.json, such as "hardware": "8xH100 80GB SXM"'
_RULE = f"the record track is timed on {_GPUS} x {_DEVICE}"


def hardware(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 10: the hardware is named; in the record track it is 8 x H100."""
    fields, file = folder.claims.hardware, folder.claims.file
    counts: dict[str, int | None] = {}
    for device in (device for run in claimed.runs for device in run.devices):
        counts[device.model] = device.count or counts.get(device.model)
    logged = [Device(model, count) for model, count in counts.items()]
    named = devices_in_text(" ".join(fields.values()), ignore_case=True)
    prose = devices_in_text(folder.readme) if not named else ()
    worlds = sorted({run.world_size for run in claimed.runs if run.world_size is not None})
    evidence: Evidence = {
        "hardware_claimed": fields or None,
        "devices_logged": [str(device) for device in logged] or None,
        "devices_in_readme": [str(device) for device in prose] or None,
        "world_sizes_logged": worlds or None,
    }
    causes = []
    if fields and "hardware" not in fields:
        text = f"{file} names the hardware as {next(iter(fields))}"
        causes.append(Cause(text, "the usual name is hardware", REMARK))
    if not fields and not logged and prose:
        causes.append(Cause(f"only {README} names the hardware", _NAME_IT, REMARK))
    elif not fields and not logged:
        level = FAILED if track == RECORD else REMARK
        causes.append(Cause(f"neither {file} nor a log names the hardware", _NAME_IT, level))
    other = _not_the_record_tracks(logged or named or prose, named, worlds) if track == RECORD else None
    return weighed(10, evidence, causes if other is None else [*causes, other])


def _not_the_record_tracks(devices: Sequence[Device], named: Sequence[Device], worlds: Sequence[int]) -> Cause | None:
    """Returns what is not 8 x H100: another GPU, or another number of them.

    Args:
        devices: of the logs, else of submission.json, else of README.md.
        named: of submission.json.
        worlds: world sizes of the logs.
    """
    remedy = "run it there, or submit to the non-record track"
    others = [device for device in dict.fromkeys([*devices, *named]) if _DEVICE not in device.model]
    if others and not any(_DEVICE in device.model for device in devices):
        count = others[0].count or (worlds[0] if len(worlds) == 1 else None)
        return Cause(f"it ran on {Device(others[0].model, count)}; {_RULE}", remedy)
    if others:
        text = f"it names {_DEVICE} and {', '.join(map(str, others))}; {_RULE}"
        return Cause(text, "say which of them the runs were timed on", REMARK)
    counts = {device.count for device in (*devices, *named) if device.count}
    if worlds and worlds != [_GPUS]:
        return Cause(f"it ran on {' and '.join(map(str, worlds))} GPUs; {_RULE}", remedy)
    if not worlds and counts and _GPUS not in counts:
        return Cause(f"it ran on {max(counts)} x {_DEVICE}; {_RULE}", remedy)
    if devices and not worlds and not counts:
        return Cause(f"the number of GPUs is unknown; {_RULE}", "name it", REMARK)
    return None

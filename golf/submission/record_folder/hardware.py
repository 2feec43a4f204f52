"""Whether a record folder names its hardware, and whether that is the record track's (point 10)."""

from collections.abc import Iterable, Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, weighed
from golf.config.rules import RECORD
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.contents import README, RecordFolder
from golf.submission.record_folder.devices import Device, devices_in_text

_GPUS = 8
_DEVICE = "H100"
_NAME_IT = 'name it in submission.json, such as "hardware": "8xH100 80GB SXM"'


def hardware(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 10: the hardware is named; in the record track it is 8 x H100."""
    fields, file = folder.claims.hardware, folder.claims.file
    logged = _merged(device for run in claimed.runs for device in run.devices)
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
    if track == RECORD:
        causes += _not_the_record_tracks(logged or named or prose, named, worlds)
    return weighed(10, evidence, causes)


def _merged(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Returns each model once, with a number where there is one."""
    counts: dict[str, int | None] = {}
    for device in devices:
        counts[device.model] = device.count or counts.get(device.model)
    return tuple(Device(model, count) for model, count in counts.items())


def _not_the_record_tracks(devices: Sequence[Device], named: Sequence[Device], worlds: Sequence[int]) -> list[Cause]:
    """Returns what is not 8 x H100: another GPU, or another number of them.

    Args:
        devices: of the logs, else of submission.json, else of README.md.
        named: of submission.json.
        worlds: world sizes of the logs.
    """
    rule = f"the record track is timed on {_GPUS} x {_DEVICE}"
    remedy = "run it there, or submit to the non-record track"
    others = [device for device in devices if _DEVICE not in device.model]
    others += [device for device in named if _DEVICE not in device.model and device not in others]
    if others and not any(_DEVICE in device.model for device in devices):
        count = others[0].count or (worlds[0] if len(worlds) == 1 else None)
        return [Cause(f"it ran on {Device(others[0].model, count)}; {rule}", remedy)]
    if others:
        text = f"it names {_DEVICE} and {', '.join(map(str, others))}; {rule}"
        return [Cause(text, "say which of them the runs were timed on", REMARK)]
    counts = {device.count for device in (*devices, *named) if _DEVICE in device.model and device.count}
    if worlds and worlds != [_GPUS]:
        return [Cause(f"it ran on {' and '.join(map(str, worlds))} GPUs; {rule}", remedy)]
    if not worlds and counts and _GPUS not in counts:
        return [Cause(f"it ran on {max(counts)} x {_DEVICE}; {rule}", remedy)]
    if devices and not worlds and not counts:
        return [Cause(f"the number of GPUs is unknown; {rule}", "name it", REMARK)]
    return []

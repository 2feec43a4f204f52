"""GPUs by the names that people and drivers give them, in logs, in fields and in prose."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LONG = (
    r"GH200|GB[23]00|H100|H200|H800|H20|B200|B300|A100|A800|A10G|A6000|V100|P100|L40S?|MI\d{3}X?|GB10|"
    r"(?:GeForce )?RTX[ -]?(?:PRO |A)?\d{4}(?: ?(?:Ti|SUPER))?"
)
_SHORT = r"A10|A40|L4|T4|M[1-5](?: (?:Pro|Max|Ultra))?|TPU ?v\d\w?"
"""Names that layers, batches and values have too: they count only after a maker's name or a number of them."""
_FORM = r"(?:[ -](?:80GB|PCIe|SXM\d?|NVL|HBM\d\w?)\b){0,3}"
_MAKER = r"(?:NVIDIA|Nvidia|Tesla|Apple|AMD Instinct|Google)[ -](?:Tesla |GeForce )?"
_COUNTED = (
    rf"(?<![\w.])(\d{{1,3}}) ?[xX×*] ?(?:{_MAKER})?((?:{_LONG}|{_SHORT}){_FORM})(?:s\b|-(?=\d)|(?![A-Za-z0-9:/=]))"
)
_COUNTED_AFTER = rf"(?<![\w/])(?:{_MAKER})?((?:{_LONG}){_FORM}) ?[x×*] ?(\d{{1,2}})\b"
_MADE = rf"{_MAKER}((?:{_LONG}|{_SHORT}){_FORM})(?![\w:/=])"
_SEVERAL = rf"(?<![\w.])(\d{{1,3}}) (?:{_MAKER})?((?:{_LONG})){_FORM}(?:s\b| GPUs?\b)"
_BARE = rf"(?<![\w/])((?:{_LONG}){_FORM})s?(?![\w:/=.])"
_IN_LOG = re.compile(f"(?:{_COUNTED})|(?:{_MADE})|(?:{_SEVERAL})")
_MODEL = re.compile(rf"(?:{_LONG}|{_SHORT})", re.IGNORECASE)
_PATTERNS = (_COUNTED, _COUNTED_AFTER, _SEVERAL, _MADE, _BARE)


@dataclass(frozen=True)
class Device:
    """A model of a GPU, and how many of them where that is known."""

    model: str
    count: int | None = None

    def __str__(self) -> str:
        return self.model if self.count is None else f"{self.count} x {self.model}"


def devices_in_log(lines: Iterable[str]) -> tuple[Device, ...]:
    """Returns the devices that a log names, each once; case counts, for `b200/782` is a batch and `L4:0.5` a layer."""
    return _largest(_device(match) for line in lines for match in _IN_LOG.finditer(line))


def devices_in_text(text: str, ignore_case: bool = False) -> tuple[Device, ...]:
    """Returns the devices that a field or a document names, each once.

    Args:
        text: of the field or document.
        ignore_case: for fields that hold nothing but the hardware.
    """
    flags = re.IGNORECASE if ignore_case else 0
    devices: list[Device] = []
    for pattern in _PATTERNS:
        devices += [_device(match) for match in re.finditer(pattern, text, flags)]
        text = re.sub(pattern, " ", text, flags=flags)
    return _largest(devices)


def _device(match: re.Match[str]) -> Device:
    """Returns the device of a match: a number of devices and a name in either order, or a name alone."""
    parts = [part for part in match.groups() if part is not None]
    number = next((int(part) for part in parts if part.isdigit()), None)
    name = next(part for part in parts if not part.isdigit())
    model = _MODEL.search(name)
    assert model is not None, name
    return Device(model[0].removeprefix("GeForce "), number)


def _largest(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Returns each model once, with the largest number of it."""
    numbers: dict[str, int | None] = {}
    for device in devices:
        model = device.model.upper() if device.model.islower() else device.model
        numbers[model] = max(filter(None, (numbers.get(model), device.count)), default=None)
    return tuple(Device(model, count) for model, count in numbers.items())

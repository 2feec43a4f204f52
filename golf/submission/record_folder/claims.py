"""What a submission.json claims: its figures, of all runs together and of each seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from golf.compliance.points import Cause
from golf.submission.record_folder.claim_names import HARDWARE
from golf.submission.record_folder.numbers import ParsedNumber

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value of somebody's JSON."""
JsonObject = dict[str, Json]
FILE = "submission.json"


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it."""

    file: str = FILE
    """Name of the file."""
    fields: Mapping[str, Json] = field(default_factory=dict)
    """The object as it is in the file."""
    numbers: Mapping[str, ParsedNumber] = field(default_factory=dict)
    """Figures by the first names of `claim_names.NUMBERS`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The file's own names of the figures."""
    seeds: tuple[int, ...] = ()
    """The seeds it lists, in its order."""
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    """The figures of each seed."""
    causes: tuple[Cause, ...] = ()
    """What is wrong with its form."""

    def name_of(self, name: str) -> str:
        """Returns the file's own name of a figure."""
        return self.names.get(name, name)

    def value(self, name: str) -> float | None:
        """Returns a figure; None without it."""
        return self.numbers[name].value if name in self.numbers else None

    @property
    def claims_nothing(self) -> bool:
        """Whether it has no result at all, so that nothing says which runs are meant."""
        return "val_bpb" not in self.numbers and not self.seeds and not self.by_seed

    def text(self, name: str) -> str | None:
        """Returns a text field; None where it is missing or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    @property
    def hardware(self) -> dict[str, str]:
        """The fields that name the machine, as text, the most usual name first."""
        texts = {name: flat_text(self.fields[name]) for name in HARDWARE if self.fields.get(name)}
        return {name: text for name, text in texts.items() if text}


def brief(value: Json) -> str:
    """Returns a value in few words; one that holds others may be too deep for more."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}" if any(isinstance(item, (dict, list)) for item in value) else repr(value)[:60]
    return repr(value)[:40]


def flat_text(value: Json) -> str:
    """Returns a text, or the texts and numbers in a small object or list, in their order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) <= 20:
        return " ".join(f"{name} {flat_text(item)}" for name, item in value.items() if not isinstance(item, dict))[:300]
    if isinstance(value, list) and len(value) <= 20:
        return ", ".join(flat_text(item) for item in value if not isinstance(item, (dict, list)))[:300]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""

"""What a submission.json claims: its figures, of all runs together and of each seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from golf.compliance.points import Cause
from golf.submission.record_folder.claim_names import HARDWARE
from golf.submission.record_folder.numbers import ParsedNumber

FILE = "submission.json"


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it.

    Attributes:
        file: the name of the file.
        fields: as they stand there.
        numbers: by the first names of the table of names.
        names: the file's own names of the figures.
        seeds: the seeds it lists, in its order.
        by_seed: the figures of each seed.
        causes: what is wrong with its form.
    """

    file: str = FILE
    fields: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, ParsedNumber] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()

    def name_of(self, name: str) -> str:
        """The file's own name of a figure."""
        return self.names.get(name, name)

    @property
    def claims_nothing(self) -> bool:
        """Whether it tells no result at all, so that nothing says which runs are meant."""
        return "val_bpb" not in self.numbers and not self.seeds and not self.by_seed

    def text(self, name: str) -> str | None:
        """A text field."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    @property
    def hardware(self) -> dict[str, str]:
        """The fields that name the machine, flat, in the order of how usual their names are."""
        found = {name: flat_text(self.fields[name]) for name in HARDWARE if self.fields.get(name)}
        return {name: text for name, text in found.items() if text}


def brief(value: Any) -> str:
    """A value in few words; one that holds others may be too deep for more."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}" if any(isinstance(one, (dict, list)) for one in value) else repr(value)[:60]
    return repr(value)[:40]


def flat_text(value: Any) -> str:
    """A text, or the texts and numbers in a small object or list, in their order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) <= 20:
        return " ".join(f"{name} {flat_text(one)}" for name, one in value.items() if not isinstance(one, dict))[:300]
    if isinstance(value, list) and len(value) <= 20:
        return ", ".join(flat_text(one) for one in value if not isinstance(one, (dict, list)))[:300]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""

"""What a study is compared with: runs in the ledger, values given, or one published mean, in BPB.

Runs on another validation stream are refused: their bits per byte are of other bytes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tune.records.ledger import Ledger
from tune.study.runs import Stream, Study, study_of

TARGET = "target "
"""Begins the name of a baseline that is a value to reach."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Values to compare with."""

    name: str
    """The baseline as it was asked for."""
    bpb: tuple[float, ...]
    published: bool = False
    """Whether it is one published mean, taken as exact."""
    study: Study | None = None
    """All its runs, where they come from the ledger."""


def target_of(unit: str, value: float) -> Baseline:
    """Returns a value to reach as a baseline: the one-sided test is that the mean is better than it."""
    return Baseline(name=f"{TARGET}{value:g} {unit}", bpb=(value,), published=True)


def baseline_of(
    names: Sequence[str], ledger: Ledger, nats_per_bpb: float | None, in_nats: bool = False, unit: str = "BPB"
) -> Baseline:
    """Returns the baseline that a command line names.

    Args: names: one name (as for `tune.study.runs.named`), several values, or one published mean; ledger: where a name
    is looked up; nats_per_bpb: of the validation stream, None where nobody knows; in_nats: whether values are in nats
    per token instead of BPB; unit: of the scores.
    Raises: ValueError for a mixture of names and values, a name that nothing has, or a baseline without a result.
    """
    values = [_number(name) for name in names]
    if all(value is not None for value in values):
        if in_nats and nats_per_bpb is None:
            raise ValueError("--baseline-nats: nats per token of 1 BPB are not known before the runs; give BPB")
        bpb = tuple(value / ((nats_per_bpb or 1.0) if in_nats else 1.0) for value in values if value is not None)
        if unit == "BPB" and not all(0.0 < value < 100.0 for value in bpb):
            raise ValueError(f"a baseline's values must be above 0 and below 100 BPB, got {' '.join(names)}")
        said = "nats/token" if in_nats else unit
        return Baseline(name=f"{' '.join(names)} {said}", bpb=bpb, published=len(bpb) == 1)
    if len(names) != 1:
        raise ValueError(f"a baseline is one name or some values, got {' '.join(names)}")
    study = study_of(names[0], ledger)
    if not study.counted:
        raise ValueError(f'baseline "{names[0]}" has no finished run; run it first')
    if study.unit != unit:
        raise ValueError(f'baseline "{names[0]}" is scored in {study.unit}, this study in {unit}')
    return Baseline(name=names[0], bpb=tuple(study.values.values()), study=study)


def differences(study: Study, other: Study) -> tuple[str, ...]:
    """Returns the names of the facts, beside the configuration, in which two studies differ."""
    fields = {**study.facts, **other.facts}
    return tuple(field for field in fields if other.facts.get(field) != study.facts.get(field))


def check_same_text(name: str, size: tuple[int, int], other_name: str, other: tuple[int, int]) -> None:
    """Raises: ValueError unless both were scored on as many tokens and bytes."""
    if size != other:
        sizes = [f"{tokens:,} tokens of {num_bytes:,} bytes" for tokens, num_bytes in (size, other)]
        raise ValueError(
            f'"{name}" and "{other_name}" are not scored on the same validation stream: {sizes[0]} against {sizes[1]}; '
            "run one of them on the other's data"
        )


def check_same_chunks(name: str, stream: Stream, other_name: str, other: Stream) -> None:
    """Raises: ValueError unless both have the same tokens and bytes in every chunk."""
    check_same_text(name, stream.size, other_name, other.size)
    if stream != other:
        raise ValueError(
            f'"{name}" and "{other_name}" are not scored on the same validation stream in the same chunks: '
            f"{len(stream.tokens):,} chunks against {len(other.tokens):,}; run one with the other's score.chunk_tokens"
        )


def _number(text: str) -> float | None:
    """Returns the value in a text; a trial's id may consist of digits, a value has a point or is short."""
    return float(text) if re.fullmatch(r"\d*\.\d+|\d{1,2}", text) else None

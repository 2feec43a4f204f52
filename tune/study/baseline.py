"""What a study is compared with: seeds in the ledger, values given, or one published mean.

Words of a command line and ledger entries enter, values in BPB leave. What is on another validation stream is refused:
its bits per byte are of other bytes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune.study.runs import Entry, Stream, Study, study_of


@dataclass(frozen=True)
class Baseline:
    """Values to compare with."""

    name: str
    """As it was asked for."""
    bpb: tuple[float, ...]
    seeds: tuple[int, ...] | None
    """Of the values, where they come from the ledger."""
    published: bool
    """Whether it is one published mean, taken as exact."""
    study: Study | None
    """All its runs, where they come from the ledger."""


def baseline_of(
    words: Sequence[str],
    entries: Sequence[Entry],
    nats_per_bpb: float,
    in_nats: bool = False,
) -> Baseline:
    """The baseline that the words name.

    Args: words: one name (as for `tune.study.runs.named`), several values, or one published mean; entries: the
        whole ledger; nats_per_bpb: of the validation stream; in_nats: whether values are in nats per token instead of
        BPB.
    Raises: ValueError for a mixture of names and values, a name that nothing has, or a baseline without a result.
    """
    values = [_number(word) for word in words]
    if all(value is not None for value in values):
        bpb = tuple(value / (nats_per_bpb if in_nats else 1.0) for value in values if value is not None)
        if not all(0.0 < value < 100.0 for value in bpb):
            raise ValueError(f"a baseline's values must be above 0 and below 100 BPB, got {' '.join(words)}")
        name = " ".join(words) + (" nats/token" if in_nats else " BPB")
        return Baseline(name, bpb, None, len(bpb) == 1, None)
    if len(words) != 1:
        raise ValueError(f"a baseline is one name or some values, got {' '.join(words)}")
    study = study_of(words[0], entries)
    if not study.counted:
        raise ValueError(f'baseline "{words[0]}" has no finished run; run it first')
    values_bpb = values_by_seed(study)
    return Baseline(words[0], tuple(values_bpb.values()), tuple(values_bpb), False, study)


def differences(study: Study, other: Study) -> tuple[str, ...]:
    """What two studies do not have in common beside their configurations: names of facts."""
    fields = {**study.facts, **other.facts}
    return tuple(field for field in fields if other.facts.get(field) != study.facts.get(field))


def check_same_text(name: str, size: tuple[int, int], other_name: str, other: tuple[int, int]) -> None:
    """Raises: ValueError unless both were scored on as many tokens and bytes."""
    if size != other:
        shown = [f"{tokens:,} tokens of {num_bytes:,} bytes" for tokens, num_bytes in (size, other)]
        raise ValueError(
            f'"{name}" and "{other_name}" are not scored on the same validation stream: {shown[0]} against {shown[1]}; '
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


def values_by_seed(study: Study) -> Mapping[int, float]:
    """BPB of the seeds that have a result."""
    return {row.seed: row.bpb for row in study.counted if row.bpb is not None}


def _number(word: str) -> float | None:
    """The value in a word; a trial's id may consist of digits, a value has a point or is short."""
    return float(word) if re.fullmatch(r"\d*\.\d+|\d{1,2}", word) else None

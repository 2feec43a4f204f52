"""The tokenisations of the competition's text that are published, and where."""

from dataclasses import dataclass
from pathlib import Path

from golf.config.rules import SP1024_TOKENS


@dataclass(frozen=True)
class Variant:
    """The competition's text in the tokens of one vocabulary, and where its files are."""

    name: str
    """The dataset's name in its repository."""
    repository: str
    """Dataset repository, OWNER/NAME."""
    tokenizer: str
    """Path of the tokenizer where the repository's manifest does not list the dataset."""
    validation_tokens: tuple[int, int]
    """Fewest and most tokens that the whole validation split may hold."""
    folder: Path
    """Where its files are put if nothing else is said."""


def _variant(size: int, repository: str, fewest: int, most: int) -> Variant:
    """Returns the variant with a SentencePiece vocabulary of `size`."""
    folder = Path("data/fineweb") if size == 1024 else Path(f"data/fineweb-sp{size}")
    return Variant(f"fineweb10B_sp{size}", repository, f"tokenizers/fineweb_{size}_bpe.model", (fewest, most), folder)


_WINDOW = 2048
"""Published logs tell the validation tokens that fill whole sequences of this length, behind a first token."""

VARIANTS = {
    "sp1024": _variant(1024, "willdepueoai/parameter-golf", SP1024_TOKENS, SP1024_TOKENS),
    "sp4096": _variant(4096, "kevclark/parameter-golf", 45_508_608 + 1, 45_508_608 + _WINDOW),
    "sp8192": _variant(8192, "kevclark/parameter-golf", 40_540_160 + 1, 40_540_160 + _WINDOW),
}
"""By name: the competition's own first, and those of the records of April 2026 (openai/parameter-golf PR #1394)."""

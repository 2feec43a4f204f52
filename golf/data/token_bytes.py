"""How many bytes of text a token stands for: the denominator of bits per byte.

A SentencePiece model enters, a table over its pieces leaves. The counts of a document's tokens add up to the
UTF-8 length of the decoded text, so a piece's space is counted once, byte pieces as one byte and
control pieces as none. Two mistakes here (a space twice, a byte piece as three) have spoiled published scores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import sentencepiece
except ModuleNotFoundError:
    sentencepiece = None  # type: ignore[assignment]

SPACE_MARK = "\u2581"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True, eq=False)
class ByteTable:
    """Bytes per token id of one tokenizer."""

    base: npt.NDArray[np.int16]
    """Bytes of the piece without a space mark at its front, shape (vocabulary,)."""
    leading_space: npt.NDArray[np.bool_]
    """Whether the piece begins with a space mark, shape (vocabulary,)."""
    boundary: npt.NDArray[np.bool_]
    """Control, unknown and unused pieces: they have no bytes, and no space is counted after them."""

    @staticmethod
    def of_tokenizer(path: Path) -> "ByteTable":
        """The table of the SentencePiece model at `path`; errors as `load_tokenizer`."""
        model = load_tokenizer(path)
        ids = range(model.vocab_size())
        boundary = [model.is_control(i) or model.is_unknown(i) or model.is_unused(i) for i in ids]
        try:
            pieces = ["" if boundary[i] else "?" if model.is_byte(i) else model.id_to_piece(i) for i in ids]
            # A mark that is not the first one is a space as well: one byte, not the mark's three.
            base = [len(piece.removeprefix(SPACE_MARK).replace(SPACE_MARK, " ").encode()) for piece in pieces]
            leading = [piece.startswith(SPACE_MARK) for piece in pieces]
            return ByteTable(np.array(base, np.int16), np.array(leading), np.array(boundary))
        except (UnicodeError, OverflowError) as error:
            raise ValueError(f"{path} has a piece that is no text ({error}); prepare the dataset again") from error

    def count(self, previous: npt.NDArray[Any], target: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Bytes of each `target` id after its `previous` id: int64, of their shape (integer arrays, equal shapes)."""
        return self.base[target].astype(np.int64) + (self.leading_space[target] & ~self.boundary[previous])


def load_tokenizer(path: Path) -> Any:
    """The SentencePiece processor of the model at `path`.

    Raises: ModuleNotFoundError without sentencepiece; FileNotFoundError; ValueError when it is no such model.
    """
    if sentencepiece is None:
        raise ModuleNotFoundError(f"reading the tokenizer {path} needs sentencepiece: pip install sentencepiece")
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes() or b"empty")
    except (RuntimeError, UnicodeError) as error:
        raise ValueError(f"{path} is not a SentencePiece model ({error}); prepare the dataset again") from error
    return model

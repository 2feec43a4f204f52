"""The bytes of text of each token: the denominator of bits per byte.

The counts of a document's tokens add up to the UTF-8 length of the decoded text, so a piece's space is counted once,
byte pieces as one byte and control pieces as none. Two mistakes here (a space twice, a byte piece as three) have
spoiled published scores.
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
"""SentencePiece's letter for a space."""
SAMPLES = {
    "a cat sat.": 10,
    " a  b ": 3,
    "\u4e00 \U0001f642 \u200d_\0": 14,
    "\tx\n  y\r\n": 3,
    "\ufb01 \uff37\u00bd e\u0301\u2026\u00a0": 15,
}
"""Texts in which a tokenizer's byte table may go wrong, and the bytes that the competition's tokenizers count of each:
theirs (rule nmt_nfkc, spaces joined) change a text first, and all published scores are divided by what is left."""
PUBLISHED = ("fineweb_", "4f5e8adb109c66b4886963bc75a7befd73bda36d27fd7102df8e9e66503b0e2a")
"""Marks of the competition's tokenizers: the beginning of their names, and the SHA-256 of sp1024's file."""


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
        """Returns the table of the SentencePiece model at `path`; errors as `load_tokenizer`."""
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
        """Returns the bytes of each `target` id after its `previous` id, int64 (integer arrays of equal shapes)."""
        return self.base[target].astype(np.int64) + (self.leading_space[target] & ~self.boundary[previous])


def tokenizer_fault(path: Path, table: ByteTable, sha256: str, tokens: npt.NDArray[Any]) -> str:
    """Returns why bits per byte under the tokenizer at `path` would be wrong; "" where its table counts right.

    Args: sha256: of the file; tokens: ids to be scored.
    """
    model = load_tokenizer(path)
    published = path.name.startswith(PUBLISHED[0]) or sha256 == PUBLISHED[1]
    for text, left in SAMPLES.items():
        ids = np.array([table.boundary.argmax(), *model.encode(text)])
        counted, size = int(table.count(ids[:-1], ids[1:]).sum()), len(text.encode())
        # A tokenizer without byte fallback cannot write every letter: it matters where one is scored.
        unknown = int((tokens[1:] == model.unk_id()).sum()) if model.unk_id() in ids[1:] else 0
        if unknown:
            return (
                f"{path}: {unknown} tokens stand for unknown letters, whose bytes are lost; use one with byte_fallback"
            )
        if model.unk_id() not in ids[1:] and counted not in (size, left if published else size):
            return (
                f"{path} counts {counted} bytes for the {size} of {text!r}, so bits per byte would be wrong: it "
                "changes letters or spaces, or has no piece for a space; use one that keeps every byte (byte_fallback, "
                "normalization_rule_name identity, add_dummy_prefix, no remove_extra_whitespaces)"
            )
    return ""


def load_tokenizer(path: Path) -> Any:
    """Returns the SentencePiece processor of the model at `path`.

    Raises: ModuleNotFoundError without sentencepiece; FileNotFoundError; ValueError when it is no such model.
    """
    if sentencepiece is None:
        raise ModuleNotFoundError(f"reading the tokenizer {path} needs sentencepiece: pip install sentencepiece")
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes() or b"empty")
    except (RuntimeError, UnicodeError) as error:
        raise ValueError(f"{path} is not a SentencePiece model ({error}); prepare the dataset again") from error
    return model

"""The byte table against the published tables and against decoded text."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from golf.data.token_bytes import ByteTable, load_tokenizer


def test_tables_are_the_published_ones(golden: Path) -> None:
    """Catches a space counted twice, byte pieces counted as their names, control pieces counted at all."""
    table = ByteTable.of_tokenizer(golden / "fineweb_1024_bpe.model")
    with safe_open(golden / "fineweb_bytes.safetensors", "np") as file:
        assert np.array_equal(table.base, file.get_tensor("base_bytes"))
        assert np.array_equal(table.leading_space, file.get_tensor("leading_space"))
        assert np.array_equal(table.boundary, file.get_tensor("boundary"))
        tokens, total = file.get_tensor("tokens"), int(file.metadata()["total_bytes"])
    assert table.base.dtype == np.int16
    counts = table.count(tokens[:-1].astype(np.uint16), tokens[1:].astype(np.uint16))
    assert counts.dtype == np.int64
    assert counts.sum() == total


def counted_bytes(table: ByteTable, ids: list[int]) -> int:
    """Bytes of a document's tokens after its beginning-of-sequence token."""
    return int(table.count(np.array(ids[:-1], np.int64), np.array(ids[1:], np.int64)).sum())


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from("ab \t\n.9é日🙂\u200d<s>0x41\u0301\ufeff"), max_size=40))
def test_counts_add_up_to_the_decoded_text(plain_tokenizer: Path, text: str) -> None:
    """Catches the first token's space, runs of spaces, fallback bytes or a user's symbol counted wrongly."""
    table, model = ByteTable.of_tokenizer(plain_tokenizer), load_tokenizer(plain_tokenizer)
    ids = model.encode(text, add_bos=True)
    assert model.decode(ids) == text
    assert counted_bytes(table, ids) == len(text.encode())


def test_counts_add_up_over_documents(plain_tokenizer: Path, texts: list[str]) -> None:
    """Catches a beginning-of-sequence token that is no boundary: each document would gain a space."""
    table, model = ByteTable.of_tokenizer(plain_tokenizer), load_tokenizer(plain_tokenizer)
    ids = [token for text in texts for token in model.encode(text, add_bos=True)]
    assert table.boundary[model.bos_id()]
    assert counted_bytes(table, ids) == sum(len(text.encode()) for text in texts)


def test_unused_pieces_have_no_bytes(plain_tokenizer: Path, tmp_path: Path) -> None:
    """Catches a piece that the tokenizer never writes counted as text, or a space counted after it."""
    piece = "\u2581unused".encode()
    # Fields of a repeated message may be appended: piece (1), score (2), type (3) = UNUSED (5).
    message = b"\x0a" + bytes([len(piece)]) + piece + b"\x15" + struct.pack("<f", -9.0) + b"\x18\x05"
    path = tmp_path / "more.model"
    path.write_bytes(plain_tokenizer.read_bytes() + b"\x0a" + bytes([len(message)]) + message)
    table = ByteTable.of_tokenizer(path)
    assert table.base.shape == (401,)
    assert (table.base[400], table.leading_space[400], table.boundary[400]) == (0, False, True)


@pytest.mark.parametrize("content", [b"", b"not a model", json.dumps({"vocab": 1024}).encode()])
def test_other_files_are_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    """Catches an empty table made from a damaged or foreign file."""
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a SentencePiece model") as caught:
        ByteTable.of_tokenizer(path)
    assert str(path) in str(caught.value)


def test_missing_library_is_named(plain_tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an AttributeError on None where sentencepiece is not installed."""
    monkeypatch.setattr("golf.data.token_bytes.sentencepiece", None)
    with pytest.raises(ModuleNotFoundError, match="pip install sentencepiece"):
        load_tokenizer(plain_tokenizer)
    assert sentencepiece.__name__ == "sentencepiece"

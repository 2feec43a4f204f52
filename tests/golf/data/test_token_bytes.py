"""The byte table against the published tables and against decoded text."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from sentencepiece import sentencepiece_model_pb2

from golf.data.dataset import hash_file
from golf.data.token_bytes import ByteTable, load_tokenizer, tokenizer_fault
from tests.golf.tokenizers import trained


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


@settings(max_examples=150)
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


def fault_of(path: Path, tokens: list[int] | None = None, sha256: str = "") -> str:
    """The fault of the tokenizer at `path`, for a stream of `tokens`."""
    return tokenizer_fault(path, ByteTable.of_tokenizer(path), sha256, np.array(tokens or [1], np.uint16))


@pytest.mark.parametrize("options", [{}, {"split_digits": True}, {"model_type": "unigram"}, {"bos_id": -1}], ids=str)
def test_tokenizers_that_keep_every_byte_are_taken(tmp_path: Path, texts: list[str], options: dict[str, Any]) -> None:
    """Catches a sound tokenizer refused for its kind, its pieces, or for having no beginning-of-sequence token."""
    assert fault_of(trained(tmp_path / "x.model", texts, **options)) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_rule_name": "nfkc"},
        {"normalization_rule_name": "nmt_nfkc_cf"},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"treat_whitespace_as_suffix": True},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True, "add_dummy_prefix": False},
    ],
    ids=str,
)
def test_tokenizers_that_change_a_text_are_not(tmp_path: Path, texts: list[str], options: dict[str, Any]) -> None:
    """Catches bytes counted of what a tokenizer made of a text: letters folded, spaces joined, dropped or added."""
    assert re.search(
        r"x\.model counts \d+ bytes for the \d+ of", fault_of(trained(tmp_path / "x.model", texts, **options))
    )


@pytest.mark.parametrize("kept", [0, 1000], ids=["no piece with a mark", "only the lone mark missing"])
def test_a_space_in_byte_pieces_is_found(tmp_path: Path, texts: list[str], kept: int) -> None:
    """Catches a space counted three times: the bytes of its mark, where the mark alone is no piece."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained(tmp_path / "x.model", texts).read_bytes())
    for number, piece in enumerate(piece for piece in model.pieces if piece.type == 1):
        if piece.piece == "\u2581" or (piece.piece.startswith("\u2581") and kept == 0):
            piece.piece = f"\ue000{number}"
    (tmp_path / "x.model").write_bytes(model.SerializeToString())
    assert "has no piece for a space" in fault_of(tmp_path / "x.model")


def test_unknown_letters_are_found_where_they_are_scored(tmp_path: Path, texts: list[str]) -> None:
    """Catches letters that no piece stands for: their bytes are in no count; a stream without any is sound."""
    path = trained(tmp_path / "x.model", texts, byte_fallback=False, vocab_size=120)
    model = load_tokenizer(path)
    assert fault_of(path, model.encode("the of and")) == ""
    lost = model.encode("the \u0416 of")
    assert model.unk_id() in lost
    assert "1 tokens stand for unknown letters" in fault_of(path, lost)


def test_the_competition_s_own_rule_is_accepted_for_its_files(tmp_path: Path, texts: list[str], golden: Path) -> None:
    """Catches the competition's tokenizer refused, under any name, or its rule granted to everybody's."""
    tokenizer = golden / "fineweb_1024_bpe.model"
    copied = tmp_path / "x.model"
    copied.write_bytes(tokenizer.read_bytes())
    assert fault_of(tokenizer) == fault_of(copied, sha256=hash_file(copied)) == ""
    rule = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}
    assert fault_of(trained(tmp_path / "fineweb_400_bpe.model", texts, add_dummy_prefix=False, **rule)) == ""
    assert fault_of(
        trained(tmp_path / "fineweb_400_bpe.model", texts, **{**rule, "normalization_rule_name": "nfkc_cf"})
    )

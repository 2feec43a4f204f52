"""The checks of the data: bytes of the text that went in, and shards that do not mark their documents."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from golf.compliance.data import check_bytes, check_splits
from golf.compliance.points import FAILED, NOT_APPLICABLE, PASSED
from golf.data.dataset import open_dataset
from golf.data.shards import read_shard, write_shard
from golf.data.token_bytes import load_tokenizer
from tests.golf.tokenizers import trained

GOLDEN = Path(__file__).parents[3] / "../shared/golden"


def prepared(data: Path, folder: Path, tokenizer: bytes, keep_text: bool = True) -> Path:
    """The texts of `data` under another tokenizer, in `folder`, with the text of the validation if it is kept."""
    folder.mkdir()
    old = load_tokenizer(data / "words.model")
    (folder / "words.model").write_bytes(tokenizer)
    new = load_tokenizer(folder / "words.model")
    for side in ("train", "val"):
        ids = read_shard(data / f"words_{side}_000000.bin")
        cuts = [*np.flatnonzero(ids == old.bos_id()), len(ids)]
        texts = [old.decode(ids[a + 1 : b].tolist()) for a, b in pairwise(cuts)]
        parts = [np.array([new.bos_id(), *new.encode(text)], np.uint16) for text in texts]
        write_shard(folder / f"words_{side}_000000.bin", np.concatenate(parts))
    if keep_text:
        shutil.copy(data / "validation.txt", folder)
    return folder


def words_tokenizer(path: Path, **options: Any) -> bytes:
    """A tokenizer of the made-up words, written to `path` on the way."""
    words = "the quick brown fox jumps over a lazy dog while seven wizards brew potions near old castle walls"
    return trained(path, [words] * 9, **{"vocab_size": 300, **options}).read_bytes()


@pytest.mark.parametrize("keep_text", [True, False])
def test_true_bytes_pass(data: Path, tmp_path: Path, keep_text: bool) -> None:
    """Fault: sound data are accused, with the text at hand or without."""
    folder = prepared(data, tmp_path / "d", words_tokenizer(tmp_path / "x.model"), keep_text)
    result = check_bytes(open_dataset(folder))
    assert result.state == PASSED
    assert result.evidence["counted_bytes"] == (data / "validation.txt").stat().st_size
    assert result.evidence.get("documents_other_than_original") == (0 if keep_text else None)


@pytest.mark.parametrize("keep_text", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_dummy_prefix": False, "remove_extra_whitespaces": True}, "counts 3 bytes for the 6"),
        ({"normalization_rule_name": "nfkc"}, "bytes for the 18"),
    ],
)
def test_a_tokenizer_that_changes_texts_fails(
    data: Path, tmp_path: Path, keep_text: bool, options: dict[str, Any], message: str
) -> None:
    """Fault: the table is compared with what it decodes itself, and both are wrong together."""
    folder = prepared(data, tmp_path / "d", words_tokenizer(tmp_path / "x.model", **options), keep_text)
    with pytest.raises(ValueError, match=message):
        open_dataset(folder)
    result = check_bytes(open_dataset(folder, accept_fault=True))
    assert result.state == FAILED
    assert message in result.why


def test_tokens_of_another_text_than_the_kept_one_fail(data: Path, tmp_path: Path) -> None:
    """Fault: words dropped or added between the text and the shards, which no tokenizer can show."""
    folder = prepared(data, tmp_path / "d", words_tokenizer(tmp_path / "x.model"))
    text = (folder / "validation.txt").read_text()
    (folder / "validation.txt").write_text(text.replace("fox", "vixen", 1))
    result = check_bytes(open_dataset(folder))
    assert (result.state, result.evidence["documents_differing"]) == (FAILED, 0)
    assert "validation.txt" in result.why


def test_a_mark_that_counts_as_text_fails(data: Path, tmp_path: Path) -> None:
    """Fault: "<|end|>" between documents adds its own bytes to theirs."""
    folder = prepared(
        data, tmp_path / "d", words_tokenizer(tmp_path / "x.model", user_defined_symbols=["<|end|>"]), keep_text=False
    )
    ids = read_shard(folder / "words_val_000000.bin")
    mark = load_tokenizer(folder / "words.model").piece_to_id("<|end|>")
    write_shard(folder / "words_val_000000.bin", np.insert(ids, np.flatnonzero(ids == 1)[1:], mark))
    result = check_bytes(open_dataset(folder))
    assert result.state == FAILED
    assert "<|end|>" in result.why


def test_documents_without_marks_are_not_judged(data: Path, tmp_path: Path) -> None:
    """Fault: shards of a tokenizer without BOS, or from the middle of a document, break the whole check."""
    folder = tmp_path / "d"
    folder.mkdir()
    shutil.copy(data / "words.model", folder)
    for side in ("train", "val"):
        ids = read_shard(data / f"words_{side}_000000.bin")
        write_shard(folder / f"words_{side}_000000.bin", ids[ids != 1])
    dataset = open_dataset(folder)
    for result in (check_bytes(dataset), check_splits(dataset)):
        assert (result.state, result.why) == (NOT_APPLICABLE, "the shards do not mark their documents")


def test_the_competition_s_text_passes(tmp_path: Path) -> None:
    """Fault: the competition's own tokens, whose text was normalised before they were counted, are accused."""
    if not GOLDEN.is_dir():
        pytest.skip(f"golden numbers are not at {GOLDEN}")
    shutil.copy(GOLDEN / "fineweb_1024_bpe.model", tmp_path / "sp.model")
    with safe_open(GOLDEN / "fineweb_bytes.safetensors", "np") as file:
        write_shard(tmp_path / "x_val_000000.bin", file.get_tensor("tokens").astype(np.uint16))
    result = check_bytes(open_dataset(tmp_path))
    assert result.state == PASSED
    assert result.evidence["documents"] > 1

"""Checks of the data: bytes of the text, documents in both splits, the validation's identity, complete shards.

The text is what the tokenizer's own library decodes, a document at a time; the table that scores are divided by is
compared with it, and with the text before it was tokenised where the dataset has that. What the shards cannot show,
such as letters that the tokenizer changed, its round trip over sample texts does.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golf.compliance.points import PointResult, judged, not_applicable
from golf.config.rules import SP1024_BYTES, SP1024_TOKENS
from golf.data.dataset import Dataset, hash_file, read_manifest
from golf.data.shards import read_shard
from golf.data.text import VALIDATION_TEXT
from golf.data.token_bytes import SPACE_MARK, load_tokenizer, tokenizer_fault

Ids = npt.NDArray[Any]
CountBytes = Callable[[Ids, Ids], npt.NDArray[np.int64]]
"""Bytes of each target after its previous token, as `ByteTable.count`."""
FINEWEB_NAME = "fineweb_val_"
NO_DOCUMENTS = "the shards do not mark their documents"
SHORT_DOCUMENT = 64
"""Tokens below which equal documents are counted but no fault: a page's notice may occur twice."""
MARK = re.compile(r"<\|.*\|>")
"""A piece that people put between documents: where it is no control symbol, its name is counted as text."""


def documents(tokens: Ids, bos: int) -> Iterator[Ids]:
    """Yields the documents of a stream, each without the control token before it; the last may be cut off."""
    borders = np.append(np.flatnonzero(tokens == bos), len(tokens))
    for start, end in pairwise(borders):
        yield tokens[start + 1 : end]


def check_bytes(dataset: Dataset, count: CountBytes | None = None, first_tokens: int | None = None) -> PointResult:
    """Shows that the bytes that scores are divided by are those of the text (point 15).

    Args:
        dataset: checked.
        count: counts bytes; that of the dataset by default.
        first_tokens: how much of the validation is decoded; all by default.
    """
    count = count or dataset.bytes.count
    tokens, path = np.asarray(dataset.validation[:first_tokens]), tokenizer_of(dataset)
    processor = load_tokenizer(path)
    bos, decoded, counted, differing, other, number, cut = processor.bos_id(), 0, 0, 0, 0, 0, 0
    texts = list(documents(tokens, bos))
    original = _original_text(dataset)
    for document in texts:
        # A mark that is left in the text was a space, written in byte pieces.
        text = processor.decode(document.tolist()).replace(SPACE_MARK, " ")
        if document is texts[-1] and "\N{REPLACEMENT CHARACTER}" in text:  # it was cut off within a character
            cut += 1
            continue
        previous = np.concatenate([[bos], document[:-1]]).astype(np.int64)
        num_bytes = int(count(previous, document.astype(np.int64)).sum())
        plain = text.encode()
        other += original is not None and original[decoded : decoded + len(plain)] != plain
        number, decoded, counted = number + 1, decoded + len(plain), counted + num_bytes
        differing += len(plain) != num_bytes
    marks = _written_marks(processor, tokens)
    evidence = {
        "documents": number,
        "decoded_bytes": decoded,
        "counted_bytes": counted,
        "documents_differing": differing,
        "cut_off": cut,
    }
    evidence |= {} if original is None else {"documents_other_than_original": other}
    faults = [
        tokenizer_fault(path, dataset.bytes, dataset.files[path.name], tokens),
        "bytes are not those of the decoded text: bits per byte are not true" if differing else "",
        f"the text of {other} documents is not that of {VALIDATION_TEXT}; prepare the dataset again" if other else "",
        f"{marks} is counted as text; make it a control symbol of the tokenizer" if marks else "",
    ]
    if not number and not any(faults):
        return not_applicable(15, NO_DOCUMENTS, evidence)
    return judged(15, not any(faults), evidence, "; ".join(filter(None, faults)))


def _original_text(dataset: Dataset) -> bytes | None:
    """Returns the validation text before it was tokenised, where it is beside these very tokens."""
    path, counts = dataset.folder / VALIDATION_TEXT, read_manifest(dataset.folder).get("counts")
    side = counts.get("val") if isinstance(counts, dict) else None
    tokens = side.get("tokens") if isinstance(side, dict) else None
    return path.read_bytes() if path.is_file() and tokens in (None, len(dataset.validation)) else None


def _written_marks(processor: Any, tokens: Ids) -> str:
    """Returns pieces like <|endoftext|> that occur and are counted as text, each with its number; "" without any."""
    ids, numbers = np.unique(tokens, return_counts=True)
    counted = zip(ids.tolist(), numbers.tolist(), strict=True)
    pieces = [(processor.id_to_piece(index), number) for index, number in counted if not processor.is_control(index)]
    return ", ".join(f"{piece} ({number} times)" for piece, number in pieces if MARK.search(piece))


def tokenizer_of(dataset: Dataset) -> Path:
    """Returns the tokenizer's file."""
    return dataset.folder / next(name for name in dataset.files if name.endswith(".model"))


def check_splits(dataset: Dataset, shards: int | None = None) -> PointResult:
    """Shows that training and validation share no document (point 12).

    Args:
        dataset: checked.
        shards: how many training shards are read; all by default.
    """
    if dataset.train is None:
        return not_applicable(12, "the dataset has no training shards")
    bos = load_tokenizer(tokenizer_of(dataset)).bos_id()
    known = {document.tobytes() for document in documents(np.asarray(dataset.validation), bos) if len(document)}
    shared, short, number = 0, 0, 0
    for shard in dataset.train.shards[:shards]:
        for document in documents(np.asarray(shard), bos):
            number += 1
            if document.tobytes() in known:
                shared, short = shared + (len(document) >= SHORT_DOCUMENT), short + (len(document) < SHORT_DOCUMENT)
    evidence = {
        "training_shards": len(dataset.train.shards),
        "training_tokens": dataset.train.num_tokens,
        "shards_compared": len(dataset.train.shards[:shards]),
        "training_documents": number,
        "validation_documents": len(known),
        "in_both": shared,
        f"in_both_below_{SHORT_DOCUMENT}_tokens": short,
    }
    if not number or not known:
        return not_applicable(12, NO_DOCUMENTS, evidence)
    return judged(12, not shared, evidence, "documents of the validation are in the training shards; prepare it again")


def check_identity(dataset: Dataset) -> PointResult:
    """Shows the validation split's hash, tokens and bytes (point 13)."""
    tokens = np.asarray(dataset.validation)
    num_bytes = int(dataset.bytes.count(tokens[:-1], tokens[1:]).sum())
    evidence = {"sha256": dataset.validation_digest, "tokens": len(tokens), "bytes": num_bytes}
    if not any(name.startswith(FINEWEB_NAME) for name in dataset.files) or dataset.vocab_size != 1024:
        return not_applicable(13, "not the competition's validation split", evidence)
    right = (len(tokens), num_bytes) == (SP1024_TOKENS, SP1024_BYTES)
    return judged(13, right, evidence, f"the split has {SP1024_TOKENS:,} tokens and {SP1024_BYTES:,} bytes")


def check_shards(dataset: Dataset, hashed: bool) -> PointResult:
    """Shows that every shard is as long as its header says, and has its known hash (point 14).

    Args:
        dataset: checked.
        hashed: whether all bytes are read again.
    """
    names = [name for name in dataset.files if name.endswith(".bin")]
    tokens = sum(read_shard(dataset.folder / name).size for name in names)
    evidence = {"shards": len(names), "tokens": tokens}
    if not hashed:
        return judged(14, True, evidence)
    changed = [name for name, known in dataset.files.items() if hash_file(dataset.folder / name) != known]
    evidence |= {"files_hashed": len(dataset.files), "changed": len(changed)}
    return judged(14, not changed, evidence, f"changed since it was prepared: {', '.join(changed[:3])}")

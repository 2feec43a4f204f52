"""A prepared folder as one value: training stream, validation tokens, bytes per token, and a digest of it all.

A folder holds `*_train_NNNNNN.bin` and `*_val_NNNNNN.bin` shards, one `*.model` tokenizer and, where this
project made it, `dataset.json`, written last. Nothing is written here. A folder that is half written, mixed
from two datasets or made for another vocabulary is refused with the remedy, never used in part.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.data.shards import Tokens, TokenStream, check_ids, read_shard, token_stream
from golf.data.token_bytes import ByteTable, tokenizer_fault
from golf.runtime.files import read_json

Manifest = dict[str, Any]
"""Content of a dataset's manifest, JSON."""
DATASET_MANIFEST = "dataset.json"
"""File of a prepared folder that says what is in it and whether it is complete."""
HOW_TO_PREPARE = "make one with `python -m golf data prepare` (see `python -m golf data --help`)"
"""Remedy of most errors below."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The data that training and evaluation read."""

    folder: Path
    """Path of the folder."""
    train: TokenStream | None
    """The training shards; None where the folder can only be evaluated on."""
    validation: Tokens
    """All validation tokens in order, read-only uint16, shape (tokens,)."""
    bytes: ByteTable
    """Bytes of text per token."""
    vocab_size: int
    """Number of pieces of the tokenizer."""
    files: Mapping[str, str]
    """SHA-256 (hex) of every shard and the tokenizer by file name."""

    @property
    def name(self) -> str:
        """The name in its manifest, else that of its folder with the beginning of its shards' names."""
        own, shards = self.folder.resolve().name, min(self.files).partition("_")[0]
        return str(read_manifest(self.folder).get("name") or (own if shards in own else f"{shards}-{own}"))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all names and hashes: the same for equal files in any folder."""
        return digest_files(self.files)

    @property
    def validation_digest(self) -> str:
        """The same without the training shards: what an evaluation depends on."""
        return digest_files({name: value for name, value in self.files.items() if "_train_" not in name})


def open_dataset(
    folder: Path,
    model_vocab_size: int | None = None,
    tokenizer: Path | None = None,
    accept_fault: bool = False,
) -> Dataset:
    """Opens and checks the prepared `folder`.

    Args: model_vocab_size: must be the tokenizer's, where given; tokenizer: its path in another folder; accept_fault:
        open it also where the tokenizer's bytes are not those of its texts, so that a check can report it.
    Raises: FileNotFoundError without folder, validation shards or tokenizer; ValueError naming file, value and remedy
        when the folder is incomplete, mixed or damaged, its vocabulary is another one, or its tokenizer counts other
        bytes than its texts have.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no dataset folder {folder}; check the path, or {HOW_TO_PREPARE}")
    manifest = read_manifest(folder)
    if not manifest.get("complete", True):
        raise ValueError(
            f"{folder} is half written ({DATASET_MANIFEST} says so); run the command that prepares it again"
        )
    train, validation, model = _find_parts(folder, tokenizer)
    table = ByteTable.of_tokenizer(model)
    vocab_size = table.base.size
    if model_vocab_size not in (None, vocab_size):
        raise ValueError(
            f"{model} has {vocab_size} pieces, the model's vocab_size is {model_vocab_size}: a tokenizer of "
            f"another size; set model.vocab_size to {vocab_size} or open the dataset that the model was made for"
        )
    parts = [read_shard(path) for path in validation]
    for path, part in zip(validation, parts, strict=True):
        check_ids(path, part, vocab_size)
    tokens = parts[0] if len(parts) == 1 else np.concatenate(parts)
    tokens.flags.writeable = False
    if not table.count(tokens[:-1], tokens[1:]).any():
        raise ValueError(f"{folder}: the validation shards hold no text to score; {HOW_TO_PREPARE}")
    recorded = manifest.get("files", {})
    files = {path.name: _file_hash(path, recorded.get(path.name)) for path in (*train, *validation, model)}
    fault = tokenizer_fault(model, table, files[model.name], tokens)
    if fault and not accept_fault:
        raise ValueError(fault)
    stream = token_stream(train, vocab_size) if train else None
    return Dataset(folder, stream, tokens, table, vocab_size, files)


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of `folder`, with at least "name", "complete" and "files"; {} where there is none.

    Raises: ValueError naming the file when it is damaged.
    """
    path = folder / DATASET_MANIFEST
    if not path.exists():
        return {}
    manifest = read_json(path)
    complete = (
        isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) and {"name", "complete"} <= set(manifest)
    )
    if not complete or not all(map(_is_sum, manifest["files"].values())):
        raise ValueError(f"{path} is no manifest of a dataset; delete it and prepare the dataset again")
    return manifest


def files_in_place(folder: Path, manifest: Manifest) -> bool:
    """Returns whether a dataset is complete and every file of its manifest is there with its size."""
    sizes = {folder / name: file["bytes"] for name, file in manifest.get("files", {}).items()}
    return bool(manifest.get("complete")) and all(
        path.is_file() and path.stat().st_size == size for path, size in sizes.items()
    )


def _is_sum(value: Any) -> bool:
    """Returns whether a value of a manifest holds a file's size and SHA-256."""
    return (
        isinstance(value, dict)
        and type(value.get("bytes")) is int
        and re.fullmatch("[0-9a-f]{64}", str(value.get("sha256"))) is not None
    )


def _find_parts(folder: Path, tokenizer: Path | None) -> tuple[list[Path], list[Path], Path]:
    """Returns the training shards, the validation shards and the tokenizer."""
    shards: dict[str, list[Path]] = {"train": [], "val": []}
    prefixes = set()
    for path in sorted(folder.glob("*.bin")):
        if match := re.fullmatch(r"(.+)_(train|val)_\d+\.bin", path.name):
            shards[match[2]].append(path)
            prefixes.add(match[1])
    tokenizers = sorted(folder.glob("*.model")) if tokenizer is None else [tokenizer]
    if not shards["val"]:
        raise FileNotFoundError(f"{folder} has no validation shard (*_val_000000.bin); {HOW_TO_PREPARE}")
    if len(prefixes) > 1 or len(tokenizers) != 1:
        contents = f"shards of {sorted(prefixes)} and tokenizers {[path.name for path in tokenizers]}"
        raise ValueError(
            f"{folder} must hold one dataset's shards and its one tokenizer, it has {contents}; {HOW_TO_PREPARE}"
        )
    return shards["train"], shards["val"], tokenizers[0]


def _file_hash(path: Path, recorded: Mapping[str, Any] | None) -> str:
    """Returns the SHA-256 of the file: the recorded one when the size agrees, because 16 GB take a minute to hash."""
    if recorded and recorded["bytes"] == path.stat().st_size:
        return str(recorded["sha256"])
    return hash_file(path)


def hash_file(path: Path) -> str:
    """Returns the SHA-256 (hex) of the file at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(files: Mapping[str, str]) -> str:
    """Returns the SHA-256 (hex) over file names and their hashes, in the order of the names."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()

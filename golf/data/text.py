"""Text into a dataset folder: a split by document, a tokenizer trained on its training side, shards, a manifest.

Documents are ordered and split by the hash of their text, so that the same texts in any order make the same bytes, and
equal documents are never on both sides. Decoding the shards restores the text byte for byte. Validation text never
reaches the tokenizer's training, files of others are never overwritten, and the manifest is written last.
"""

import hashlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import DATASET_MANIFEST, Manifest, files_in_place, hash_file, read_manifest
from golf.data.shards import write_shard
from golf.data.token_bytes import SPACE_MARK, ByteTable, load_tokenizer
from golf.runtime.files import write_bytes, write_json

try:
    import sentencepiece
except ModuleNotFoundError:
    sentencepiece = None  # type: ignore[assignment]

SHARD_TOKENS = 100_000_000
"""Tokens of a full shard, as in the competition's."""
VALIDATION_TEXT = "validation.txt"
"""File with the validation documents one after the other, for comparison with general compressors."""
PIECE_BYTES = (4096, 12_288)
"""A file is cut at the first blank line after the first number of bytes, or at any line after the second."""

TEXT_ENDINGS = (".txt", ".md")
"""Endings of the files that are read from a folder."""

_PYTHON = ".python"
"""File of a dataset that holds the version of Python that the text is of: reading the text takes seconds."""

Document = tuple[str, str]
"""Name and text of a document."""


@dataclass(frozen=True)
class Split:
    """One side of the split."""

    side: str
    """"train" or "val", as in the shards' names."""
    texts: list[str]
    """Its documents in the order of their hashes."""

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return sum(len(text.encode()) for text in self.texts)


def prepare_text(
    documents: Sequence[Document],
    folder: Path,
    name: str,
    vocab_size: int = 1024,
    validation_share: float = 0.05,
    log: Callable[[str], object] = print,
) -> Manifest:
    """Makes `folder` a dataset of the documents, unless it already is that dataset.

    Args: name: beginning of the shards' names; validation_share: share of the bytes held out, at most, in (0, 0.5];
        log: receives lines of progress.
    Returns: the manifest.
    Raises: ValueError on a wrong argument, too little text, or a folder that holds something else.
    """
    _check_arguments(name, vocab_size, validation_share)
    texts = _ordered_texts(documents, log)
    parameters = {"name": name, "text_sha256": _hash_texts(texts), "vocab_size": vocab_size}
    parameters |= {"validation_share": validation_share, "layout": 1}
    manifest = _claim(folder, parameters)
    if files_in_place(folder, manifest):
        log(f"{folder} already holds this dataset; nothing to do")
        return manifest
    started = time.monotonic()
    splits = _split(texts, validation_share)
    _clear(folder, name)
    write_json(folder / DATASET_MANIFEST, manifest | {"complete": False})
    log(f"training a tokenizer of {vocab_size} pieces on {splits[0].num_bytes:,} bytes")
    tokenizer = folder / f"{name}.model"
    write_bytes(tokenizer, _train_tokenizer(splits[0].texts, vocab_size))
    counts = {split.side: _write_split(folder, name, split, tokenizer, log) for split in splits}
    write_bytes(folder / VALIDATION_TEXT, "".join(splits[1].texts).encode())
    manifest |= {"complete": True, "counts": counts, "files": _describe(folder, name)}
    write_json(folder / DATASET_MANIFEST, manifest)
    log(f"{folder} is ready after {time.monotonic() - started:.1f} s")
    return manifest


def prepare_corpus(folder: Path, log: Callable[[str], object] = print) -> None:
    """Makes `folder` the dataset of the corpus, unless it already is that of this Python.

    Raises: ValueError when the folder holds something else; FileNotFoundError as `documents`.
    """
    stamp, manifest = folder / _PYTHON, read_manifest(folder)
    if stamp.is_file() and stamp.read_text() == sys.version and files_in_place(folder, manifest):
        return
    log("reading the docstrings of the standard library: the built-in text")
    prepare_text(documents(), folder, CORPUS_NAME, log=log)
    write_bytes(stamp, sys.version.encode())


def _check_arguments(name: str, vocab_size: int, validation_share: float) -> None:
    """Raises ValueError naming the argument, its rule and its value."""
    if not name or not all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in name):
        raise ValueError(f"name must be of letters, digits and hyphens, got {name!r}")
    if not 300 <= vocab_size <= 65536:
        raise ValueError(f"vocab_size must be from 300 (bytes and letters) to 65,536 (uint16), got {vocab_size}")
    if not 0 < validation_share <= 0.5:
        raise ValueError(f"validation_share must be in (0, 0.5], got {validation_share}")


def _ordered_texts(documents: Sequence[Document], log: Callable[[str], object]) -> list[str]:
    """Returns the different texts in the order of their hashes."""
    by_hash: dict[bytes, str] = {}
    marks = 0
    for _, text in documents:
        marks += text.count(SPACE_MARK)
        clean = text.replace(SPACE_MARK, " ")
        if clean:
            by_hash[hashlib.sha256(clean.encode()).digest()] = clean
    if marks:
        log(f"{marks} signs U+2581 became spaces: to SentencePiece they are the same")
    if len(documents) > len(by_hash):
        log(f"left out {len(documents) - len(by_hash)} repeated or empty documents of {len(documents)}")
    if len(by_hash) < 2:
        size = sum(len(text.encode()) for text in by_hash.values())
        raise ValueError(
            f"too little text: {len(by_hash)} different documents, {size} bytes; training and validation need one "
            f"document each (a file is one per {PIECE_BYTES[0]} bytes): give more text"
        )
    return [by_hash[key] for key in sorted(by_hash)]


def _hash_texts(texts: Sequence[str]) -> str:
    """Returns the SHA-256 (hex) over the texts and their borders."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _claim(folder: Path, parameters: Manifest) -> Manifest:
    """Returns the folder's manifest where it has these parameters, else a new one; ValueError where it is another's."""
    entries = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.exists() else []
    old = read_manifest(folder)
    if entries and old.get("name") != parameters["name"]:
        owner = f"the dataset {old['name']}" if old else f"other files ({', '.join(sorted(entries)[:3])})"
        raise ValueError(f"{folder} already holds {owner}; prepare {parameters['name']} in a new or empty folder")
    if old.get("parameters") == parameters:
        return dict(old)
    return {"name": parameters["name"], "complete": False, "parameters": parameters, "files": {}}


def _clear(folder: Path, name: str) -> None:
    """Removes the manifest first and then all that an earlier preparation of this name wrote."""
    for path in (folder / DATASET_MANIFEST, *_own_files(folder, name)):
        path.unlink(missing_ok=True)


def _own_files(folder: Path, name: str) -> list[Path]:
    """Returns the existing files that `prepare_text` writes, without the manifest."""
    shards = [*folder.glob(f"{name}_train_*.bin"), *folder.glob(f"{name}_val_*.bin")]
    return sorted(shards + [path for path in (folder / f"{name}.model", folder / VALIDATION_TEXT) if path.exists()])


def _describe(folder: Path, name: str) -> Manifest:
    """Returns size and SHA-256 of every file written."""
    return {p.name: {"bytes": p.stat().st_size, "sha256": hash_file(p)} for p in _own_files(folder, name)}


def _split(texts: Sequence[str], share: float) -> tuple[Split, Split]:
    """Returns the training and the validation side: documents are held out in the given order while they fit."""
    sizes = [len(text.encode()) for text in texts]
    room = int(share * sum(sizes))
    held_out = set()
    for index, size in enumerate(sizes):
        if size <= room:
            held_out.add(index)
            room -= size
    held_out = held_out or {min(range(len(sizes)), key=sizes.__getitem__)}
    train = [text for index, text in enumerate(texts) if index not in held_out]
    return Split("train", train), Split("val", [texts[index] for index in sorted(held_out)])


def _train_tokenizer(texts: Sequence[str], vocab_size: int) -> bytes:
    """Returns a SentencePiece BPE model with byte fallback that changes no byte of a text.

    A space goes before each document; it is not counted, and decoding takes it away. Line ends are letters like others.
    """
    if sentencepiece is None:
        raise ModuleNotFoundError("training a tokenizer needs sentencepiece: pip install sentencepiece")
    model = io.BytesIO()
    foreign = str.maketrans(dict.fromkeys(_rare_letters(texts, (vocab_size - 260) // 3), " "))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(text.translate(foreign) for text in texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=0.9995,
            normalization_rule_name="identity",
            add_dummy_prefix=True,
            remove_extra_whitespaces=False,
            split_digits=True,
            max_sentence_length=2**30,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        size = sum(len(text.encode()) for text in texts)
        raise ValueError(
            f"cannot train a tokenizer of vocab_size {vocab_size} on {size} bytes of text ({error}); "
            "give more text or a smaller vocabulary"
        ) from error
    return model.getvalue()


def _rare_letters(texts: Sequence[str], room: int) -> set[str]:
    """Returns the letters that get no piece and are written in bytes: all but the `room` most frequent ones.

    Without this a text in Chinese would fill the vocabulary with letters. The trainer also leaves out every sentence
    with NUL or with its own mark for unknown letters, U+2585.
    """
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(text)
    ordered = sorted(letters, key=lambda letter: (-letters[letter], letter))
    return {*ordered[room:], "\0", "\u2585"}


def _write_split(
    folder: Path, name: str, split: Split, tokenizer: Path, log: Callable[[str], object]
) -> dict[str, int | float]:
    """Writes one side's shards and returns its counts; every document begins with the beginning-of-sequence token.

    Raises: ValueError when the tokens do not stand for the text's bytes exactly.
    """
    model, table = load_tokenizer(tokenizer), ByteTable.of_tokenizer(tokenizer)
    documents = [np.array(model.encode(text, add_bos=True), np.uint16) for text in split.texts]
    for tokens, text in zip(documents, split.texts, strict=True):
        counted, size = int(table.count(tokens[:-1], tokens[1:]).sum()), len(text.encode())
        if counted != size:
            raise ValueError(f"the tokens of the document {text[:40]!r} stand for {counted} bytes, not its {size}")
    tokens = np.concatenate(documents)
    for index, start in enumerate(range(0, tokens.size, SHARD_TOKENS)):
        write_shard(folder / f"{name}_{split.side}_{index:06d}.bin", tokens[start : start + SHARD_TOKENS])
    counts = {"documents": len(documents), "bytes": split.num_bytes, "tokens": tokens.size}
    per_token = counts["bytes"] / counts["tokens"]
    log(
        f"{split.side}: {counts['documents']:,} documents, {counts['bytes']:,} bytes, {counts['tokens']:,} tokens, "
        f"{per_token:.4f} bytes per token"
    )
    return counts | {"bytes_per_token": per_token}


def read_documents(paths: Sequence[Path], log: Callable[[str], object] = print) -> list[Document]:
    """Returns the UTF-8 texts at `paths`, cut into documents of about 4 to 16 kB at blank lines.

    Args: paths: files, or folders, of which all *.txt and *.md files below are read, also in linked folders, hidden
        ones left out; log: receives a line on what else was left out.
    Returns: names ("path:number") and texts; a file's texts joined are the file.
    Raises: FileNotFoundError, also of a link to nothing; ValueError naming a file that is empty or no UTF-8 or a folder
        without text; OSError naming a folder that cannot be read.
    """
    files: dict[tuple[int, int], Path] = {}
    texts = [path for root in paths for path in _text_files(root, log)]
    for path in texts:
        state = path.stat()
        files.setdefault((state.st_dev, state.st_ino), path)
    if len(files) < len(texts):
        log(f"read once: {len(texts) - len(files)} of {len(texts)} paths lead to the same file as another")
    return [
        (f"{path}:{number}", piece) for path in files.values() for number, piece in enumerate(_pieces(_read_text(path)))
    ]


def _text_files(root: Path, log: Callable[[str], object]) -> list[Path]:
    """Returns the file itself, or a folder's text files in the order of their paths."""
    if not root.exists():
        raise FileNotFoundError(f"there is no text file or folder {root}; check the path")
    if not root.is_dir():
        return [root]
    below = sorted(_files_below(root))
    texts = [path for path in below if path.suffix.lower() in TEXT_ENDINGS]
    others = Counter(path.suffix or "without an ending" for path in below if path.suffix.lower() not in TEXT_ENDINGS)
    if not texts:
        raise ValueError(f"{root} holds no *.txt or *.md file; name the files themselves if theirs is another ending")
    if others:
        kinds = ", ".join(f"{number} {ending}" for ending, number in others.most_common(5))
        log(f"left out in {root}: {others.total()} files that are not *.txt or *.md ({kinds}); name them to take them")
    return texts


def _files_below(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder that are not hidden, also in linked folders, each folder once.

    Raises: OSError naming a folder that cannot be read; FileNotFoundError naming a text that is a link to nothing.
    """
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise error

    for directory, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        state = Path(directory).stat()
        again = (state.st_dev, state.st_ino) in seen  # a link back to a folder above, or a second way to the same one
        seen.add((state.st_dev, state.st_ino))
        folders[:] = [] if again else sorted(name for name in folders if not name.startswith("."))
        for path in () if again else (Path(directory, name) for name in files if not name.startswith(".")):
            if path.is_symlink() and not path.exists() and path.suffix.lower() in TEXT_ENDINGS:
                raise FileNotFoundError(f"{path} is a link to {path.readlink()}, which is not there; remove the link")
            if path.is_file():
                yield path


def _read_text(path: Path) -> str:
    """Returns the text of a file, with its own line ends."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; convert it, or leave it out") from error
    if not text.strip():
        raise ValueError(f"{path} holds no text; leave it out")
    return text


def _pieces(text: str) -> Iterator[str]:
    """Yields the text in pieces that end at blank lines where there are any."""
    piece, size = "", 0
    lines = [line[at : at + 4096] for line in text.splitlines(keepends=True) for at in range(0, len(line), 4096)]
    left = len(text.encode())
    for line in lines:
        piece, size = piece + line, size + len(line.encode())
        enough = (size >= PIECE_BYTES[0] and not line.strip()) or size >= PIECE_BYTES[1]
        # A rest too small for a piece of its own stays with this one.
        if enough and left - size >= PIECE_BYTES[0]:
            yield piece
            piece, size, left = "", 0, left - size
    yield piece

"""Prepared folders: bytes kept, splits apart, same input same folder, hostile input refused."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from golf.data.dataset import open_dataset
from golf.data.shards import read_shard
from golf.data.text import prepare_text, read_documents
from golf.data.token_bytes import load_tokenizer

Documents = list[tuple[str, str]]


@pytest.fixture(scope="module")
def many(texts: list[str]) -> Documents:
    """The tiny documents with names."""
    return [(f"page {index}", text) for index, text in enumerate(texts)]


def prepare(documents: Documents, folder: Path, **changes: Any) -> dict[str, Any]:
    """A small dataset, silently."""
    settings: dict[str, Any] = {"name": "tiny", "vocab_size": 400, "validation_share": 0.2, "log": str}
    return prepare_text(documents, folder, **(settings | changes))


def decoded(folder: Path, side: str) -> list[str]:
    """The documents of one side, read back from shards and tokenizer."""
    model = load_tokenizer(folder / "tiny.model")
    tokens = [token for path in sorted(folder.glob(f"tiny_{side}_*.bin")) for token in read_shard(path).tolist()]
    borders = [at for at, token in enumerate(tokens) if token == model.bos_id()]
    assert borders[0] == 0
    ends = [*borders[1:], len(tokens)]
    return [model.decode(tokens[start + 1 : end]) for start, end in zip(borders, ends, strict=True)]


def test_every_document_comes_back_once(tmp_path: Path, many: Documents) -> None:
    """Catches a document lost, doubled, in both splits, or changed by a byte (spaces, line ends, emoji, markup)."""
    odd = [("a", " starts with spaces\n\n\n"), ("b", "\r\n\ttabs\0NUL \ufeff e\u0301 \u2585"), ("c", "x")]
    manifest = prepare(many + odd, tmp_path)
    train, validation = decoded(tmp_path, "train"), decoded(tmp_path, "val")
    assert sorted(train + validation) == sorted(text for _, text in many + odd)
    assert not set(train) & set(validation)
    assert (tmp_path / "validation.txt").read_bytes() == "".join(validation).encode()
    share = manifest["counts"]["val"]["bytes"] / sum(side["bytes"] for side in manifest["counts"].values())
    assert 0.1 < share <= 0.2


def test_bytes_of_validation_are_the_texts(tmp_path: Path, many: Documents) -> None:
    """Catches bits per byte divided by anything but the bytes of validation.txt."""
    prepare(many, tmp_path)
    dataset = open_dataset(tmp_path, 400)
    counted = dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]).sum()
    assert counted == (tmp_path / "validation.txt").stat().st_size


def test_order_and_repetition_change_nothing(tmp_path: Path, many: Documents) -> None:
    """Catches a dataset whose identity depends on the order of files, on names, or on when it was made."""
    shuffled = [(f"other {name}", text) for name, text in many + many[:5]]
    random.Random(1).shuffle(shuffled)
    for folder, documents in (("one", many), ("two", shuffled)):
        prepare(documents, tmp_path / folder)
    assert open_dataset(tmp_path / "one").digest == open_dataset(tmp_path / "two").digest


def test_tokenizer_sees_no_validation_text(tmp_path: Path, many: Documents) -> None:
    """Catches a tokenizer trained on both sides: another validation text must leave it as it is."""
    prepare(many, tmp_path / "one")
    train, (first, *others) = decoded(tmp_path / "one", "train"), decoded(tmp_path / "one", "val")
    model = (tmp_path / "one" / "tiny.model").read_bytes()
    for number in range(200):
        # The first held-out text becomes another one of its size, until the hash holds that one out as well.
        other = f"{number:04} " + "Zq" * len(first.encode())
        other = other[: len(first.encode())]
        folder = tmp_path / f"try {number}"
        prepare([("", text) for text in [*train, *others, other]], folder)
        if set(decoded(folder, "val")) == {*others, other}:
            assert (folder / "tiny.model").read_bytes() == model
            return
    pytest.fail("no text was held out in the place of the first one")


def test_a_complete_folder_is_left_alone(tmp_path: Path, many: Documents) -> None:
    """Catches work done again on every start, and work left out when a parameter, a text or a file changed."""
    lines: list[str] = []
    prepare(many, tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prepare(many, tmp_path, log=lines.append)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert any("nothing to do" in line for line in lines)
    assert prepare(many, tmp_path, vocab_size=420)["parameters"]["vocab_size"] == 420
    assert open_dataset(tmp_path).vocab_size == 420
    before = open_dataset(tmp_path).digest
    (tmp_path / "tiny_train_000000.bin").unlink()
    prepare(many, tmp_path, vocab_size=420)
    assert open_dataset(tmp_path).digest == before


def test_a_killed_preparation_is_redone(tmp_path: Path, many: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a half-written folder that opens, and stale shards of the first try kept beside the second's."""
    prepare(many, tmp_path / "whole")

    def kill(line: str) -> None:
        if line.startswith("train:"):
            raise KeyboardInterrupt

    monkeypatch.setattr("golf.data.text.SHARD_TOKENS", 100)
    with pytest.raises(KeyboardInterrupt):
        prepare(many, tmp_path / "killed", log=kill)
    assert len(list((tmp_path / "killed").glob("tiny_train_*.bin"))) > 3
    with pytest.raises(ValueError, match="half written"):
        open_dataset(tmp_path / "killed")
    monkeypatch.undo()
    prepare(many, tmp_path / "killed")
    assert open_dataset(tmp_path / "killed").digest == open_dataset(tmp_path / "whole").digest


def test_several_shards_are_one_stream(tmp_path: Path, many: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches tokens lost where a large text is cut into shards."""
    prepare(many, tmp_path / "one")
    monkeypatch.setattr("golf.data.text.SHARD_TOKENS", 1000)
    prepare(many, tmp_path / "many")
    assert decoded(tmp_path / "many", "train") == decoded(tmp_path / "one", "train")
    assert len(open_dataset(tmp_path / "many").validation) == len(open_dataset(tmp_path / "one").validation)


@pytest.mark.parametrize("file", ["notes.txt", "fineweb_val_000000.bin", "other.model"])
def test_foreign_files_are_not_touched(tmp_path: Path, many: Documents, file: str) -> None:
    """Catches a user's own folder cleared or mixed into a dataset."""
    (tmp_path / file).write_bytes(b"mine")
    with pytest.raises(ValueError, match="new or empty folder"):
        prepare(many, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    prepare(many, tmp_path / "a")
    with pytest.raises(ValueError, match="already holds the dataset tiny"):
        prepare(many, tmp_path / "a", name="another")


@pytest.mark.parametrize(
    ("documents", "changes", "message"),
    [
        ([], {}, "too little text"),
        ([("a", "one"), ("b", "one")], {}, "too little text: 1 different"),
        ([("a", "one"), ("b", "two")], {}, "cannot train a tokenizer of vocab_size 400"),
        ([("a", "x")], {"vocab_size": 70_000}, "vocab_size must be from 300"),
        ([("a", "x")], {"validation_share": 0.0}, "validation_share"),
        ([("a", "x")], {"name": "../up"}, "name must be"),
    ],
)
def test_what_cannot_be_prepared_is_said(
    tmp_path: Path, documents: Documents, changes: dict[str, Any], message: str
) -> None:
    """Catches a library's internal error, or an empty split, instead of a message with the remedy."""
    with pytest.raises(ValueError, match=message):
        prepare(documents, tmp_path, **changes)


def test_a_text_of_many_letters_leaves_room_for_words(tmp_path: Path) -> None:
    """Catches a tokenizer that fails on Chinese because every sign wants a piece of its own."""
    chance = random.Random(2)
    texts = ["".join(chr(0x4E00 + int(chance.expovariate(0.004))) for _ in range(600)) + "\n" for _ in range(20)]
    prepare([("", text) for text in texts], tmp_path)
    assert sorted(decoded(tmp_path, "train") + decoded(tmp_path, "val")) == sorted(texts)


def test_the_space_mark_becomes_a_space(tmp_path: Path, many: Documents) -> None:
    """Catches a text with SentencePiece's own mark counted as three bytes and decoded as one."""
    lines: list[str] = []
    prepare([*many, ("", "a\u2581b")], tmp_path, log=lines.append)
    assert "a b" in decoded(tmp_path, "train") + decoded(tmp_path, "val")
    assert any("U+2581" in line for line in lines)


def test_pieces_of_a_file_are_the_file(tmp_path: Path) -> None:
    """Catches text lost, or line ends changed, where a file is cut; pieces of a wrong size; cuts within paragraphs."""
    chance = random.Random(3)
    paragraphs = [
        "".join(chance.choice(["word ", "é\n", "日\r\n"]) for _ in range(chance.randrange(1, 400))) for _ in range(90)
    ]
    contents = {"a.txt": "\n\n".join(paragraphs), "b.md": "y" * 50_000, "c.txt": "one line", "d.txt": "z\n\n" * 2730}
    for name, text in contents.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "skip.py").write_text("code")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "e.txt").write_text("hidden")
    found = read_documents([tmp_path])
    for name, text in contents.items():
        assert "".join(piece for path, piece in found if f"{name}:" in path) == text
        sizes = [len(piece.encode()) for path, piece in found if f"{name}:" in path]
        assert max(sizes) <= 20_500
        assert len(sizes) == 1 or min(sizes) >= 4096
    assert all(piece.endswith("\n\n") for path, piece in found[:3] if "a.txt" in path)
    assert {path.split(":")[0].rsplit("/", 1)[1] for path, _ in found} == set(contents)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    """Catches text behind a link left out in silence, an endless way through a link back, and a text read twice."""
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    for folder in (mine / "sub", elsewhere / "deep"):
        folder.mkdir(parents=True)
    contents = {mine / "sub" / "a.txt": "one", elsewhere / "b.md": "two", elsewhere / "deep" / "C.TXT": "three"}
    for path, text in contents.items():
        path.write_text(text)
    (mine / "link").symlink_to(elsewhere)
    (mine / "again").symlink_to(elsewhere / "deep")
    (elsewhere / "deep" / "back").symlink_to(mine)
    (mine / "sub" / "copy.txt").symlink_to(mine / "sub" / "a.txt")
    (mine / "code.py").write_text("left out")
    lines: list[str] = []
    found = read_documents([mine, mine / "sub" / "a.txt"], lines.append)
    assert sorted(text for _, text in found) == sorted(contents.values())
    assert any("1 .py" in line for line in lines)
    assert any(line.startswith("read once: 2 of 5") for line in lines)
    (mine / "gone.txt").symlink_to(tmp_path / "nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt is a link to .*nothing\.txt"):
        read_documents([mine])


@pytest.mark.parametrize(
    ("content", "message"), [(b"caf\xe9 au lait", "not UTF-8 at byte 3"), (b"", "no text"), (b" \n\n", "no text")]
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """Catches letters replaced in silence, or an empty file that leads to an error elsewhere."""
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_documents([tmp_path])
    assert "bad.txt" in str(caught.value)


def test_missing_paths_are_named(tmp_path: Path) -> None:
    """Catches a misspelt path that silently adds no text."""
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        read_documents([tmp_path / "nowhere.txt"])
    with pytest.raises(ValueError, match=r"no \*\.txt"):
        read_documents([tmp_path])


def test_manifest_describes_the_files(tmp_path: Path, many: Documents) -> None:
    """Catches hashes or counts that are not those of the files, which every later stage's identity rests on."""
    prepare(many, tmp_path)
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    assert set(manifest["files"]) == {path.name for path in tmp_path.iterdir()} - {"dataset.json"}
    for name, record in manifest["files"].items():
        content = (tmp_path / name).read_bytes()
        assert record == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["counts"]["val"]["tokens"] == len(read_shard(tmp_path / "tiny_val_000000.bin"))

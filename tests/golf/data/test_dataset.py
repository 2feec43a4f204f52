"""Prepared folders opened: identity, what is missing, mixed, damaged or made for another model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golf.data.dataset import Dataset, open_dataset
from golf.data.shards import write_shard


def shard(folder: Path, name: str, tokens: list[int]) -> None:
    """A shard of the project's writer."""
    write_shard(folder / name, np.array(tokens, np.uint16))


@pytest.fixture
def folder(tmp_path: Path, plain_tokenizer: Path) -> Path:
    """A folder made by hand: two training shards, two validation shards, a tokenizer of 400 pieces, no manifest."""
    made = tmp_path / "made"
    made.mkdir()
    shutil.copy(plain_tokenizer, made / "x.model")
    for name, tokens in {"train_0": [1, 5, 6], "train_1": [7, 8], "val_0": [1, 9, 10], "val_1": [11, 399]}.items():
        shard(made, f"x_{name}.bin", tokens)
    return made


def test_parts_are_joined_in_order(folder: Path) -> None:
    """Catches shards of one side read as the other, in the wrong order, or lost."""
    dataset = open_dataset(folder, 400)
    assert dataset.validation.tolist() == [1, 9, 10, 11, 399]
    assert dataset.validation.dtype == np.uint16
    assert dataset.train is not None
    assert dataset.train.read(0, 5).tolist() == [1, 5, 6, 7, 8]
    assert (dataset.vocab_size, dataset.bytes.base.shape) == (400, (400,))
    with pytest.raises(ValueError, match="read-only"):
        dataset.validation[0] = 3


def test_identity_is_the_bytes_not_the_place(folder: Path, tmp_path: Path) -> None:
    """Catches results that are not found again after a move, and results found for other data."""
    first = open_dataset(folder)
    shutil.copytree(folder, tmp_path / "else" / "where")
    assert open_dataset(tmp_path / "else" / "where").digest == first.digest
    (folder / "notes.txt").write_text("no part of the data")
    assert open_dataset(folder).digest == first.digest
    digests = {first.digest}
    changes: list[tuple[str, list[int]]] = [("x_train_1.bin", [7, 9]), ("x_val_1.bin", [11, 398])]
    for name, tokens in changes:
        shard(folder, name, tokens)
        digests.add(open_dataset(folder).digest)
    (folder / "x_train_1.bin").rename(folder / "x_train_2.bin")
    digests.add(open_dataset(folder).digest)
    assert len(digests) == 4


def test_validation_identity_ignores_training(folder: Path) -> None:
    """Catches scores computed again because a training shard was added, or kept when the split changed."""
    before = open_dataset(folder)
    shard(folder, "x_train_2.bin", [5])
    assert open_dataset(folder).validation_digest == before.validation_digest
    assert open_dataset(folder).digest != before.digest
    shard(folder, "x_val_1.bin", [11, 12])
    assert open_dataset(folder).validation_digest != before.validation_digest


def with_manifest(folder: Path, **changes: object) -> Dataset:
    """The folder opened with a manifest that knows every file."""
    digest = {name: {"bytes": (folder / name).stat().st_size, "sha256": value} for name, value in recorded(folder)}
    manifest = {"name": "x", "complete": True, "files": digest} | changes
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return open_dataset(folder)


def recorded(folder: Path) -> list[tuple[str, str]]:
    """Names and hashes of the folder without a manifest."""
    (folder / "dataset.json").unlink(missing_ok=True)
    return list(open_dataset(folder).files.items())


def test_a_manifest_changes_no_identity(folder: Path) -> None:
    """Catches a folder with a manifest that is another dataset than the same folder without, and a stale hash used."""
    plain = open_dataset(folder)
    assert with_manifest(folder).digest == plain.digest
    assert with_manifest(folder, files={}).digest == plain.digest
    with_manifest(folder)
    shard(folder, "x_train_1.bin", [7, 8, 9])
    grown = open_dataset(folder).digest
    (folder / "dataset.json").unlink()
    assert open_dataset(folder).digest == grown != plain.digest


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": 1, "complete": true, "files": {"a": 3}}', "{"])
def test_a_damaged_manifest_is_named(folder: Path, content: str) -> None:
    """Catches an attribute error deep inside where the manifest was edited or cut."""
    (folder / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset\.json"):
        open_dataset(folder)


def test_evaluation_needs_no_training_shards(folder: Path) -> None:
    """Catches an evaluation that fails on a machine without the 16 GB of training data."""
    for path in folder.glob("x_train_*.bin"):
        path.unlink()
    dataset = open_dataset(folder, 400)
    assert dataset.train is None
    assert len(dataset.validation) == 5


def test_what_is_missing_is_said_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    """Catches a bare file error on the first command that a new user runs."""
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(FileNotFoundError, match="golf data prepare") as caught:
            open_dataset(wrong)
        assert str(wrong) in str(caught.value)
    (folder / "x.model").unlink()
    with pytest.raises(ValueError, match=r"its one tokenizer.*\[\]"):
        open_dataset(folder)


def test_mixed_folders_are_refused(folder: Path, plain_tokenizer: Path) -> None:
    """Catches shards of two datasets trained on as one."""
    shard(folder, "y_train_0.bin", [1])
    with pytest.raises(ValueError, match=r"\['x', 'y'\]"):
        open_dataset(folder)
    (folder / "y_train_0.bin").unlink()
    shutil.copy(plain_tokenizer, folder / "y.model")
    with pytest.raises(ValueError, match=r"x\.model.*y\.model"):
        open_dataset(folder)


def test_another_vocabulary_is_refused(folder: Path) -> None:
    """Catches a model of one vocabulary scored with the tokenizer of another."""
    with pytest.raises(ValueError, match="has 400 pieces, the model's vocab_size is 1024: a tokenizer of another size"):
        open_dataset(folder, 1024)


def test_foreign_ids_are_found(folder: Path) -> None:
    """Catches ids outside the vocabulary: in the last validation shard at once, in training when they are read."""
    shard(folder, "x_train_1.bin", [7, 400])
    dataset = open_dataset(folder)
    assert dataset.train is not None
    assert dataset.train.read(0, 4).tolist() == [1, 5, 6, 7]
    with pytest.raises(ValueError, match=r"x_train_1\.bin: token id 400"):
        dataset.train.read(2, 6)
    shard(folder, "x_val_1.bin", [400, 1])
    with pytest.raises(ValueError, match=r"x_val_1\.bin: token id 400"):
        open_dataset(folder)


@pytest.mark.parametrize("name", ["x_train_0.bin", "x_val_1.bin"])
def test_a_cut_shard_is_refused_at_opening(folder: Path, name: str) -> None:
    """Catches a copy that stopped halfway, found only after hours of training."""
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=name):
        open_dataset(folder)

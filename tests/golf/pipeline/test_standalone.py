"""What the shipped file reads from its options, the environment and the competition's folders."""

import sys
from pathlib import Path

import pytest

from golf.pipeline.standalone import read_options

VARIABLES = ("DATA_PATH", "DATA_DIR", "TOKENIZER_PATH", "SEED", "RUN_ID", "RANK")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without anything, and an environment without what is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_gpt.py"])
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def touch(*paths: Path) -> Path:
    """Make empty files; the first."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths[0]


SHARDS, TOKENIZER = "datasets/fineweb10B_sp300/fineweb_val_000000.bin", "tokenizers/fineweb_300_bpe.model"


@pytest.mark.parametrize("base", ["data", "elsewhere"])
def test_the_competitions_folders_need_no_option(place: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the command by which everybody's scripts are run ends with an error here."""
    touch(place / base / SHARDS, place / base / TOKENIZER)
    if base != "data":
        monkeypatch.setenv("DATA_DIR", f"./{base}/")
    given = read_options(300, 42)
    assert given.data.resolve() == place / base / "datasets" / "fineweb10B_sp300"
    assert given.tokenizer.resolve() == place / base / TOKENIZER
    assert (given.seed, given.run_id, given.out) == (42, "seed42", Path("out/seed42"))


def test_the_environment_and_what_wins_over_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: SEED or RUN_ID is ignored in silence, or wins over what was typed."""
    touch(place / "x" / SHARDS, place / "x" / TOKENIZER, place / "y" / "a_val_0.bin", place / "y" / "own.model")
    shards = place / "x" / "datasets" / "fineweb10B_sp300"
    for name, value in {"DATA_PATH": str(shards), "SEED": "7", "RUN_ID": "mine"}.items():
        monkeypatch.setenv(name, value)
    given = read_options(300, 42)
    assert (given.data, given.seed, given.run_id, given.out) == (shards, 7, "mine", Path("out/mine"))
    assert given.tokenizer == place / "x" / TOKENIZER, "beside the folder of datasets, as the competition has it"
    monkeypatch.setenv("TOKENIZER_PATH", str(place / "y" / "own.model"))
    assert read_options(300, 42).tokenizer == place / "y" / "own.model"
    monkeypatch.setattr(sys, "argv", ["t", "--data", "y", "--seed", "9", "--run-id", "r", "--out", "o"])
    monkeypatch.setenv("TOKENIZER_PATH", str(place / "x" / TOKENIZER))
    given = read_options(300, 42)
    assert (given.data, given.seed, given.run_id, given.out) == (Path("y"), 9, "r", Path("o"))
    assert given.tokenizer is None, "the folder that was typed has its own"
    monkeypatch.setattr(sys, "argv", ["t", "--data", "y", "--tokenizer", str(place / "x" / TOKENIZER)])
    assert read_options(300, 42).tokenizer == place / "x" / TOKENIZER


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no shards *_val_*.bin in data/datasets/fineweb10B_sp300, no tokenizer"),
        ([f"data/{SHARDS}"], "fineweb_300_bpe.model: give --data and --tokenizer, or DATA_PATH and TOKENIZER_PATH"),
        ([f"data/{TOKENIZER}"], "no shards *_val_*.bin in data/datasets/fineweb10B_sp300: give"),
    ],
)
def test_what_is_not_there_is_named(place: Path, files: list[str], message: str) -> None:
    """Fault: a traceback from the middle of the program, or a remedy that needs the project."""
    touch(place / "other", *(place / name for name in files))
    with pytest.raises(SystemExit) as ended:
        read_options(300, 42)
    assert message in str(ended.value.code)
    assert "golf" not in str(ended.value.code).replace(str(place), "")


def test_a_seed_that_is_no_number_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: SEED=x gives a traceback, or another seed than was asked for."""
    monkeypatch.setenv("SEED", "x")
    with pytest.raises(SystemExit) as ended:
        read_options(300, 42)
    assert ended.value.code == 2

"""What the commands that run trials have in common."""

import argparse
import contextlib
from pathlib import Path

import pytest

from golf.cli.start import parse
from tune.cli.options import resolved
from tune.cli.parsers import sweep_parser


def parsed_of(*words: str) -> argparse.Namespace:
    """A command line as `resolved` gives it."""
    return resolved(parse(sweep_parser(), ["demo", *words]))


def test_every_path_is_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a path that a trial, in a folder of its own, looks for elsewhere: nothing is shared, nothing is said."""
    here, home = tmp_path.resolve() / "here", tmp_path.resolve() / "home"
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    places = ["--storage", "st", "--data=~/words", "--store", "../mystore", "--mirror=~/copy"]
    with contextlib.chdir(here):
        given = parsed_of(*places, "--tracking-uri", "sqlite:///runs.db")
        usual = parsed_of()
    assert (given.storage, given.data) == (here / "st", home / "words")
    assert (Path(given.store).resolve(), given.mirror) == (here.parent / "mystore", f"{home}/copy")
    assert Path(given.store).is_absolute()
    assert given.tracking_uri == f"sqlite:///{here}/runs.db"
    assert (usual.storage, usual.data, usual.store) == (here / "storage", None, None)
    assert (usual.mirror, usual.tracking_uri) == (None, None)


def test_addresses_stay_as_they_are() -> None:
    """Fault: a bucket's or server's address taken for a path."""
    given = parsed_of("--store", "s3://bucket/x", "--mirror", "gs://b/y", "--tracking-uri", "http://127.0.0.1:5000")
    assert (given.store, given.mirror, given.tracking_uri) == ("s3://bucket/x", "gs://b/y", "http://127.0.0.1:5000")

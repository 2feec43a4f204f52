"""Who computed what: only turns whose work is part of a result."""

from pathlib import Path

import pytest

from tune.cache.world_history import (
    WorldTurn,
    describe_world_history,
    read_world_history,
    record_world,
    write_world_history,
)


def test_a_run_as_asked_says_nothing(tmp_path: Path) -> None:
    """Fault: a note on every trial, or one on a trial whose workers were only started again."""
    assert describe_world_history(tmp_path, 8) is None
    for at in (0, 40, 90):
        record_world(tmp_path, "train", 8, at)
    assert describe_world_history(tmp_path, 8) is None
    assert describe_world_history(tmp_path, 4) == "8"


def test_lost_work_is_not_told(tmp_path: Path) -> None:
    """Fault: ranks that computed nothing of the result, or a step attributed to those who lost it."""
    record_world(tmp_path, "train", 8, 0)
    record_world(tmp_path, "train", 4, 0)
    assert read_world_history(tmp_path, "train") == (WorldTurn(4, 0),), "the eight saved nothing"
    record_world(tmp_path, "train", 2, 100)
    record_world(tmp_path, "train", 8, 100)
    record_world(tmp_path, "train", 8, 130)
    record_world(tmp_path, "train", 1, 140)
    assert describe_world_history(tmp_path, 8) == "4, 8 from step 100, 1 from step 140"
    record_world(tmp_path, "train", 2, 90)
    assert describe_world_history(tmp_path, 8) == "4, 2 from step 90"


def test_what_is_fetched_keeps_its_own(tmp_path: Path) -> None:
    """Fault: a stored prefix of other ranks reported as this trial's, or forgotten when training goes on from it."""
    write_world_history(tmp_path, "prefix-50", (WorldTurn(8, 0), WorldTurn(4, 30)))
    record_world(tmp_path, "train", 8, 50)
    assert describe_world_history(tmp_path, 8) == "8, 4 from step 30, 8 from step 50"
    write_world_history(tmp_path, "train", ())
    record_world(tmp_path, "ttt", 8, 0)
    record_world(tmp_path, "ttt", 2, 7)
    assert describe_world_history(tmp_path, 8) == "ttt: 8, 2 from chunk 7"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Fault: an error of the decoder that does not say which file, or what to do."""
    (tmp_path / "ranks.json").write_text('{"train": [[8]]}')
    with pytest.raises(ValueError, match=r"ranks.json: .*at `\$\[...\]\[0\]`.*; delete it"):
        read_world_history(tmp_path, "train")

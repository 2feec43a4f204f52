"""Results of stages in their files: what is read back is what was written, or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import from_plain, to_plain
from golf.runtime.results import (
    CheckpointCost,
    PackResult,
    RungResult,
    RunResults,
    TrainResult,
    read_result,
    write_result,
)

TRAIN = TrainResult(seconds=0.1 + 0.2, steps=6, tokens=768, device="1 x cpu", log=("seed:1", "line"))
RUNG = RungResult(
    name="ttt",
    bpb=1.1224999,
    nats_per_token=1 / 3,
    seconds=2.0,
    seconds_before=0.5,
    chunks=((1e-17, 3, 4), (2.5, 5, 6)),
    checkpoints=CheckpointCost(saves=1, save_seconds=0.25, save_interval_seconds=60.0),
)
PACK = PackResult(model_bytes=700, seconds=1.5, code_bytes=300, code_sha256="ab", cap_bytes=999)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    """Fault: a digit, a tuple, a nested part or a None that JSON does not give back."""
    for result in (TRAIN, RUNG, PACK):
        write_result(tmp_path / "r.json", "key", result)
        assert read_result(tmp_path / "r.json", type(result), "key") == result
        assert read_result(tmp_path / "r.json", type(result)) == result
        assert read_result(tmp_path / "r.json", type(result), "other") is None
    whole = RunResults(train=TRAIN, pack=PACK, ladder=(RUNG,))
    assert from_plain(RunResults, json.loads(json.dumps(to_plain(whole)))) == whole


def test_old_fields_with_defaults_may_be_missing() -> None:
    """Fault: a result without what a later version added with a default is refused."""
    plain = to_plain(RUNG)
    del plain["checkpoints"], plain["seconds_before"]
    assert from_plain(RungResult, plain).checkpoints == CheckpointCost()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ladder": [{"name": "ttt"}]}, 'missing field "ladder.bpb" of RungResult'),
        ({"train": {}}, 'missing field "train.seconds" of TrainResult'),
        ({"train": 3}, "train must be an object with fields, got 3"),
        ({"ladder": [to_plain(RUNG) | {"chunks": [[1.0, 2]]}]}, r"ladder.chunks must have 3 items, got \[1.0, 2\]"),
        ({"ladder": [to_plain(RUNG) | {"chunks": [[1.0, 2, 3.5]]}]}, "ladder.chunks must be of type int, got 3.5"),
        ({"ladder": [to_plain(RUNG) | {"chunk": []}]}, r'unknown field "ladder.chunk".*did you mean "chunks"'),
        ({"pack": to_plain(PACK) | {"seconds": None}}, "pack.seconds must be of type float, got None"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Fault: a field that is missing or of another type is taken, or the error does not say which it is."""
    plain = to_plain(RunResults(train=TRAIN, pack=PACK, ladder=(RUNG,))) | change
    with pytest.raises(ValueError, match=message):
        from_plain(RunResults, plain)
    (tmp_path / "r.json").write_text(json.dumps({"identity": "key", "result": plain}))
    assert read_result(tmp_path / "r.json", RunResults, "key") is None


def test_sizes_follow_from_the_parts() -> None:
    """Fault: an artifact of exactly the cap that does not fit, or one byte more that does."""
    assert (PACK.artifact_bytes, PACK.over_bytes, PACK.fits) == (1000, 1, False)
    exact = PackResult(model_bytes=699, seconds=1.5, code_bytes=300, code_sha256="ab", cap_bytes=999)
    assert (exact.over_bytes, exact.fits) == (0, True)

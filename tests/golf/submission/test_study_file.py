"""study.json is believed only where it agrees with itself; whatever is wrong is one clear error."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from golf.submission.study_file import read_study
from tests.golf.submission.conftest import SEEDS, Made


def test_all_of_a_real_study_is_read(made: Made) -> None:
    """Fault: a seed, rung, curve or artifact is lost between the two programs."""
    study = read_study(made.folder)
    assert [run.seed for run in study.seeds] == list(SEEDS)
    assert len(study.done) == 3
    for run in study.seeds:
        assert [rung.name for rung in run.ladder] == ["live", "ema", "quantised", "sliding", "ttt"]
        assert [point.step for point in run.curves["train_loss"]] == list(range(study.config.schedule.steps))
        assert run.check is not None
        assert run.check.failed == 0
        assert run.artifact is not None
        assert run.code_sha256 == study.seeds[0].code_sha256 is not None
        assert sum(group["packed_bytes"] for group in run.byte_groups.values()) == run.model_bytes
    assert study.data.train_shards == 1
    assert study.data.validation_tokens == sum(chunk[1] for chunk in study.seeds[0].last.chunks)
    assert read_study(made.folder / "study.json") == study


WRONG: tuple[Any, ...] = ({"x": []}, [{}], -1e400)
"""Values of kinds that no field has."""


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the object, of lists the first item only."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*path, 0))


def put(values: Any, path: tuple[Any, ...], value: Any) -> None:
    """Set the place."""
    for name in path[:-1]:
        values = values[name]
    values[path[-1]] = value


def test_nothing_wrong_is_read_silently(changed: Callable[..., Path]) -> None:
    """Fault: a traceback, an error that does not name the file, or a wrong value that reaches a record."""
    folder = changed(lambda values: None)
    file = folder / "study.json"
    text = file.read_text()
    for path in paths(json.loads(text)):
        if (path[0] == "config" and len(path) > 2) or "evidence" in path or path[-1] in ("curves", "checkpoints"):
            continue  # the configuration has its own tests; evidence may be anything; curves may have any names
        for wrong in WRONG:
            values = json.loads(text)
            put(values, path, wrong)
            file.write_text(json.dumps(values))
            with pytest.raises(ValueError) as error:  # noqa: PT011
                read_study(folder)
            assert str(error.value).startswith(str(file)), (path, wrong)
            assert "run_seeds.py" in str(error.value), (path, wrong)
            assert len(str(error.value)) < 1000, (path, wrong)


def test_figures_that_disagree_are_refused(changed: Callable[..., Path]) -> None:
    """Fault: a number of study.json that was edited by hand becomes the record's."""

    def rung(values: dict[str, Any]) -> None:
        values["seeds"][0]["ladder"][-1]["bpb"] -= 0.01

    edits: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("the score of its chunks", rung),
        ("the mean of the seeds", lambda v: v["verdict"]["bpb"].update(mean=v["verdict"]["bpb"]["mean"] - 1e-6)),
        ("the deviation of the seeds", lambda v: v["verdict"]["nats"].update(standard_deviation=0.0)),
        ("the rungs of a seed that is done", lambda v: v["seeds"][2].update(ladder=[])),
        ("known for a seed that is done", lambda v: v["seeds"][2].update(code_bytes=None)),
        ("different seeds", lambda v: v["seeds"][1].update(seed=1)),
        ("every seed has its own", lambda v: v["config"].update(seed=7)),
        ("which this version reads", lambda v: v.update(format=99)),
        ("did you mean", lambda v: v["config"]["model"].update(num_layer=3)),
    ]
    for message, act in edits:
        with pytest.raises(ValueError, match=message):
            read_study(changed(act))


def test_an_artifact_of_other_bytes_is_refused(made: Made, tmp_path: Path) -> None:
    """Fault: an artifact that was replaced, cut or swapped goes with the study's numbers."""
    folder = Path(shutil.copytree(made.folder, tmp_path / "study"))
    whole = (folder / "artifact_seed1.golf").read_bytes()
    for data, message in ((whole[:-1], "the size of"), (whole[:-1] + b"x", "which has changed")):
        (folder / "artifact_seed1.golf").unlink()
        (folder / "artifact_seed1.golf").write_bytes(data)
        with pytest.raises(ValueError, match=message):
            read_study(folder)
    (folder / "artifact_seed1.golf").unlink()
    with pytest.raises(ValueError, match=r"beside study\.json"):
        read_study(folder)


def test_a_place_without_a_study_says_what_makes_one(tmp_path: Path) -> None:
    """Fault: an error that leaves the reader with a file's name alone."""
    with pytest.raises(FileNotFoundError, match=r"run_seeds\.py"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold an object"):
        read_study(tmp_path)

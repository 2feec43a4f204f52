"""study.json is believed only where it agrees with itself; whatever is wrong is one clear error."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from golf.submission.study_file import read_study
from tests.golf.submission.conftest import SEEDS, Made

KEPT_ONLY: set[tuple[Any, ...]] = {
    *(("seeds", 0, name) for name in ("stages_sha256", "started", "ended", "check")),
    *(
        ("verdict", name)
        for name in ("cap_bytes", "facts", "holds", "nats_per_bpb", "noise_bpb", "preset", "sequential")
    ),
    *(("verdict", name) for name in ("study", "track")),
    ("seeds", 0, "curves"),  # a curve of any name
    ("seeds", 0, "tags"),  # none of which has to be there
    ("verdict", "cap"),
    ("data",),  # nothing of it is known, which is a fault of the submission
}
"""What the file keeps for other readers, or what may be anything of its kind."""


def test_all_of_a_real_study_is_read(made: Made) -> None:
    """Fault: a seed, rung, curve or artifact is lost between the two programs."""
    study = read_study(made.folder)
    assert [run.seed for run in study.seeds] == list(SEEDS)
    assert len(study.done) == 3
    for run in study.seeds:
        assert [rung.name for rung in run.ladder] == ["live", "ema", "quantised", "sliding", "ttt"]
        assert len(run.curves["train_loss"]) == study.config.schedule.steps
        assert run.artifact is not None
        assert run.code_sha256 == study.seeds[0].code_sha256 is not None
        assert sum(group["packed_bytes"] for group in run.byte_groups.values()) == run.model_bytes
    assert study.data.train_shards == 1
    assert study.data.validation_tokens == sum(chunk[1] for chunk in study.seeds[0].last.chunks)
    assert read_study(made.folder / "study.json") == study


WRONG: tuple[Any, ...] = ({"x": []}, "x" * 200, float("inf"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the object, of lists the first item only."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def put(values: Any, path: tuple[Any, ...], value: Any) -> None:
    """Set the place."""
    for name in path[:-1]:
        values = values[name]
    values[path[-1]] = value


def test_nothing_wrong_is_read_without_a_word(changed: Callable[..., Path]) -> None:
    """Fault: a traceback, an error that does not name the file, or a wrong value that reaches a record."""
    folder = changed(lambda values: None)
    file = folder / "study.json"
    text, silent = file.read_text(), set()
    for path in places(json.loads(text)):
        if path[0] == "config" and len(path) > 2:
            continue  # the configuration has its own tests
        for wrong in WRONG:
            values = json.loads(text)
            put(values, path, wrong)
            file.write_text(json.dumps(values))
            try:
                read_study(folder)
            except ValueError as error:
                assert str(error).startswith(str(file)), (path, wrong)  # noqa: PT017
                assert len(str(error)) < 1000, (path, wrong)  # noqa: PT017
            else:
                silent.add(path if not isinstance(wrong, str) else (*path, "text"))
    fields = {path for path in silent if path[-1] != "text" and len(path) <= (3 if path[0] == "seeds" else 2)}
    assert fields <= KEPT_ONLY, fields - KEPT_ONLY


def test_figures_that_disagree_are_refused(changed: Callable[..., Path]) -> None:
    """Fault: a number of study.json that was edited by hand becomes the record's."""

    def rung(values: dict[str, Any]) -> None:
        for owner, name in ((values["seeds"][0]["ladder"][-1], "bpb"), (values["seeds"][0], "bpb")):
            owner[name] -= 0.01

    edits: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("as its chunks give", rung),
        ("that of the last rung", lambda v: v["seeds"][1].update(nats=1.0)),
        ("the mean of the seeds", lambda v: v["verdict"]["bpb"].update(mean=v["verdict"]["bpb"]["mean"] - 1e-6)),
        ("that of the seeds", lambda v: v["verdict"]["nats"].update(standard_deviation=0.0)),
        ("as in its metrics", lambda v: v["seeds"][2].update(code_bytes=v["seeds"][2]["code_bytes"] - 1)),
        ("different seeds", lambda v: v["seeds"][1].update(seed=1)),
        ("every seed has its own", lambda v: v["config"].update(seed=7)),
        ("which this version reads", lambda v: v.update(format=99)),
        ("did you mean", lambda v: v["config"]["model"].update(num_layer=3)),
    ]
    for told, act in edits:
        with pytest.raises(ValueError, match=told):
            read_study(changed(act))


def test_an_artifact_of_other_bytes_is_refused(made: Made, tmp_path: Path) -> None:
    """Fault: an artifact that was replaced, cut or swapped goes with the study's numbers."""
    folder = Path(shutil.copytree(made.folder, tmp_path / "study"))
    whole = (folder / "artifact_seed1.golf").read_bytes()
    for data, told in ((whole[:-1], "the size of"), (whole[:-1] + b"x", "which has changed")):
        (folder / "artifact_seed1.golf").unlink()
        (folder / "artifact_seed1.golf").write_bytes(data)
        with pytest.raises(ValueError, match=told):
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

"""Outcomes of trials: what they share is decoded once."""

import math
import shutil
from pathlib import Path

import pytest

import tune.workloads.gepa.outcome
from golf.artifact.byte_breakdown import group_ledger
from golf.artifact.pack import pack
from golf.config.config import RunConfig
from golf.model.gepa import build_model
from golf.pipeline.run_directory import Artifact
from golf.runtime.results import TTT, RungResult
from tune.workloads.gepa.outcome import byte_groups, running_bpb


def groups_of(path: Path) -> dict[str, dict[str, float]]:
    """Where a file's bytes go."""
    return byte_groups(Artifact.of(path))


def artifact(config: RunConfig, seed: int, path: Path) -> Path:
    """An artifact of random weights."""
    weights = dict(build_model(config.model, seed).state_dict())
    path.write_bytes(pack(weights, config.model, config.quant))
    return path


def test_an_artifact_is_decoded_once_wherever_it_lies(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a decoding for every stored trial, another artifact's bytes."""
    decoded: list[bytes] = []

    def counted(data: bytes) -> dict[str, dict[str, float]]:
        decoded.append(data)
        return group_ledger(data)

    monkeypatch.setattr(tune.workloads.gepa.outcome, "group_ledger", counted)
    first, second = (artifact(tiny, seed, tmp_path / f"{seed}.golf") for seed in (11, 12))
    copy = Path(shutil.copy(first, tmp_path / "copy.golf"))
    wanted = group_ledger(first.read_bytes())
    assert groups_of(first) == groups_of(copy) == wanted
    assert groups_of(second) == group_ledger(second.read_bytes()) != wanted
    assert len(decoded) == 2
    copy.write_bytes(second.read_bytes())
    assert groups_of(copy) == group_ledger(second.read_bytes())


def test_the_running_score_of_ttt() -> None:
    """Fault: a score of one chunk instead of all so far, a point before any text, one time on every point."""
    chunks = ((3.0, 2, 0), (1.0, 4, 10), (2.0, 4, 10))
    rung = RungResult(name=TTT, bpb=1.0, nats_per_token=1.0, seconds=1.0, chunks=chunks, chunk_times=(7.0, 8.0, 9.5))
    points = running_bpb(rung)
    assert [point[:2] for point in points] == [(1, 8.0), (2, 9.5)]
    assert [point[2] for point in points] == pytest.approx([4 / math.log(2) / 10, 6 / math.log(2) / 20])

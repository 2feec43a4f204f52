"""Outcomes of trials: what they share is decoded once."""

import shutil
from pathlib import Path

import pytest

import tune.workloads.gepa.outcome
from golf.artifact.byte_breakdown import group_ledger
from golf.artifact.pack import pack
from golf.config.config import RunConfig
from golf.model.gepa import build_model
from tune.workloads.gepa.outcome import ledger_of


def artifact(config: RunConfig, seed: int, path: Path) -> Path:
    """An artifact of random weights."""
    weights = dict(build_model(config.model, seed).state_dict())
    path.write_bytes(pack(weights, config.model, config.quant).data)
    return path


def test_an_artifact_is_decoded_once_wherever_it_lies(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a decoding for every stored trial, another artifact's bytes, numbers that one trial changes for all."""
    decoded: list[bytes] = []

    def counted(data: bytes) -> dict[str, dict[str, float]]:
        decoded.append(data)
        return group_ledger(data)

    monkeypatch.setattr(tune.workloads.gepa.outcome, "group_ledger", counted)
    first, second = (artifact(tiny, seed, tmp_path / f"{seed}.golf") for seed in (11, 12))
    copy = Path(shutil.copy(first, tmp_path / "copy.golf"))
    told = ledger_of(first)
    wanted = group_ledger(first.read_bytes())
    told["header"]["packed_bytes"] = -1.0
    assert ledger_of(copy) == wanted
    assert ledger_of(second) == group_ledger(second.read_bytes()) != wanted
    assert len(decoded) == 2
    copy.write_bytes(second.read_bytes())
    assert ledger_of(copy) == group_ledger(second.read_bytes())

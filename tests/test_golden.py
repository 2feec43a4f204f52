"""Recorded numbers: of a tiny run, which every clone has, and of the published trainer, where they are at hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from golf.artifact.pack import pack, read_artifact
from golf.pipeline.evaluation import measure
from golf.runtime.files import read_json
from golf.runtime.tensors import read_tensors
from tests.golden_run import (
    ARTIFACT,
    AVERAGE,
    CONFIG,
    NUMBERS,
    RECORDED,
    kernels,
    run_in,
    tensors_sha256,
    train_and_score,
)

ROOT = Path(__file__).resolve().parents[1]
LOSS_NOISE = (5e-7, 5e-7, 6e-6, 1e-5, 2e-5, 4e-5, 1e-4, 2e-4)
"""By how much other kernels moved the loss of each step."""
GOLDEN = ROOT.parent / "shared" / "golden"


def test_the_tiny_run_trains_to_the_recorded_numbers(tmp_path: Path) -> None:
    """Fault: a change of data order, initial weights, optimiser, schedule, averaging or packing that nobody meant.

    Equal kernels give equal losses and weights, with any number of threads. Other ones (no AVX2; MKL's compatible
    branch without oneDNN) were seen to move the losses by LOSS_NOISE, since a training amplifies a rounding, the scores
    by 1e-4 and the artifact by 4 bytes; ten times as much is allowed. Another seed moves a loss by 4e-2, four instead
    of five Newton-Schulz steps by 3e-3; smaller faults show where the kernels are those of the recording.
    """
    run = run_in(tmp_path)
    recorded, (results, losses) = read_json(RECORDED / NUMBERS), train_and_score(run)
    scores = {rung.name: rung.bpb for rung in results.ladder}
    if kernels() == recorded["kernels"]:
        assert losses == recorded["losses"]
        assert scores == pytest.approx(recorded["bpb"], abs=1e-6), "kernels of evaluation differ under one name: 5e-8"
        assert tensors_sha256(read_artifact(run.directory.file(ARTIFACT))[1]) == recorded["decoded_sha256"]
    for step, noise in enumerate(LOSS_NOISE):
        assert losses[step] == pytest.approx(recorded["losses"][step], abs=10 * noise), step
    assert scores == pytest.approx(recorded["bpb"], abs=1e-3)
    assert results.pack.model_bytes == pytest.approx(recorded["artifact_bytes"], abs=40)


def test_the_recorded_weights_have_the_recorded_scores(tmp_path: Path) -> None:
    """Fault: forward pass, windows, test-time training or byte counts compute something else.

    From the same weights, other kernels were seen to move a score by 4e-9 BPB.
    """
    recorded, run = read_json(RECORDED / NUMBERS), run_in(tmp_path)
    for name in (ARTIFACT, AVERAGE):
        shutil.copy(RECORDED / name, run.directory.path)
    for rung in ("ema", "quantised", "sliding", "ttt"):
        assert measure(run, rung).bpb == pytest.approx(recorded["bpb"][rung], abs=1e-6), rung


def test_the_recorded_artifact_is_read_and_made_again(tmp_path: Path) -> None:
    """Fault: an artifact of an earlier version is read as other weights, or the same weights get other codes.

    Reading is integer arithmetic and one product of floats, the same everywhere; a clip of two that are equally good
    may be another one with other kernels.
    """
    model, tensors = read_artifact(RECORDED / ARTIFACT)
    assert model == CONFIG.model
    assert tensors_sha256(tensors) == read_json(RECORDED / NUMBERS)["decoded_sha256"]
    (tmp_path / ARTIFACT).write_bytes(pack(read_tensors(RECORDED / AVERAGE), CONFIG.model, CONFIG.quant))
    again = read_artifact(tmp_path / ARTIFACT)[1]
    differing = sum(int((again[name] != tensor).sum()) for name, tensor in tensors.items())
    assert differing <= 0.001 * sum(tensor.numel() for tensor in tensors.values())


LONG = [
    pytest.param(kind, marks=pytest.mark.long)
    for kind in ("train_gepa", "forward_loop", "train_loop", "gptq_loop", "ttt_loop")
]


@pytest.mark.parametrize("kind", ["forward_gepa", "ttt_gepa", "kernels", "fineweb_bytes", *LONG])
def test_golden_numbers(kind: str) -> None:
    """Fault: golf/ computes another recipe than the published trainers."""
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden numbers at {GOLDEN.relative_to(ROOT.parent)}")
    script = [sys.executable, str(ROOT / "tests" / "golden.py"), str(GOLDEN / f"{kind}.safetensors")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

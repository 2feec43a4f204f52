"""A whole run on a tiny dataset: ladder, reuse of results, resume, ranks, and the shipped file."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golf.config.config import BatchConfig, RunConfig, override_all, to_plain
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.pipeline.bundle import counted_code
from golf.pipeline.evaluation import measure
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.pipeline.train_stage import train_stage
from golf.runtime.errors import Diverged
from golf.runtime.files import write_json
from golf.runtime.results import RungResult, read_result
from golf.train.hooks import Hooks
from tests.commands import ROOT
from tests.conftest import TINY

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "brew",
    "potions",
    "near",
    "old",
    "castle",
    "walls",
]

CONFIG = replace(
    TINY,
    model=replace(TINY.model, num_layers=4, xsa_layers=2, value_layers=(2, 3)),
    batch=BatchConfig(tokens_per_step=256, sequence_length=16),
    validate_every=2,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Some thousand tokens of made-up sentences."""
    texts = [
        (f"d{n}", " ".join(WORDS[(n * 7 + i * i * (n % 5 + 1)) % len(WORDS)] for i in range(120))) for n in range(60)
    ]
    folder = tmp_path_factory.mktemp("data") / "words"
    prepare_text(texts, folder, "words", vocab_size=300, log=lambda line: None)
    return open_dataset(folder, 300)


def run_in(path: Path, dataset: Dataset, config: RunConfig = CONFIG) -> StageContext:
    """A run in a directory, in one process."""
    return StageContext(config=config, dataset=dataset, directory=RunDirectory(path))


def test_a_run_measures_every_rung_and_is_not_computed_twice(dataset: Dataset, tmp_path: Path) -> None:
    """Fault: a rung missing, a quantised rung measured from memory, or a finished stage run again."""
    first = run_stages(run_in(tmp_path, dataset), bytes(1000))
    assert [rung.name for rung in first.ladder] == ["live", "ema", "quantised", "sliding", "ttt"]
    assert first.pack.artifact_bytes == (tmp_path / "artifact.golf").stat().st_size + 1000
    assert run_stages(run_in(tmp_path, dataset), bytes(1000)) == first
    fresh = run_stages(run_in(tmp_path / "fresh", dataset), bytes(1000))
    assert [rung.chunks for rung in fresh.ladder] == [rung.chunks for rung in first.ladder]


def test_a_run_over_the_cap_is_not_evaluated(dataset: Dataset, tmp_path: Path) -> None:
    """Fault: evaluation is paid for although the artifact cannot be submitted."""
    results = run_stages(run_in(tmp_path, dataset), bytes(16_000_000), evaluate=False)
    assert results.ladder == ()
    assert results.pack.over_bytes == results.pack.model_bytes


@pytest.mark.long
def test_two_ranks_score_like_one(dataset: Dataset, tmp_path: Path) -> None:
    """Fault: a rank's share of batches, windows or sequences is lost or counted twice, in training or in scoring."""
    write_json(tmp_path / "config.json", to_plain(CONFIG))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "golf"]
    command += ["run", str(tmp_path / "config.json"), "--data", str(dataset.folder), "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    two, one, shared = (run_in(tmp_path / name, dataset) for name in ("two", "one", "shared"))
    ours = run_stages(one, counted_code(CONFIG)).ladder
    made = ("pack.json", "artifact.golf", *(f"{rung.name}.json" for rung in ours))
    shutil.copytree(two.directory.path, shared.directory.path, ignore=shutil.ignore_patterns(*made))
    pack_trained(shared, counted_code(CONFIG))
    assert shared.directory.file("artifact.golf").read_bytes() == two.directory.file("artifact.golf").read_bytes()
    for rung in ours:
        theirs = read_result(two.directory.file(f"{rung.name}.json"), RungResult)
        assert theirs is not None
        assert [chunk[1:] for chunk in theirs.chunks] == [chunk[1:] for chunk in rung.chunks]
        if rung.name in ("live", "ema"):
            # Newton-Schulz in bfloat16 turns a last bit of a gradient into 1e-3 of a weight within a few steps.
            assert theirs.bpb == pytest.approx(rung.bpb, abs=2e-3), rung.name
        assert theirs.bpb == pytest.approx(measure(shared, rung.name).bpb, abs=1e-6), rung.name


@pytest.mark.long
@pytest.mark.parametrize("rung", ["sliding", "ttt"])
def test_a_screened_rung_goes_on_where_it_stopped(dataset: Dataset, tmp_path: Path, rung: str) -> None:
    """Fault: a rung that starts again after its first chunks, loses the momentum, or counts chunks twice."""
    whole, parted = run_in(tmp_path / "whole", dataset), run_in(tmp_path / "parted", dataset)
    for run in (whole, parted):
        train_stage(run)
        pack_trained(run, b"")
    seen: list[int] = []
    first = measure(parted, rung, first_chunks=2)
    rest = measure(parted, rung, Hooks(event=lambda curve, step, value: seen.append(step)))
    once = measure(whole, rung)
    assert first.chunks == once.chunks[:2]
    assert rest.chunks == once.chunks
    assert seen == list(range(2, len(once.chunks)))
    assert rest.seconds_before == first.seconds < rest.seconds


@pytest.mark.long
@pytest.mark.parametrize("beyond", [1, 2, 7])
def test_a_border_in_the_last_window_costs_no_results(dataset: Dataset, tmp_path: Path, beyond: int) -> None:
    """Fault: a division by the bytes of an empty last chunk, after the training was paid for."""
    targets = len(dataset.validation) - 1
    config = override_all(CONFIG, {"validate_every": None, "schedule.steps": 2, "schedule.warmdown_start": 0})
    bordered = override_all(config, {"score.chunk_tokens": targets - beyond})
    run, unbordered = run_in(tmp_path, dataset, bordered), run_in(tmp_path, dataset, config)
    run_stages(run, b"")
    for rung in ("live", "quantised", "sliding"):
        result = measure(run, rung)
        other = measure(unbordered, rung, output=RunDirectory(tmp_path / "other"))
        assert result.bpb == pytest.approx(other.bpb, abs=1e-9), rung
        assert sum(chunk[1] for chunk in result.chunks) == targets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttt.lr": 1e30}, r"ttt, chunk 1: loss nan; lower ttt\.lr"),
        ({"optimizer.scalar_lr": 1e20, "schedule.steps": 1}, "pack, .* beyond float16; lower the learning rates"),
        ({"optimizer.embedding_lr": 1e30, "schedule.steps": 3}, "step 1: loss"),
        (
            {"optimizer.scalar_lr": 1e30, "validate_every": 1},
            "step 1, validation, chunk 0: loss nan; lower the learn",
        ),
    ],
)
def test_what_diverges_says_where(dataset: Dataset, tmp_path: Path, changes: dict[str, float], message: str) -> None:
    """Fault: "Out of range float values are not JSON compliant", or NaN in a file that is read as a result."""
    config = override_all(CONFIG, {"validate_every": None, "schedule.warmdown_start": 0, **changes})
    with pytest.raises(Diverged, match=message):
        run_stages(run_in(tmp_path, dataset, config), b"")
    for path in tmp_path.glob("*.json"):
        assert not re.search("NaN|Infinity", path.read_text()), path


def test_chunks_of_control_tokens_alone_have_no_score_of_their_own(dataset: Dataset, tmp_path: Path) -> None:
    """Fault: a division by the bytes of a chunk that holds no text."""
    ids = np.insert(dataset.validation, 256, np.ones(256, np.uint16))
    config = override_all(CONFIG, {"validate_every": None, "schedule.steps": 1, "schedule.warmdown_start": 0})
    results = run_stages(run_in(tmp_path, replace(dataset, validation=ids), config), b"")
    assert any(chunk[2] == 0 for chunk in results.ladder[-1].chunks)

"""A tiny run with fixed tokens, and its recorded numbers: `python tests/golden_run.py` records them again.

The tokens come from integer arithmetic alone, so that a clone has the same ones without a download. The recorded files
are the averaged weights, the artifact, and numbers.json: the losses of the training, the BPB of every rung, the SHA-256
of the decoded tensors, and the processor and kernels that computed them. Record them again only with a change
of the recipe that the commit's message names.
"""

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Run as a script, this file's folder would hide the package behind tests/golf.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golf.artifact.pack import read_artifact
from golf.config.config import (
    BatchConfig,
    GridConfig,
    ModelConfig,
    QuantConfig,
    RunConfig,
    ScheduleConfig,
    ScoreConfig,
    TTTConfig,
)
from golf.data.dataset import Dataset
from golf.data.shards import token_stream, write_shard
from golf.data.token_bytes import ByteTable
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import device_name
from golf.runtime.results import AVERAGED, WEIGHTS, RunResults

RECORDED = Path(__file__).parent / "data" / "golden_run"
NUMBERS, ARTIFACT, AVERAGE = "numbers.json", "artifact.golf", WEIGHTS[AVERAGED]
VOCABULARY = 64
GRID = GridConfig(bits=6, scale_floor=1 / 31)
CONFIG = RunConfig(
    model=ModelConfig(
        vocab_size=VOCABULARY,
        num_layers=2,
        model_dim=32,
        num_heads=4,
        num_kv_heads=2,
        mlp_hidden=48,
        rope_dims=4,
        rope_train_length=16,
        bigram_buckets=32,
        bigram_dim=8,
        xsa_layers=1,
        value_dim=8,
        value_layers=(1,),
    ),
    batch=BatchConfig(tokens_per_step=512, sequence_length=32),
    schedule=ScheduleConfig(steps=8, warmdown_start=2, momentum_steps=4, ema_decay=0.5, qat_threshold=0.3),
    quant=QuantConfig(attention=GRID, mlp=GRID, token_embedding=GRID, tables=GRID, float_elements=100),
    score=ScoreConfig(sequence_length=32, stride=8, batch_windows=16, chunk_tokens=256),
    ttt=TTTConfig(lr=0.01, epochs=2, frozen_blocks=1, batch_sequences=4),
    validate_every=None,
    compile=False,
)


def tokens(count: int, state: int) -> np.ndarray:
    """Returns token ids, uint16 (count,): each is likely one of four that follow the one before it."""
    ids = np.empty(count, np.uint16)
    for position in range(count):
        state = (1103515245 * state + 12345) % 2**31
        before = int(ids[position - 1]) if position else 0
        ids[position] = (7 * before + (state >> 16) % 4) % VOCABULARY if state >> 28 else (state >> 16) % VOCABULARY
    return ids


def make_dataset(folder: Path) -> Dataset:
    """Returns 20,000 tokens to train on and 1,501 to score, of 1 to 5 bytes each, with shards below `folder`."""
    train, validation = folder / "fixed_train_000000.bin", folder / "fixed_val_000000.bin"
    write_shard(train, tokens(20_000, 1))
    write_shard(validation, tokens(1_501, 2))
    base = (1 + np.arange(VOCABULARY) % 5).astype(np.int16)
    table = ByteTable(base, np.arange(VOCABULARY) % 3 == 0, np.arange(VOCABULARY) < 2)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (train, validation)}
    return Dataset(folder, token_stream([train], VOCABULARY), tokens(1_501, 2), table, VOCABULARY, files)


def run_in(folder: Path) -> StageContext:
    """Returns the run, with its data and its directory below `folder`."""
    data, directory = folder / "data", RunDirectory(folder / "run")
    for path in (data, directory.path):
        path.mkdir(parents=True, exist_ok=True)
    return StageContext(config=CONFIG, dataset=make_dataset(data), directory=directory)


def train_and_score(run: StageContext) -> tuple[RunResults, list[float]]:
    """Returns all results of the run, and its training losses in nats."""
    results = run_stages(run, b"")
    curve = read_json(run.directory.file("curves.json"))["train_loss"]
    return results, [point[2] for point in curve]


def kernels() -> str:
    """Returns what the bits of a training depend on beside the code."""
    processor = device_name(torch.device("cpu")).split(",")[0]
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over names, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{list(tensor.shape)}".encode() + tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def record(folder: Path) -> None:
    """Writes the recorded files from a run below `folder`."""
    run = run_in(folder)
    results, losses = train_and_score(run)
    RECORDED.mkdir(parents=True, exist_ok=True)
    for name in (ARTIFACT, AVERAGE):
        (RECORDED / name).write_bytes(run.directory.file(name).read_bytes())
    numbers = {
        "kernels": kernels(),
        "losses": losses,
        "bpb": {rung.name: rung.bpb for rung in results.ladder},
        "artifact_bytes": results.pack.model_bytes,
        "decoded_sha256": tensors_sha256(read_artifact(RECORDED / ARTIFACT)[1]),
    }
    write_json(RECORDED / NUMBERS, numbers)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        record(Path(name))

"""Whether training, packing and calibration see validation tokens: shown by running them with other ones.

A short training of the very stages, with a validation on the way, is packed twice: with the dataset's validation tokens
and with others. What does not depend on them is equal to the last bit. Nothing is left on the disk.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from golf.compliance.eval_probe import watching
from golf.compliance.points import PointResult, judged, not_applicable
from golf.config.config import MICRO_BATCHES, BatchConfig, RunConfig
from golf.data.dataset import Dataset
from golf.evaluate.sliding import Stream
from golf.model.compile import activation_dtype
from golf.model.gepa import build_model
from golf.pipeline.pack_stage import pack_stage
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.process_group import ProcessGroup
from golf.train.microbatching import ready_to_train

Prepare = Callable[[Dataset], bytes]
"""Trains and packs; returns the artifact."""
STEPS, SEQUENCE, VALIDATION_TOKENS = 2, 256, 4096
"""Sizes of the short training."""


def short_training(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Returns the configuration with few steps of few tokens, a validation after the first, and a short calibration."""
    length = min(SEQUENCE, config.batch.sequence_length, config.score.sequence_length)
    return replace(
        config,
        batch=BatchConfig(tokens_per_step=MICRO_BATCHES * length, sequence_length=length),
        schedule=replace(config.schedule, steps=STEPS, warmdown_start=1),
        score=replace(config.score, sequence_length=length, stride=length),
        quant=replace(config.quant, calibration_tokens=min(config.quant.calibration_tokens, 4 * length)),
        validate_every=1,
    )


def prepare_of(config: RunConfig) -> Prepare:
    """Returns the stages themselves, for a short training on the CPU, where equal runs are equal to the last bit."""
    config, group = replace(config, compile=False), ProcessGroup()

    def prepare(dataset: Dataset) -> bytes:
        short = short_training(config, dataset)
        with tempfile.TemporaryDirectory() as temporary:
            folder = RunDirectory(Path(temporary))
            train_stage(StageContext(config=short, dataset=dataset, directory=folder, group=group))
            pack_stage(short, folder, dataset.train, group)
            return folder.file("artifact.golf").read_bytes()

    return prepare


def prove_independent(prepare: Prepare, dataset: Dataset) -> PointResult:
    """Shows that the artifact does not depend on the validation tokens (point 20)."""
    if dataset.train is None:
        return not_applicable(20, "the dataset has no training shards")
    tokens = np.array(dataset.validation[:VALIDATION_TOKENS])
    others = tokens[::-1].copy()
    artifacts = [prepare(replace(dataset, validation=part)) for part in (tokens, others)]
    sums = [hashlib.sha256(artifact).hexdigest()[:12] for artifact in artifacts]
    evidence = {
        "validation_tokens_exchanged": int((tokens != others).sum()),
        "artifact_sha256": sums[0],
        "with_other_validation": sums[1],
    }
    return judged(20, sums[0] == sums[1], evidence, "training, calibration or packing depends on validation tokens")


def prove_warm_up(config: RunConfig, dataset: Dataset, stream: Stream, group: ProcessGroup) -> PointResult:
    """Shows that what goes through the model before the first batch is no text (point 21)."""
    short = short_training(config, dataset)
    model = build_model(config.model, config.seed, activation_dtype(group.device)).to(group.device)
    with watching(model, stream.tokens[: VALIDATION_TOKENS + 1]) as watch:
        ready_to_train(model, short, group)
    of_text = int(watch.read.sum())
    evidence = {"rows_not_of_validation": watch.unknown_rows, "targets_of_text": of_text}
    if not watch.unknown_rows and not of_text:
        return not_applicable(21, "nothing is compiled or warmed up on this device", evidence)
    return judged(21, not of_text, evidence, "warm-up passes see text that is scored")

"""The second stage of a run: averaged weights to the artifact, whose size counts together with the code."""

import hashlib
import time

from golf.artifact.calibration import calibrate
from golf.artifact.pack import NO_HESSIANS, pack
from golf.artifact.quantizer import NotFinite
from golf.config.config import RunConfig
from golf.data.shards import TokenStream
from golf.pipeline.identity import pack_identity
from golf.pipeline.run_directory import RunDirectory, compute_once, load_model
from golf.pipeline.stage_context import LOWER_TRAINING, StageContext
from golf.runtime.errors import Diverged
from golf.runtime.files import write_bytes
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import AVERAGED, WEIGHTS, PackedModel, PackResult
from golf.runtime.tensors import read_tensors


def pack_trained(run: StageContext, code: bytes) -> PackResult:
    """Packs the trained model unless its artifact is there; the first rank packs for all.

    Args:
        run: the run, whose weights are in its directory.
        code: the counted code.
    """
    config, directory, group = run.config, run.directory, run.group
    packed = compute_once(
        directory.file("pack.json"),
        PackedModel,
        pack_identity(config, run.dataset),
        group,
        lambda: pack_stage(config, directory, run.dataset.train, group),
        first_rank_only=True,
    )
    return with_code(packed, code, config.cap_bytes)


def pack_stage(
    config: RunConfig, directory: RunDirectory, stream: TokenStream | None, group: ProcessGroup
) -> PackedModel:
    """Quantises the averaged weights and writes the artifact.

    Args:
        config: the run's configuration.
        directory: where the weights are and the artifact is written.
        stream: the training tokens, which only GPTQ reads.
        group: names the device that GPTQ's calibration runs on.

    Raises: ValueError when GPTQ has no training shards; Diverged naming a tensor that cannot be packed.
    """
    started, hessians = time.perf_counter(), NO_HESSIANS
    if config.quant.calibrated:
        if stream is None:
            raise ValueError('the method "gptq" is calibrated on training shards (*_train_*.bin), and there are none')
        hessians = calibrate(load_model(directory, AVERAGED, config, group), stream, config)
    try:
        artifact = pack(read_tensors(directory.file(WEIGHTS[AVERAGED])), config.model, config.quant, hessians)
    except NotFinite as error:
        raise Diverged(f"pack, {error}; {LOWER_TRAINING}") from error
    write_bytes(directory.file("artifact.golf"), artifact)
    return PackedModel(model_bytes=len(artifact), seconds=time.perf_counter() - started)


def with_code(packed: PackedModel, code: bytes, cap_bytes: int) -> PackResult:
    """Returns the result of a packed model together with the counted code."""
    return PackResult(
        model_bytes=packed.model_bytes,
        seconds=packed.seconds,
        code_bytes=len(code),
        code_sha256=hashlib.sha256(code).hexdigest(),
        cap_bytes=cap_bytes,
    )

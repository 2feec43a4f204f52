"""The command "import": turns a published checkpoint of the PR #598 or #1493 family into what our evaluator scores.

A quantised file becomes an artifact with the same codes and scales; float weights, which no artifact is large enough
for, become a run, scored as its averaged weights and packed from there. Either way the values that are scored are those
of the file bit for bit, which is checked before anything is written. What shapes do not show (rotary settings, softcap,
XSA layers) is the preset's, and is printed. Nothing in the file is executed.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from golf.artifact.container import encode
from golf.artifact.pack import LARGEST_ARTIFACT, unpack
from golf.artifact.published_names import (
    foreign_parts,
    in_published_names,
    infer_model,
    is_april,
    read_published_file,
)
from golf.artifact.quantizer import Quantised, dequantise
from golf.cli.inputs import differences, stored_config
from golf.config.config import RunConfig, plain_shape, to_plain
from golf.config.presets import find_preset
from golf.model.gepa import check_weights
from golf.pipeline.run_directory import RunDirectory
from golf.runtime.files import write_bytes, write_json
from golf.runtime.results import AVERAGED, WEIGHTS
from golf.runtime.tensors import write_tensors

ASSUMED = (
    *("logit_softcap", "rope_dims", "rope_base", "rope_train_length", "xsa_layers", "depth_scaled_norm"),
    *("skips", "parallel_from", "loop"),
)
"""Fields of a model that the shapes of its weights do not show."""
INITIAL = ("embedding_init_std", "query_gain_init")
"""Fields that only matter before training."""


def import_command(arguments: argparse.Namespace) -> None:
    """Writes an artifact from a quantised file, a run's directory from float weights."""
    path = arguments.file
    if not path.is_file():
        raise FileNotFoundError(f"there is no published checkpoint {path}; it is called final_model.int6.ptz or .pt")
    published = read_published_file(path)
    arguments.preset = arguments.preset or ("pr1493" if is_april(published.values) else "pr598")
    preset, foreign = find_preset(arguments.preset), foreign_parts(published.values)
    if foreign:
        raise ValueError(
            f"{path} is not a model of the PR #598 or #1493 families, which are scored: {'; '.join(foreign)}"
        )
    stored = published.ours
    weights = {n: dequantise(t) if isinstance(t, Quantised) else t.float() for n, t in stored.items()}
    try:
        config = replace(preset, model=infer_model(weights, preset.model))
        check_weights(config.model, weights)
    except ValueError as error:
        text = in_published_names(str(error))
        raise ValueError(f"{path}: {text}; only models of the PR #598 and #1493 families can be scored here") from error
    if published.wrappers:
        print(f"names        without {' and '.join(f'{part}.' for part in published.wrappers)}")
    for line in model_lines(path, config, stored, weights, arguments.preset):
        print(line)
    if any(isinstance(tensor, Quantised) for tensor in stored.values()):
        out = arguments.out or path.with_suffix(".golf")
        if out.resolve() == path.resolve():
            raise ValueError(f"--out {out} is the published file itself; give another")
        data = encoded(path, config, stored, weights)
        write_bytes(out, data)
        print(f"artifact     {len(data):,} bytes in {out}; the same codes and scales, bit for bit")
        print(f"next: python -m golf score --artifact {out} --preset {arguments.preset}")
    else:
        directory = RunDirectory(arguments.out or Path("runs") / path.stem)
        write_run(directory, config, weights)
        print(f"run          float weights in {directory.path}; the same values, bit for bit")
        print(f"next: python -m golf score {directory.path} --rung {AVERAGED}")
        print(f"then: python -m golf pack {directory.path}")


def encoded(
    path: Path, config: RunConfig, stored: Mapping[str, Quantised | Tensor], weights: Mapping[str, Tensor]
) -> bytes:
    """Returns the artifact's bytes, read back and compared.

    Raises: ValueError naming the file where its values cannot be stored.
    """
    tensors = {name: stored[name] for name in sorted(stored)}
    try:
        data = encode(tensors, plain_shape(config.model), config.quant.codec, config.quant.level)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(data) > LARGEST_ARTIFACT:
        raise ValueError(f"{path}: its artifact would have {len(data):,} bytes, more than {LARGEST_ARTIFACT:,}")
    model, read = unpack(data)
    same = model == config.model and all(torch.equal(read[name], weights[name]) for name in weights)
    assert same, f"{path}: the artifact does not hold the file's values"
    return data


def write_run(directory: RunDirectory, config: RunConfig, weights: Mapping[str, Tensor]) -> None:
    """Writes float weights as the averaged weights of a run that was trained elsewhere.

    Raises: ValueError when the directory is another run's, or a weight is not finite.
    """
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ValueError(f"tensor {name} holds NaN or infinity: this model cannot be scored")
    if directory.file("config.json").exists():
        other = differences(stored_config(directory), config)
        if other:
            raise ValueError(f"{directory.path} holds the run of another configuration ({other}); give another --out")
    write_tensors(directory.file(WEIGHTS[AVERAGED]), weights)
    write_json(directory.file("config.json"), to_plain(config))


def model_lines(
    path: Path, config: RunConfig, stored: Mapping[str, Quantised | Tensor], weights: Mapping[str, Tensor], preset: str
) -> list[str]:
    """Returns lines of what is in the file, and what the preset adds."""
    plain = to_plain(config.model)
    codes = [tensor.codes.numel() for tensor in stored.values() if isinstance(tensor, Quantised)]
    parameters = sum(tensor.numel() for tensor in weights.values())
    shape = [f"{name}={plain[name]}" for name in plain if name not in (*ASSUMED, *INITIAL)]
    assumed = [f"{name}={plain[name]}" for name in ASSUMED]
    codes_text = f"of which {sum(codes):,} are codes of {len(codes)} matrices" if codes else "all of them floats"
    return [
        f"file         {path.stat().st_size:,} bytes in {path}",
        f"parameters   {parameters:,}, {codes_text}",
        f"its shape    {' '.join(shape)}",
        f"from preset  {' '.join(assumed)} ({preset})",
    ]

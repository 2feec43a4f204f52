"""`python -m golf import`: published checkpoints scored here, in both of their forms."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import brotli
import pytest
import torch
import zstandard
from torch import Tensor

from golf.artifact.container import decode_stored, encode
from golf.artifact.pack import quantise_tensors, read_artifact
from golf.artifact.published_names import from_published, read_published, to_published
from golf.artifact.quantizer import Quantised, dequantise
from golf.cli import import_published as importing
from golf.cli.inputs import stored_config
from golf.cli.main import main
from golf.config import presets
from golf.config.config import RunConfig
from golf.config.presets import find_preset
from golf.model.gepa import GEPA
from golf.pipeline.run_directory import RunDirectory
from golf.runtime.results import AVERAGED, WEIGHTS
from golf.runtime.tensors import read_tensors


@pytest.fixture
def preset(tiny: RunConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model's settings under a preset's name, since the command takes only names."""
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny)
    return "tiny"


@pytest.fixture
def weights(tiny: RunConfig) -> dict[str, Tensor]:
    """A model under the published names."""
    torch.manual_seed(3)
    return to_published(
        {name: p.detach() + 0.02 * torch.randn_like(p) for name, p in GEPA(tiny.model).named_parameters()}
    )


def published(weights: dict[str, Tensor], scales: torch.dtype = torch.float16) -> dict[str, Any]:
    """The published layout: int6 per row in attention and MLP, int8 with one scale in tables, the rest float."""
    stored: dict[str, Tensor] = {}
    kinds: dict[str, Any] = {}
    for name, tensor in weights.items():
        if tensor.ndim != 2 or tensor.numel() < 100:
            stored[name], kinds[name] = tensor, "passthrough_ctrl"
        elif "bigram" in name or "ve_shared" in name:
            stored[name], kinds[name] = tensor.half(), "passthrough"
        else:
            rows = name.startswith("blocks.")
            scale = ((tensor.abs().amax(dim=1) / 31) if rows else tensor.abs().max() / 127).clamp_min(1e-4).to(scales)
            steps = scale.float()[:, None] if rows else scale.float()
            stored[name + ".q"] = (tensor / steps).round().clamp(-128, 127).to(torch.int8)
            stored[name + ".scale"], kinds[name] = scale, {"type": "int6" if rows else "int8"}
    return {"w": stored, "m": kinds}


def meant(layout: dict[str, Any]) -> dict[str, Tensor]:
    """What a published layout stands for, element by element."""
    values = {}
    for name, kind in layout["m"].items():
        if isinstance(kind, str):
            values[name] = layout["w"][name].float()
        else:
            codes, scale = layout["w"][name + ".q"], layout["w"][name + ".scale"].float().reshape(-1)
            rows = [codes[n].float() * scale[n if len(scale) > 1 else 0] for n in range(len(codes))]
            values[name] = torch.stack(rows)
    return values


def save(path: Path, value: Any) -> Path:
    """What torch.save writes, packed with zstd."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    path.write_bytes(zstandard.ZstdCompressor(level=3).compress(buffer.getvalue()))
    return path


def chunks(folder: Path, rung: str) -> list[list[float]]:
    """NLL, tokens and bytes of every chunk of a kept rung."""
    result: list[list[float]] = json.loads((folder / f"{rung}.json").read_text())["result"]["chunks"]
    assert result
    return result


def test_a_quantised_file_is_scored_with_its_own_codes(
    tmp_path: Path,
    preset: str,
    weights: dict[str, Tensor],
    tiny: RunConfig,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fault: a scale on the wrong axis, codes chosen anew, a shape or setting taken from somewhere else."""
    layout = published(weights)
    path = save(tmp_path / "final_model.int6.ptz", layout)
    assert main(["import", str(path), "--preset", preset]) == 0
    out = tmp_path / "final_model.int6.golf"
    message = capsys.readouterr().out
    assert f"{path.stat().st_size:,} bytes" in message
    assert f"{out.stat().st_size:,} bytes" in message
    assert f"{sum(tensor.numel() for tensor in weights.values()):,}" in message
    _, stored = decode_stored(out.read_bytes())
    names = dict(zip(from_published(weights), weights, strict=True))
    codes = {name: value for name, value in stored.items() if isinstance(value, Quantised)}
    assert len(codes) == len([kind for kind in layout["m"].values() if isinstance(kind, dict)]) > 10
    for name, value in codes.items():
        assert torch.equal(value.codes, layout["w"][names[name] + ".q"]), name
        assert torch.equal(value.scale, layout["w"][names[name] + ".scale"]), name
    # The same values as float weights, through the other way of importing and of scoring.
    floats = save(tmp_path / "final_model.pt", meant(layout))
    assert main(["import", str(floats), "--preset", preset, "--out", str(tmp_path / "run")]) == 0
    by_artifact, by_weights = tmp_path / "by-artifact", tmp_path / "by-weights"
    scoring = ["--data", str(data), "--out"]
    assert (
        main(["score", "--artifact", str(out), "--preset", preset, "--rung", "quantised", *scoring, str(by_artifact)])
        == 0
    )
    assert main(["score", str(tmp_path / "run"), "--rung", "ema", *scoring, str(by_weights)]) == 0
    assert chunks(by_artifact, "quantised") == chunks(by_weights, "ema")
    assert main(["ttt", "--artifact", str(out), "--preset", preset, *scoring, str(by_artifact)]) == 0
    assert chunks(by_artifact, "ttt") != chunks(by_artifact, "quantised")


def test_float_weights_become_a_run_that_can_be_packed(
    tmp_path: Path, preset: str, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: weights changed on the way, or a folder that the next command refuses."""
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "final_model.pt", weights)
    assert main(["import", str(path), "--preset", preset]) == 0
    run = tmp_path / "runs" / "final_model"
    read, wanted = read_tensors(run / "average.safetensors"), from_published(weights)
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
    assert main(["import", str(path), "--preset", preset]) == 0
    assert main(["pack", str(run)]) == 0
    assert (run / "artifact.golf").stat().st_size > 0


def test_values_that_the_format_cannot_hold_as_codes_stay_exact(
    tmp_path: Path, preset: str, weights: dict[str, Tensor]
) -> None:
    """Fault: a scale in float32 is rounded to float16, so that another model is scored."""
    layout = published(weights, scales=torch.float32)
    path = save(tmp_path / "final_model.int6.ptz", layout)
    read, wanted = read_published(path), from_published(meant(layout))
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
    layout["w"]["blocks.0.attn.c_q.weight.scale"] = layout["w"]["blocks.0.attn.c_q.weight.scale"].half()
    path = save(tmp_path / "final_model.int6.ptz", layout)
    assert main(["import", str(path), "--preset", preset, "--out", str(tmp_path / "a.golf")]) == 0
    _, stored = decode_stored((tmp_path / "a.golf").read_bytes())
    assert [name for name, value in stored.items() if isinstance(value, Quantised)] == [
        "blocks.0.attention.query.weight"
    ]


def another_mlp(weights: dict[str, Tensor]) -> None:
    """The MLP of the other records of March and April."""
    for name in [name for name in weights if ".mlp." in name]:
        weights_left = weights.pop(name)
        for old, new in ((".up_proj.", ".fc."), (".down_proj.", ".proj.")):
            weights |= {name.replace(old, new): weights_left} if old in name else {}


def stacked(weights: dict[str, Tensor]) -> None:
    """All blocks' matrices in one tensor of a kind."""
    for name in [name for name in weights if ".attn.c_" in name or ".attn.proj" in name]:
        del weights[name]
    weights |= {"qo_bank": torch.ones(4, 3, 3), "kv_bank": torch.ones(4, 3, 3)}


Change = Callable[[dict[str, Tensor]], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "a tensor too many": (
        lambda w: w.update({"mtp_heads.0.weight": torch.ones(3, 3)}),
        "mtp_heads.0.weight is not part",
    ),
    "a tensor missing": (lambda w: w.pop("blocks.1.attn.c_v.weight"), "blocks.1.attn.c_v.weight"),
    "a wrong shape": (lambda w: w.update({"smear_gate.gate": torch.ones(7)}), "smear"),
    "a name of layer one hundred million": (
        lambda w: w.update({"blocks.99999999.attn_scale": torch.ones(1)}),
        "layers",
    ),
    "not a number": (lambda w: w["smear_gate.gate"].fill_(torch.nan), "NaN"),
    "another MLP": (another_mlp, "mlp.fc / mlp.proj without scale and bias: relu^2 or leaky-relu^2 MLP"),
    "stacked weights": (stacked, "qo_bank, kv_bank: stacked weights"),
    "an untied head": (lambda w: w.update({"lm_head.weight": torch.ones(3, 3)}), "lm_head.weight is not part"),
    "a part of every block": (
        lambda w: w.update({f"blocks.{n}.attn.gate.weight": torch.ones(3, 3) for n in range(2)}),
        "blocks.0.attn.gate.weight (and the same of 1 more blocks) is not part",
    ),
    "no gates": (lambda w: w.pop("skip_gates"), "skip_gates is missing"),
    "another width of keys": (lambda w: w.update({"blocks.1.attn.c_k.weight": torch.ones(3, 3)}), "attn.c_k.weight"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("quantised", [False, True])
def test_other_models_are_refused(
    tmp_path: Path,
    preset: str,
    weights: dict[str, Tensor],
    kind: str,
    quantised: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fault: a model of another family is scored as if it were one of this, or ends in a traceback or a hang."""
    change, named = REFUSED[kind]
    change(weights)
    path = save(tmp_path / "model.ptz", published(weights) if quantised else weights)
    assert main(["import", str(path), "--preset", preset, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod._orig_mod."])
def test_names_as_compilers_and_wrappers_leave_them(
    tmp_path: Path, preset: str, weights: dict[str, Tensor], prefix: str, quantised: bool, capsys: Any
) -> None:
    """Fault: a model is refused for what torch.compile or DistributedDataParallel put before or into its names."""

    def wrapped(values: dict[str, Any]) -> dict[str, Any]:
        return {prefix + name.replace("blocks.1.", "blocks.1._orig_mod."): value for name, value in values.items()}

    layout = published(weights)
    file = {part: wrapped(values) for part, values in layout.items()} if quantised else wrapped(weights)
    path = save(tmp_path / "final_model.pt", file)
    plain = save(tmp_path / "plain.pt", layout if quantised else weights)
    wanted, read = read_published(plain), read_published(path)
    assert list(read) == list(wanted)
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
    assert main(["import", str(path), "--preset", preset, "--out", str(tmp_path / "out")]) == 0
    assert "_orig_mod." in capsys.readouterr().out
    doubled = save(tmp_path / "doubled.pt", weights | {f"module.{name}": one for name, one in weights.items()})
    with pytest.raises(ValueError, match="several tensors of one name"):
        read_published(doubled)


INSTEAD: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a training checkpoint": (
        lambda w: {"model": w, "step": 7, "optimizer": {"state": {}, "param_groups": []}},
        "holds model, step, optimizer: give the weights alone (the entry model)",
    ),
    "two models": (lambda w: {"model": w, "ema": w, "step": 7}, "(the entry model or ema)"),
    "the baseline's int8": (
        lambda w: {"__quant_format__": "int8_clean_per_row_v1", "quantized": {}, "scales": {}, "passthrough": w},
        "int8 container of the baseline (__quant_format__ int8_clean_per_row_v1): not supported",
    ),
    "another's int6": (
        lambda w: {"__quant_format__": "int6_rows", "quantized": {}},
        "quantised container (__quant_format__ int6_rows): not supported",
    ),
    "codes and more": (
        lambda w: published(w) | {"lora": {}},
        "holds lora beside the codes and their kinds (w, m): not supported",
    ),
    "the same without its name": (lambda w: {"quantized": {}, "scales": {}, "passthrough": w}, "int8 container"),
    "tensors and a number": (lambda w: {**w, "step": 7}, "holds more than named tensors: step (int)"),
    "codes that are not there": (
        lambda w: {"w": {}, "m": {"tok_emb.weight": {"type": "int6"}}},
        "neither tok_emb.weight nor tok_emb.weight.q",
    ),
}


@pytest.mark.parametrize("kind", INSTEAD)
def test_what_a_file_holds_instead_is_named(
    tmp_path: Path, preset: str, weights: dict[str, Tensor], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: "more than named tensors" leaves the reader to guess which part of the file to give."""
    make, message = INSTEAD[kind]
    path = save(tmp_path / "model.ptz", make(weights))
    assert main(["import", str(path), "--preset", preset, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_nothing_is_overwritten(
    tmp_path: Path, preset: str, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: the published file itself or another run is lost."""
    path = save(tmp_path / "model.golf", published(weights))
    before = path.read_bytes()
    assert main(["import", str(path), "--preset", preset]) == 2
    assert path.read_bytes() == before
    run = tmp_path / "run"
    assert main(["import", str(save(tmp_path / "a.pt", weights)), "--preset", preset, "--out", str(run)]) == 0
    weights_left = (run / "average.safetensors").read_bytes()
    capsys.readouterr()
    smaller = {name: tensor for name, tensor in weights.items() if not name.startswith("bigram_emb")}
    other = save(tmp_path / "b.pt", smaller)
    assert main(["import", str(other), "--preset", preset, "--out", str(run)]) == 2
    assert "another configuration" in capsys.readouterr().err
    assert (run / "average.safetensors").read_bytes() == weights_left
    assert main(["import", str(tmp_path / "missing.ptz"), "--preset", preset]) == 2


def test_the_artifact_is_compared_before_it_is_written(
    tmp_path: Path, preset: str, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: an artifact with other values passes for the published model."""

    def spoiled(tensors: dict[str, Any], *rest: Any) -> bytes:
        return encode(tensors | {"smear.gate": tensors["smear.gate"] + 1}, *rest)

    monkeypatch.setattr(importing, "encode", spoiled)
    path = save(tmp_path / "model.ptz", published(weights))
    with pytest.raises(AssertionError, match="values"):
        main(["import", str(path), "--preset", preset, "--out", str(tmp_path / "out.golf")])
    assert not (tmp_path / "out.golf").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_model_of_the_april_family(
    packed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a model with a loop is refused, or scored as another one: its loop, its MLP or its skips left out."""
    monkeypatch.chdir(tmp_path)
    preset = find_preset("pr1493")
    config = replace(
        preset.model,
        vocab_size=40,
        model_dim=64,
        num_heads=4,
        num_kv_heads=2,
        mlp_hidden=64,
    )
    model = GEPA(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    quant = replace(preset.quant, float_elements=300)
    matrices, embedding = (replace(grid, method="clip") for grid in (quant.mlp, quant.token_embedding))
    stored = quantise_tensors(weights, replace(quant, attention=matrices, mlp=matrices, token_embedding=embedding))
    theirs = to_published({name: torch.tensor(float(n)) for n, name in enumerate(weights)})
    names = {ours: next(t for t, place in theirs.items() if place == n) for n, ours in enumerate(weights)}
    if packed:
        tensors: dict[str, Tensor] = {}
        for ours, value in stored.items():
            parts = {".q": value.codes, ".scale": value.scale} if isinstance(value, Quantised) else {"": value}
            tensors |= {f"{names[ours]}{end}": part for end, part in parts.items()}
        kinds = {names[n]: "gptq (int6)" if isinstance(v, Quantised) else "passthrough" for n, v in stored.items()}
        data = torch_saved({"w": tensors, "m": kinds})
        data = brotli.compress(b"BSHF\x02" + data[::2] + data[1::2])
        expected = {n: dequantise(v) if isinstance(v, Quantised) else v.float() for n, v in stored.items()}
    else:
        data, expected = torch_saved(to_published(weights)), weights
    path = tmp_path / ("final_model.int6.ptz" if packed else "final_model.pt")
    path.write_bytes(data)
    assert main(["import", path.name]) == 0
    told = capsys.readouterr().out
    assert "parallel_from=7" in told
    assert "(pr1493)" in told
    if packed:
        read_config, read = read_artifact(tmp_path / "final_model.int6.golf")
    else:
        run = RunDirectory(Path("runs") / "final_model")
        read_config, read = stored_config(run).model, read_tensors(run.file(WEIGHTS[AVERAGED]))
    assert replace(read_config, embedding_init_std=config.embedding_init_std) == config
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def torch_saved(value: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()

"""Check files of golden numbers against `golf/`: `python tests/golden.py FILE...`.

A file's kind is known by the tensors in it (forward, ttt, train, kernels, byte tables), so any file of these
formats can be given. One line per check: file, check, largest difference, limit, ok or FAIL. Exit 1 on any FAIL.
"""

import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

# Run as a script, this file's folder would hide the package behind tests/golf.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golf.artifact.calibration import hessians
from golf.artifact.pack import quantise_tensors
from golf.artifact.published_names import from_published, to_published
from golf.artifact.quantizer import dequantise, quantise
from golf.config.config import (
    RECORD_INT6,
    RECORD_INT8,
    GridConfig,
    LoopConfig,
    ModelConfig,
    OptimizerConfig,
    QuantConfig,
    ScheduleConfig,
    ScoreConfig,
    TTTConfig,
    WeightDecayConfig,
)
from golf.config.schedule import make_plan
from golf.data.token_bytes import ByteTable
from golf.evaluate.sliding import Stream, score
from golf.evaluate.ttt import score_with_ttt
from golf.model.gepa import GEPA
from golf.model.layers import bigram_bucket, rotary_tables
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Step, train
from golf.train.muon import orthogonalise
from golf.train.param_groups import UNTRAINED, optimizer_group
from golf.train.train_state import TrainState

KERNELS = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}
"""The kernels that the files were made with. A training is chaotic: one other rounding grows to 1e-2 in 12 steps. Torch
reads these when it is loaded, so the script starts itself again with them."""

NOISE_RUNS = 5
"""Trainings that differ in roundings alone."""


class Check(NamedTuple):
    """One comparison: the largest difference found and the largest allowed."""

    name: str
    difference: float
    limit: float


class Golden:
    """The tensors and metadata of one file."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        self.metadata: dict[str, Any] = {name: json.loads(text) for name, text in metadata.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix` under the project's names."""
        inside = {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
        return from_published(inside)

    def model(self) -> GEPA:
        """The model with the file's weights."""
        model = GEPA(model_config(self.metadata["config"]))
        model.load_state_dict(self.weights("weights/"))
        return model


def model_config(published: Mapping[str, Any]) -> ModelConfig:
    """The project's configuration for the published one."""
    heads, dim = published["num_heads"], published["model_dim"]
    values = bool(published.get("ve_enabled"))
    april, num_loops = "num_loops" in published, published.get("num_loops", 0)
    loop = (
        LoopConfig(first_layer=published["loop_start"], last_layer=published["loop_end"], times=num_loops + 1)
        if num_loops
        else None
    )
    embedding_dim = published.get("embedding_dim", dim)
    layers = [int(layer) for layer in str(published.get("ve_layers", "")).split(",") if layer.strip()]
    return ModelConfig(
        vocab_size=published["vocab_size"],
        num_layers=published["num_layers"],
        model_dim=dim,
        num_heads=heads,
        num_kv_heads=published["num_kv_heads"],
        mlp_hidden=published.get("mlp_hidden") or int(published["mlp_mult"] * dim),
        logit_softcap=published["logit_softcap"],
        rope_dims=published.get("rope_dims") or dim // heads,
        rope_base=published["rope_base"],
        rope_train_length=published.get("rope_train_seq_len", 1024),
        bigram_buckets=None if april else published.get("bigram_buckets") or None,
        bigram_dim=published.get("bigram_embed_dim") or 128,
        xsa_layers=published.get("xsa_last_n") or 0,
        value_dim=published["ve_dim"] if values else None,
        value_layers=tuple(sorted(layers)) if values else (),
        depth_scaled_norm=bool(published.get("ln_scale", False)),
        activation="leaky_relu_squared" if april else "star_relu",
        embedding_dim=None if embedding_dim == dim else embedding_dim,
        smear_gate=not april,
        skips=("lerp" if published["skip_gates_enabled"] else "added") if april else "gated",
        parallel_from=published.get("parallel_residual_start"),
        loop=loop,
    )


def distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], relative: bool = False) -> float:
    """Largest difference over all tensors; relative: to the largest entry of each tensor."""
    assert set(ours) == set(theirs), sorted(set(ours) ^ set(theirs))
    worst = 0.0
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().max().item()
        scale = tensor.abs().max().item() if relative else 1.0
        worst = max(worst, difference / scale if scale else difference)
    return worst


def check_forward(golden: Golden) -> Iterator[Check]:
    """Logits, losses and gradients, plain and fake-quantised, or with the loop off and on."""
    model, x, y = golden.model(), golden["x"], golden["y"]
    if "logits_plain" in golden:
        with torch.no_grad():
            logits, loss = model.logits(x, looped=False), model(x, y, looped=False)
        yield Check("logits_plain", (logits - golden["logits_plain"]).abs().max().item(), 2e-5)
        yield Check("loss_plain", abs(loss.item() - golden["loss_plain"].item()), 2e-5)
        num_parameters = sum(p.numel() for p in model.parameters())
        yield Check("parameters", abs(num_parameters - golden.metadata["parameters"]), 0)
    with torch.no_grad():
        yield Check("logits", (model.logits(x) - golden["logits"]).abs().max().item(), 2e-5)
        short = golden["logits_short"]
        difference = (model.logits(x[:, : short.shape[1]]) - short).abs().max().item()
        yield Check("logits_short", difference, 2e-5)
    for qat, prefix in ((False, ""), (True, "qat_")):
        if f"{prefix}loss" not in golden:
            continue
        model.zero_grad()
        loss = model(x, y, qat=qat)
        loss.backward()
        yield Check(f"{prefix}loss", abs(loss.item() - golden[f"{prefix}loss"].item()), 2e-5)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        yield Check(f"{prefix}grads", distance(gradients, golden.weights(f"{prefix}grads/"), relative=True), 1e-4)


def check_ttt(golden: Golden) -> Iterator[Check]:
    """Bytes, sliding-window and test-time-training scores, and the weights after the last update."""
    settings, tokens = golden.metadata["eval"], golden["tokens"].long()
    table = ByteTable(*(golden[name].numpy() for name in ("base_bytes", "leading_space", "boundary")))
    target_bytes = table.count(tokens[:-1].numpy(), tokens[1:].numpy())
    yield Check("token_bytes", float(np.abs(target_bytes - golden["token_bytes"].numpy()).max()), 0)
    stream = Stream(tokens, target_bytes)
    config = ScoreConfig(
        sequence_length=settings["seq_len"], stride=settings["stride"], chunk_tokens=settings["chunk_tokens"]
    )
    nll = torch.full((stream.num_targets,), math.nan, dtype=torch.float64)

    def sink(first: int, values: Tensor) -> None:
        nll[first : first + len(values)] = values

    model = golden.model()
    sliding = score(model, stream, config, ProcessGroup(), sink=sink)
    yield Check("sliding_nll", (nll - golden["sliding_nll"]).abs().max().item(), 1e-4)
    yield Check("sliding_bpb", abs(sliding.bpb - golden.metadata["sliding_bpb"]), 1e-6)
    adapting = TTTConfig(
        optimizer=settings.get("optimizer", "sgd"),
        lr=settings["lr"],
        epochs=settings["epochs"],
        momentum=settings.get("momentum", 0.9),
        frozen_blocks=settings["freeze_blocks"],
        gradient_clip=settings["grad_clip"],
        batch_sequences=settings["batch_seqs"],
    )
    nll.fill_(math.nan)
    adapted = score_with_ttt(model, stream, config, adapting, ProcessGroup(), sink=sink)
    yield Check("ttt_nll", (nll - golden["ttt_nll"]).abs().max().item(), 1e-4)
    yield Check("ttt_bpb", abs(adapted.scored.bpb - golden.metadata["ttt_bpb"]), 1e-6)
    yield Check("ttt_weights", distance(adapted.weights, golden.weights("ttt_weights/")), 1e-4)


def check_train(golden: Golden) -> Iterator[Check]:
    """Groups, schedule, losses, final and averaged weights of a short training."""
    settings, model = golden.metadata["train"], golden.model()
    april = "loop_at" in settings
    wrong = 0
    for group, names in (golden.metadata["groups"] | {UNTRAINED: golden.metadata.get("ungrouped", [])}).items():
        for name in names:
            ours = optimizer_group(next(iter(from_published({name: torch.zeros(1)}))), model.num_encoder)
            wrong += (_april_group(ours) if april else ours) != group
    yield Check("groups", wrong, 0)
    if april:
        yield from _check_training(golden, model, april_schedule(settings), april_optimizer(settings))
        return
    schedule = ScheduleConfig(
        steps=settings["iterations"],
        warmdown_start=settings["iterations"] - settings["warmdown_iters"],
        warmdown_shape=settings["warmdown_shape"],
        momentum_start=settings["warm_start"],
        momentum_end=settings["muon_momentum"],
        momentum_steps=settings["warm_steps"],
        qat_threshold=settings["qat_threshold"] or None,
        ema_decay=settings["ema_decay"],
    )
    optimizer = OptimizerConfig(
        matrix_lr=settings["matrix_lr"],
        scalar_lr=settings["scalar_lr"],
        embedding_lr=settings["tied_embed_lr"],
        decoder_lr_multiplier=settings["decoder_lr_mult"],
        weight_decay=WeightDecayConfig.of_number(settings["muon_wd"]),
        beta1=settings["beta1"],
        beta2=settings["beta2"],
        epsilon=settings["eps"],
        newton_schulz_steps=settings["ns_steps"],
        gradient_clip=settings["grad_clip"],
    )
    yield from _check_training(golden, model, schedule, optimizer)


def _april_group(ours: str) -> str:
    """The published group of one of ours."""
    return "tok" if ours == "adamw_token_embedding" else ours.partition("_")[0].replace("adamw", "scalar")


def april_schedule(settings: Mapping[str, Any]) -> ScheduleConfig:
    """The schedule of a file of the April recipe."""
    steps = settings["steps"]
    return ScheduleConfig(
        steps=steps,
        warmdown_fraction=settings["warmdown_frac"],
        warmdown_shape="linear",
        least_lr_scale=settings["min_lr"],
        momentum_start=settings["muon_momentum_warmup_start"],
        momentum_end=settings["muon_momentum"],
        momentum_steps=settings["muon_momentum_warmup_steps"],
        qat_threshold=None,
        ema_decay=settings["ema_decay"],
        loop_start=min(settings["loop_at"] / steps, 1.0),
    )


def april_optimizer(settings: Mapping[str, Any]) -> OptimizerConfig:
    """The optimisers of a file of the April recipe."""
    return OptimizerConfig(
        matrix_lr=settings["matrix_lr"],
        scalar_lr=settings["scalar_lr"],
        embedding_lr=settings["tied_embed_lr"],
        decoder_lr_multiplier=1.0,
        weight_decay=WeightDecayConfig(
            matrices=settings["muon_wd"], embedding=settings["embed_wd"], others=settings["adam_wd"]
        ),
        muon_row_norm=settings["muon_row_normalize"],
        beta1=settings["beta1"],
        beta2=settings["beta2"],
        epsilon=settings["adam_eps"],
        newton_schulz_steps=settings["muon_backend_steps"],
        gradient_clip=settings["grad_clip_norm"],
    )


class Trained(NamedTuple):
    """What a short training gave: losses in nats and gradient norms of its steps, weights at its end."""

    losses: Tensor
    norms: Tensor
    final: dict[str, Tensor]
    ema: dict[str, Tensor]


def _check_training(
    golden: Golden, model: GEPA, schedule: ScheduleConfig, optimizer: OptimizerConfig
) -> Iterator[Check]:
    settings = golden.metadata["train"]
    plan = make_plan(schedule)[: settings["steps"]]
    scales = torch.tensor([row.lr_scale for row in plan], dtype=torch.float64)
    yield Check("lr_scales", (scales - golden["lr_scales"]).abs().max().item(), 0)
    first_qat = [step for step, row in enumerate(plan) if row.qat][:1]
    yield Check("qat_on_at", float(first_qat != settings.get("qat_on_at", [])[:1]), 0)
    if "loop_at" in settings:
        first = next((step for step, row in enumerate(plan) if row.looped), len(plan))
        yield Check("loop_at", abs(first - settings["loop_at"]), 0)

    def trained(start: GEPA) -> Trained:
        state, steps = TrainState(start, optimizer, ProcessGroup()), list[Step]()
        x, y = golden["x"], golden["y"]
        batches = lambda step, micro: (x[step, micro], y[step, micro])  # noqa: E731
        train(state, plan, batches, optimizer.gradient_clip, ProcessGroup(), steps.append, passes=x.shape[1])
        losses = torch.tensor([step.loss_nats for step in steps], dtype=torch.float64)
        norms = torch.tensor([step.gradient_norm for step in steps], dtype=torch.float64)
        return Trained(losses, norms, state.live_weights(), state.averaged_weights())

    theirs = Trained(golden["losses"], golden["grad_norms"], golden.weights("final/"), golden.weights("ema/"))
    ours = trained(model)
    yield Check("first_grad_norm", abs(ours.norms[0] - theirs.norms[0]).item(), 2e-5)
    exact = [
        Check("losses", (ours.losses - theirs.losses).abs().max().item(), 2e-4),
        Check("final", distance(ours.final, theirs.final), 2e-3),
        Check("ema", distance(ours.ema, theirs.ema), 2e-3),
    ]
    if all(check.difference <= check.limit for check in exact):
        yield from exact
        return
    noise = rounding_noise(golden, trained)
    for name, difference in distances(ours, theirs).items():
        yield Check(f"{name} beside roundings", difference, 1.5 * noise[name])


def distances(ours: Trained, theirs: Trained) -> dict[str, float]:
    """How far two trainings are from each other, by numbers that roundings move as little as possible."""
    losses = (ours.losses - theirs.losses).abs()
    return {
        "first losses": losses[:4].max().item(),
        "losses": losses.mean().item(),
        "final": _mean_distance(ours.final, theirs.final),
        "ema": _mean_distance(ours.ema, theirs.ema),
    }


def _mean_distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    return torch.cat([(ours[name] - tensor).abs().flatten() for name, tensor in theirs.items()]).mean().item()


def rounding_noise(golden: Golden, trained: Callable[[GEPA], Trained]) -> dict[str, float]:
    """How far trainings of this recipe end from each other when nothing but roundings differs.

    A training is chaotic: one other rounding of a gradient changes a bfloat16 number of the Newton-Schulz iteration or
    the sign of an Adam update, and grows to 1e-2 within 12 steps. Which roundings a matrix product makes depends on the
    processor, whatever the settings of MKL and PyTorch. So on a processor other than the recording's the distance to it
    is judged by the largest one between trainings whose initial weights differ in their last bits.
    """
    runs = []
    for seed in range(NOISE_RUNS):
        model, generator = golden.model(), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 2**-23 * torch.randint(-1, 2, parameter.shape, generator=generator))
        runs.append(trained(model))
    pairs = [distances(a, b) for a, b in itertools.combinations(runs, 2)]
    return {name: max(pair[name] for pair in pairs) for name in pairs[0]}


def check_gptq(golden: Golden) -> Iterator[Check]:
    """Hessians of all quantised matrices, scales, codes, and the error of the outputs."""
    settings, model = golden.metadata["quant"], golden.model()
    matrices, embedding = (
        GridConfig(
            bits=settings[f"{kind}_bits"],
            symmetric=True,
            clip="sample_deviations",
            deviations=settings[f"{kind}_clip_sigmas"],
            method="gptq",
        )
        for kind in ("matrix", "embed")
    )
    quant = QuantConfig(
        attention=matrices,
        mlp=matrices,
        token_embedding=embedding,
        float_elements=settings["float_elements"],
        control_dtype="float16",
        damping=settings["damping"],
    )
    calibration = golden["calibration"].long()
    measured = hessians(model, calibration, quant)
    theirs = golden.weights("hessians/")
    per_batch = calibration[0].numel()
    ours = {name: measured[name].float() * per_batch for name in measured}
    yield Check("hessians", distance(ours, theirs, relative=True), 1e-4)
    stored = quantise_tensors(golden.weights("weights/"), quant, measured)
    below = "weights/"
    names = [name.removeprefix(below) for name in golden.tensors if name.startswith(below)]
    published = {next(iter(from_published({name: torch.zeros(1)}))): name for name in names}
    scales, floats, least_equal, worst_error = 0.0, 0.0, 1.0, 0.0
    for name, value in stored.items():
        original = published[name]
        if isinstance(value, Tensor):
            floats = max(floats, (value.float() - golden[f"quantised/{original}"].float()).abs().max().item())
            continue
        codes, scale = golden[f"quantised/{original}.q"], golden[f"quantised/{original}.scale"]
        scales = max(scales, (value.scale.float() - scale.float()).abs().max().item())
        least_equal = min(least_equal, (value.codes == codes).double().mean().item())
        weight, hessian = golden.weights("weights/")[name].double(), theirs[name].double()
        lost = dequantise(value).double() - weight
        error = (lost @ hessian * lost).sum() / (weight @ hessian * weight).sum()
        worst_error = max(worst_error, error.item() / golden.metadata["relative_output_error"][original])
    num_quantised = sum(not isinstance(value, Tensor) for value in stored.values())
    yield Check("quantised", abs(len(golden.metadata["relative_output_error"]) - num_quantised), 0)
    yield Check("floats", floats, 0)
    yield Check("scales", scales, 0)
    yield Check("codes that differ", 1 - least_equal, 0.005)
    yield Check("error beside theirs", worst_error, 1.01)


def check_kernels(golden: Golden) -> Iterator[Check]:
    """Quantisers, Newton-Schulz, bigram hash and rotary tables."""
    for index in range(sum(name.startswith("w") for name in golden.tensors)):
        weight = golden[f"w{index}"]
        int8 = quantise(weight, RECORD_INT8)
        codes = (int8.codes.int() - golden[f"ref_int8_q{index}"].int()).abs().max().item()
        yield Check(f"int8_codes{index}", codes, 0)
        scale = (int8.scale.float() - golden[f"ref_int8_scale{index}"].float()).abs().max().item()
        yield Check(f"int8_scale{index}", scale, 0)
        error = (dequantise(quantise(weight, RECORD_INT6)) - weight).square().mean().item()
        yield Check(f"int6_mse{index}", error, golden[f"ref_int6_mse{index}"].item())
    for index in range(sum(name.startswith("ns_in") for name in golden.tensors)):
        ours = orthogonalise(golden[f"ns_in{index}"][None], 5)[0].float()
        yield Check(f"newton_schulz{index}", (ours - golden[f"ns_out{index}"]).abs().max().item(), 2e-2)
    for name in [name for name in golden.tensors if name.startswith("bigram_hash_")]:
        ours = bigram_bucket(golden["bigram_ids"], int(name.rsplit("_", 1)[1]))
        yield Check(name, (ours - golden[name]).abs().max().item(), 0)
    rope = golden.metadata.get("rope", {})
    for name in [name for name in golden.tensors if name.startswith("rope_cos_")]:
        length = int(name.rsplit("_", 1)[1])
        cos, sin = rotary_tables(length, rope["rope_dims"], rope["base"], rope["train_seq_len"])
        yield Check(name, (cos - golden[name]).abs().max().item(), 1e-6)
        yield Check(f"rope_sin_{length}", (sin - golden[f"rope_sin_{length}"]).abs().max().item(), 1e-6)


def check_bytes(golden: Golden, folder: Path) -> Iterator[Check]:
    """The byte tables of the tokenizer beside the file, and the text's bytes."""
    tokens = golden["tokens"].numpy()
    tables = {name: golden[name].numpy() for name in ("base_bytes", "leading_space", "boundary")}
    total = int(ByteTable(*tables.values()).count(tokens[:-1], tokens[1:]).sum())
    yield Check("total_bytes", abs(total - golden.metadata["total_bytes"]), 0)
    yield Check("scored_tokens", abs(len(tokens) - 1 - golden.metadata["scored_tokens"]), 0)
    for tokenizer in folder.glob("*.model"):
        ours = ByteTable.of_tokenizer(tokenizer)
        for name, mine in (
            ("base_bytes", ours.base),
            ("leading_space", ours.leading_space),
            ("boundary", ours.boundary),
        ):
            wrong = float((mine != tables[name]).sum()) if len(mine) == len(tables[name]) else math.inf
            yield Check(f"{name} of {tokenizer.name}", wrong, 0)


def check_names(golden: Golden) -> Iterator[Check]:
    """Published names survive the way to the project's and back."""
    published = {n.removeprefix("weights/"): t for n, t in golden.tensors.items() if n.startswith("weights/")}
    back = to_published(from_published(published))
    wrong = len(set(back) ^ set(published))
    yield Check("names", wrong or distance(back, published), 0)


def checks(path: Path) -> Iterator[Check]:
    """All checks that the file allows."""
    golden = Golden(path)
    if any(name.startswith("weights/") for name in golden.tensors):
        yield from check_names(golden)
    if "logits" in golden:
        yield from check_forward(golden)
    elif "ttt_nll" in golden:
        yield from check_ttt(golden)
    elif "losses" in golden:
        yield from check_train(golden)
    elif "calibration" in golden:
        yield from check_gptq(golden)
    elif "w0" in golden:
        yield from check_kernels(golden)
    elif "base_bytes" in golden:
        yield from check_bytes(golden, path.parent)
    else:
        raise ValueError(f"{path}: not a file of golden numbers of a known kind")


def main(names: list[str]) -> int:
    """Print a line per check; 1 if any failed."""
    if not names:
        print("usage: python tests/golden.py FILE...", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        for check in checks(Path(name)):
            holds = check.difference <= check.limit
            failed += not holds
            verdict = "ok" if holds else "FAIL"
            print(f"{Path(name).name:32s} {check.name:40s} {check.difference:10.3e} {check.limit:10.3e} {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in KERNELS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KERNELS)
    torch.backends.mkldnn.set_flags(False)
    sys.exit(main(sys.argv[1:]))

"""What was trained and how, in Markdown, from the configuration alone: model, training, quantisation, evaluation.

A configuration enters, sections leave. Nothing here knows a result.
"""

from golf.config.config import GridConfig, ModelConfig, RunConfig
from golf.config.schedule import make_plan
from golf.model.gepa import count_parameters
from golf.submission.markdown import table, whole

GROUPS = {"attention": "attention", "mlp": "MLP", "token_embedding": "token embedding", "tables": "other tables"}
"""Tensor groups that have a grid of their own."""


def blurb(config: RunConfig) -> str:
    """The recipe in one line."""
    model, quant = config.model, config.quant
    bits = "/".join(dict.fromkeys(f"int{getattr(quant, group).bits}" for group in GROUPS))
    adapted = "" if config.ttt is None else " + score-first test-time training"
    return (
        f"{model.num_layers}-layer GEPA of width {model.model_dim}, {count_parameters(model):,} parameters, "
        f"{config.schedule.steps:,} steps, {bits} with {quant.codec}, sliding windows of stride {config.score.stride}"
        f"{adapted}"
    )


def architecture(config: RunConfig) -> str:
    """The model."""
    model = config.model
    encoder = model.num_layers // 2
    rows = [
        ["parameters", f"{count_parameters(model):,}"],
        [
            "layers",
            f"{model.num_layers}: {encoder} encoder and {model.num_layers - encoder} decoder blocks, with skips",
        ],
        ["width", f"{model.model_dim}"],
        ["heads", f"{model.num_heads} for queries, {model.num_kv_heads} for keys and values, {model.head_dim} wide"],
        ["MLP", f"{model.mlp_hidden} wide, Star-ReLU"],
        ["vocabulary", f"{model.vocab_size:,}; tied embedding; logits capped at {model.logit_softcap:g} by tanh"],
        ["rotary", f"{model.rope_dims} of {model.head_dim} dimensions, base {model.rope_base:g}{_stretched(config)}"],
        ["smear gate", "mixes each token with the one before it, by channel"],
        ["bigram table", _bigram(model)],
        ["value embedding", _value(model)],
        ["exclusive self attention", f"on the last {model.xsa_layers} layers" if model.xsa_layers else "none"],
        ["input of a block", "RMS-normalised" + ", times 1 / sqrt(layer + 1)" * model.depth_scaled_norm],
    ]
    return table(["", "model"], rows, (0, 1))


def _stretched(config: RunConfig) -> str:
    train = config.model.rope_train_length
    longest = max(config.batch.sequence_length, config.score.sequence_length)
    return f", stretched (NTK) for sequences longer than {train:,} tokens" if longest > train else ""


def _bigram(model: ModelConfig) -> str:
    if model.bigram_buckets is None:
        return "none"
    return f"{model.bigram_buckets:,} hashed buckets of {model.bigram_dim}, projected to the width"


def _value(model: ModelConfig) -> str:
    if model.value_dim is None or not model.value_layers:
        return "none"
    return (
        f"{model.value_dim} wide, projected to the values of layers {', '.join(map(str, model.value_layers))} (from 0)"
    )


def training(config: RunConfig) -> str:
    """Schedule, optimisers, average and QAT."""
    schedule, optimizer, batch = config.schedule, config.optimizer, config.batch
    rates = f"matrices {optimizer.matrix_lr:g}, vectors and tables {optimizer.scalar_lr:g}"
    rows = [
        ["steps", f"{schedule.steps:,} of {batch.tokens_per_step:,} tokens, in sequences of {batch.sequence_length:,}"],
        ["tokens", f"{schedule.steps * batch.tokens_per_step:,}"],
        ["optimisers", f"Muon (Newton-Schulz, {optimizer.newton_schulz_steps} steps) for matrices, AdamW for the rest"],
        ["learning rates", f"{rates}, token embedding {optimizer.embedding_lr:g}"],
        ["decoder blocks", f"learning rates times {optimizer.decoder_lr_multiplier:g}"],
        [
            "warmdown",
            f"from step {schedule.warmdown_start:,} to 0 after the last, {schedule.warmdown_shape}",
        ],
        ["Muon's momentum", _momentum(config)],
        ["AdamW", f"betas {optimizer.beta1:g} and {optimizer.beta2:g}, epsilon {optimizer.epsilon:g}"],
        ["weight decay", f"{optimizer.weight_decay:g}, decoupled, both optimisers"],
        ["gradient clip", f"{optimizer.gradient_clip:g}, global norm"],
        ["average", _average(config)],
        ["QAT", _qat(config)],
        ["seed", "sets the initial weights; all seeds read the same batches in the same order"],
    ]
    return table(["", "training"], rows, (0, 1))


def _momentum(config: RunConfig) -> str:
    schedule = config.schedule
    start, end = f"{schedule.momentum_start:g}", f"{schedule.momentum_end:g}"
    return f"{start} to {end} over {schedule.momentum_steps:,} steps" if start != end else start


def _average(config: RunConfig) -> str:
    schedule = config.schedule
    if schedule.averaging == "none":
        return "none; the last weights are quantised"
    if schedule.averaging == "ema":
        return f"exponential (EMA), decay {schedule.ema_decay:g} a step; the averaged weights are quantised"
    return f"of every {schedule.swa_every:,}th step of the last half (SWA); the averaged weights are quantised"


def _qat(config: RunConfig) -> str:
    threshold = config.schedule.qat_threshold
    if threshold is None:
        return "none"
    first = next((step for step, row in enumerate(make_plan(config.schedule)) if row.qat), None)
    when = f"from step {first:,} on" if first is not None else "never reached"
    return f"linear layers to int6 by row, once the learning rate is below {threshold:g} of its peak: {when}"


def quantisation(config: RunConfig) -> str:
    """The grids of the tensor groups, and the codec."""
    quant = config.quant
    rows = [_grid_row(title, getattr(quant, group)) for group, title in GROUPS.items()]
    grids = table(["tensors", "bits", "scales", "clip", "codes"], rows, (0, 2, 3, 4))
    level = "strongest level" if quant.level is None else f"level {quant.level}"
    codec = "rANS under a model of rows and columns" if quant.codec == "rans" else quant.codec
    kept = (
        f"Tensors of at most {quant.float_elements:,} elements stay floating point: control tensors "
        f"{quant.control_dtype}, others {quant.other_dtype}. Codec: {codec}, {level}."
    )
    if quant.calibrated:
        kept += f" GPTQ is calibrated on {quant.calibration_tokens:,} tokens of the training shards."
    return f"{grids}\n\n{kept}"


def _grid_row(title: str, grid: GridConfig) -> list[str]:
    if grid.clip == "deviations":
        clip = f"{grid.deviations:g} standard deviations"
    elif grid.percentiles == (1.0,):
        clip = "largest magnitude"
    else:
        clip = f"best of {len(grid.percentiles)} percentiles from {min(grid.percentiles):g}"
    scales = ("one a row" if grid.per_row else "one a tensor") + (
        f", at least {grid.scale_floor:.4g}" if grid.scale_floor is not None else ""
    )
    return [title, str(grid.bits), scales, clip, "GPTQ" if grid.method == "gptq" else "nearest"]


def evaluation(config: RunConfig) -> str:
    """Windows and test-time training."""
    score, ttt = config.score, config.ttt
    windows = (
        f"Windows of {score.sequence_length:,} tokens with stride {score.stride:,} over the whole validation stream: "
        "the first scores all its tokens, each further one those that none before it scored, so that every token is "
        "scored exactly once."
    )
    if ttt is None:
        return f"{windows} There is no test-time training."
    rate = f"learning rate {ttt.lr:g}, falling as a cosine to 0 over the chunks"
    if ttt.warmup_fraction:
        rate += f" after a linear rise over the first {ttt.warmup_fraction:.0%} of them"
    blocks = "block is" if ttt.frozen_blocks == 1 else f"{ttt.frozen_blocks} blocks are"
    frozen = f"; the first {blocks} frozen" if ttt.frozen_blocks else ""
    momentum = f", momentum {ttt.momentum:g} carried over the chunks" if ttt.optimizer == "sgd" else ""
    name = {"sgd": "SGD", "adamw": "AdamW"}[ttt.optimizer]
    passes = "1 pass" if ttt.epochs == 1 else f"{ttt.epochs} passes"
    return (
        f"{windows}\n\nTest-time training (TTT) is score-first: a chunk of {score.chunk_tokens:,} tokens is scored, "
        f"and only then trained on, for {passes}; the last chunk is scored and not trained on. {name}, {rate}"
        f"{momentum}, gradient clip {ttt.gradient_clip:g}, {ttt.batch_sequences} sequences an update{frozen}, "
        f"so that {whole(count_parameters(config.model, ttt.frozen_blocks))} parameters are trained."
        + (" Weights are fake-quantised while adapting." if ttt.qat else "")
    )

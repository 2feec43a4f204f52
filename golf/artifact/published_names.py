"""Parameters to and from the names of the published checkpoints of the PR #598 and PR #1493 families.

Values are never changed. Errors describe what a file holds beside or instead of a model of this family in the file's
own names.

| ours | published |
|---|---|
| token_embedding.weight | tok_emb.weight |
| bigram.{table,projection}.weight, bigram.scale | bigram_emb.{embed,proj}.weight, bigram_emb.scale |
| value.{table,projection}.weight, value.scale | ve_shared.{embed,proj}.weight, ve_shared.scale |
| value.layer_scales.j | ve_layer_scales.j |
| smear.gate, skip_weights, skip_gates | smear_gate.gate, skip_weights, skip_gates |
| blocks.i.attention.{query,key,value,output}.weight, .query_gain | blocks.i.attn.{c_q,c_k,c_v,proj}.weight, .q_gain |
| blocks.i.mlp.{up,down}.weight, .scale, .bias | blocks.i.mlp.{up_proj,down_proj}.weight, .scale, .bias |
| the same without scale and bias (PR #1493) | blocks.i.mlp.{fc,proj}.weight |
| embedding_in.weight, embedding_out.weight (PR #1394) | embed_proj.weight, head_proj.weight |
| input_smear.gate, input_smear.scale (PR #1851) | smear_gate.weight, smear_lambda |
| blocks.i.attention.gate (PR #1787) | blocks.i.attn.attn_gate_w |
| blocks.i.{attention_scale,mlp_scale,residual_mix} | blocks.i.{attn_scale,mlp_scale,resid_mix} |
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from golf.artifact.correction import restore
from golf.artifact.published_file import LARGEST_BYTES, load_model_file
from golf.artifact.quantizer import Quantised
from golf.config.config import AttentionGateConfig, InputSmearConfig, ModelConfig
from golf.model.gepa import GEPA

G = TypeVar("G", InputSmearConfig, AttentionGateConfig)

WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts that torch.compile, DistributedDataParallel and the like put into names."""
_MOST_NAMES = 5
"""Names that one sentence lists at most."""

_PAIRS = [
    ("token_embedding.weight", "tok_emb.weight"),
    ("bigram.table.", "bigram_emb.embed."),
    ("bigram.projection.", "bigram_emb.proj."),
    ("bigram.scale", "bigram_emb.scale"),
    ("value.table.", "ve_shared.embed."),
    ("value.projection.", "ve_shared.proj."),
    ("value.scale", "ve_shared.scale"),
    ("value.layer_scales.", "ve_layer_scales."),
    ("input_smear.gate", "smear_gate.weight"),
    ("input_smear.scale", "smear_lambda"),
    ("smear.gate", "smear_gate.gate"),
    (".attention.gate", ".attn.attn_gate_w"),
    (".attention.query.", ".attn.c_q."),
    (".attention.key.", ".attn.c_k."),
    (".attention.value.", ".attn.c_v."),
    (".attention.output.", ".attn.proj."),
    (".attention.query_gain", ".attn.q_gain"),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
    (".attention_scale", ".attn_scale"),
    (".residual_mix", ".resid_mix"),
]
_APRIL_PAIRS = [
    (".mlp.up.", ".mlp.fc."),
    (".mlp.down.", ".mlp.proj."),
    ("embedding_in.", "embed_proj."),
    ("embedding_out.", "head_proj."),
    *(pair for pair in _PAIRS if ".mlp." not in pair[0]),
]
"""Names of the PR #1493 family, whose MLP has no scale and no bias."""
_TO_GEPA = [(theirs, ours) for ours, theirs in _PAIRS]
_TO_OURS = [(theirs, ours) for ours, theirs in [*_PAIRS, *_APRIL_PAIRS[:4]]]


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the project's names for a state dictionary under the published names; values unchanged, float32."""
    return {_rename(name, _TO_OURS): tensor.float() for name, tensor in weights.items()}


def to_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the published names for a state dictionary under the project's; the inverse of `from_published`."""
    is_star = any(name.endswith(".mlp.scale") for name in weights)
    pairs = _PAIRS if is_star or not any(".mlp." in name for name in weights) else _APRIL_PAIRS
    return {_rename(name, pairs): tensor for name, tensor in weights.items()}


def _rename(name: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def infer_model(weights: Mapping[str, Tensor], base: ModelConfig) -> ModelConfig:
    """Returns the shape of a model from its weights under the project's names.

    What shapes do not tell (rotary settings, softcap, XSA layers, where the loop is) is taken from `base`; the value
    embedding is taken to be on the last layers.
    Raises: ValueError when the weights are not those of such a model, or have another number of skips than it.
    """
    try:
        vocab_size, embedding_dim = weights["token_embedding.weight"].shape
        model_dim = weights["blocks.0.attention.query.weight"].shape[0]
        num_heads = weights["blocks.0.attention.query_gain"].numel()
        kv_width = weights["blocks.0.attention.key.weight"].shape[0]
        mlp_hidden = weights["blocks.0.mlp.up.weight"].shape[0]
        num_skips = len(weights["skip_weights"])
        num_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        bigram, value = weights.get("bigram.table.weight"), weights.get("value.table.weight")
        widths = [None if table is None else table.shape[1] for table in (bigram, value)]
    except KeyError as error:
        raise ValueError(f"not the weights of a GEPA model: {error} is missing") from error
    except (ValueError, IndexError) as error:
        raise ValueError(f"not the weights of a GEPA model: a name or shape is wrong ({error})") from error
    num_values = sum(name.startswith("value.layer_scales.") for name in weights)
    plain = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return ModelConfig(
        **plain
        | {
            "vocab_size": vocab_size,
            "num_layers": num_layers,
            "model_dim": model_dim,
            "num_heads": num_heads,
            "num_kv_heads": kv_width * num_heads // model_dim,
            "mlp_hidden": mlp_hidden,
            "bigram_buckets": None if bigram is None else bigram.shape[0],
            "bigram_dim": base.bigram_dim if bigram is None else widths[0],
            "value_dim": widths[1],
            "value_layers": tuple(range(num_layers - num_values, num_layers)),
            "xsa_layers": min(base.xsa_layers, num_layers),
            "activation": "star_relu" if "blocks.0.mlp.scale" in weights else "leaky_relu_squared",
            "embedding_dim": embedding_dim if "embedding_in.weight" in weights else None,
            "smear_gate": "smear.gate" in weights,
            "input_smear": _gate(weights, "input_smear.gate", base.input_smear or InputSmearConfig()),
            "attention_gate": _gate(weights, "blocks.0.attention.gate", base.attention_gate or AttentionGateConfig()),
            "skips": base.skips if "skip_gates" in weights else "added",
            "parallel_from": base.parallel_from if (base.parallel_from or 0) <= num_layers else None,
            "loop": None if num_skips == num_layers // 2 else base.loop,
        }
    )


def _gate(weights: Mapping[str, Tensor], name: str, base: G) -> G | None:
    """Returns the configuration of a gate with as many channels as its weights read; None where it has none."""
    return replace(base, channels=weights[name].shape[1]) if name in weights else None


@dataclass(frozen=True)
class Published:
    """The content of a published file."""

    values: Mapping[str, Quantised | Tensor]
    """Quantised matrices, float16 and float32 tensors, under the published names. Codes that are no int8 matrix, or
    whose scales are no float16 numbers, are float32 tensors of the same values."""
    wrappers: tuple[str, ...] = ()
    """Those of WRAPPERS that were removed from the names."""

    @property
    def ours(self) -> dict[str, Quantised | Tensor]:
        """The same under the project's names."""
        return {_rename(name, _TO_OURS): value for name, value in self.values.items()}


def read_published(path: Path) -> dict[str, Tensor]:
    """Returns the weights in a published `final_model.pt` or `final_model.int6.ptz`, under the project's names.

    Returns: float32 tensors; quantised ones dequantised. Nothing in the file is executed.
    Raises: ValueError naming the file when it is neither, is damaged or holds more than plain tensors.
    """
    stored = read_published_file(path).ours
    return restore(stored)


def read_published_file(path: Path) -> Published:
    """Returns the same as `read_published`, with codes and scales as they are where an artifact can hold them."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than the {LARGEST_BYTES:,} that are read")
    try:
        named = _named_values(load_model_file(path.read_bytes()))
        values = {_unwrapped(name): _stored(name, value) for name, value in named.items()}
        if len(values) < len(named):
            raise ValueError(f"it holds several tensors of one name, once without {' and '.join(WRAPPERS)}")
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a published checkpoint of the PR #598 family: {error}") from error
    wrappers = [part for part in WRAPPERS if any(part in name.split(".") for name in named)]
    return Published(values, tuple(wrappers))


def _unwrapped(name: str) -> str:
    """Returns a name without the parts of WRAPPERS."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _named_values(loaded: Any) -> Mapping[str, Quantised | Tensor]:
    """Returns the tensors of a loaded file by name. Raises: ValueError that says what it holds instead."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")
    if "__quant_format__" in loaded:
        form = _shown(loaded["__quant_format__"])
        whose = "int8 container of the baseline" if form.startswith("int8") else "quantised container"
        raise ValueError(f"{whose} (__quant_format__ {form}): not supported")
    if {"quantized", "scales", "passthrough"} <= loaded.keys():
        raise ValueError("int8 container of the baseline (quantized, scales, passthrough): not supported")
    if {"w", "m"} <= loaded.keys():
        others = [_shown(name) for name in loaded if name not in ("w", "m")]
        if others:
            raise ValueError(f"holds {_listed(others)} beside the codes and their kinds (w, m): not supported")
        named = _published_codes(loaded["w"], loaded["m"])
    elif loaded and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()):
        named = dict(loaded)
    else:
        raise ValueError(_describe_entries(loaded))
    elements = sum(value.codes.numel() if isinstance(value, Quantised) else value.numel() for value in named.values())
    if elements > LARGEST_BYTES // 4:
        raise ValueError(f"its tensors have {elements:,} elements, more than the {LARGEST_BYTES // 4:,} that are read")
    return named


def _describe_entries(loaded: Mapping[Any, Any]) -> str:
    """Returns what a dictionary holds that is more, or something else, than named tensors."""
    if not loaded:
        return "it is empty"
    weights = [_shown(name) for name, value in loaded.items() if _is_weights(value)]
    if weights:
        return f"holds {_listed(map(_shown, loaded))}: give the weights alone (the entry {' or '.join(weights)})"
    kinds = {name: type(value).__name__ for name, value in loaded.items() if not isinstance(value, Tensor)}
    others = [f"{_shown(name)} ({kind})" for name, kind in kinds.items()]
    return f"holds more than named tensors: {_listed(others or map(_shown, loaded))}"


def _is_weights(value: Any) -> bool:
    """Returns whether a value is a dictionary of named tensors, some of them matrices."""
    tensors = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
    return tensors and any(tensor.ndim == 2 for tensor in value.values())


def _shown(value: Any) -> str:
    """Returns a name of a file as text that is harmless on a terminal."""
    text = str(value)[:80] if isinstance(value, (str, int)) else type(value).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _listed(names: Iterable[str]) -> str:
    """Returns names in one line; of many, the first few."""
    every = list(names)
    more = len(every) - _MOST_NAMES
    return ", ".join(every[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _stored(name: str, value: Quantised | Tensor) -> Quantised | Tensor:
    """Returns codes and float16 as they are, every other tensor as float32. Raises: ValueError for anything else."""
    if isinstance(value, Quantised):
        return value
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
        raise ValueError(f"{_shown(name)} is no plain tensor of real numbers")
    return value.detach() if value.dtype == torch.float16 else value.detach().float()


def _published_codes(stored: Mapping[str, Tensor], kinds: Mapping[str, Any]) -> dict[str, Quantised | Tensor]:
    """Returns codes `name.q` with scales `name.scale` (one per row or one), or the tensor as it is.

    `kinds` names them differently from record to record; which tensors there are decides.
    """
    if not isinstance(stored, Mapping) or not isinstance(kinds, Mapping) or not all(isinstance(n, str) for n in kinds):
        raise ValueError("its parts w and m are not named tensors and their kinds")
    tensors: dict[str, Quantised | Tensor] = {}
    for name in kinds:
        if name in stored:
            tensors[name] = stored[name].detach()
            continue
        missing = [part for part in (f"{name}.q", f"{name}.scale") if part not in stored]
        if missing:
            raise ValueError(f"neither {_shown(name)} nor {_shown(missing[0])} is among its tensors (w)")
        codes, scale = stored[name + ".q"], stored[name + ".scale"]
        exact = codes.ndim == 2 and codes.dtype == torch.int8 and tuple(scale.shape) in ((), (len(codes),))
        if exact and torch.equal(scale.half().float(), scale.float()):
            tensors[name] = Quantised(codes, scale.half())
        else:
            steps = scale.float()
            tensors[name] = codes.float() * (steps.view(-1, *[1] * (codes.ndim - 1)) if steps.ndim else steps)
    return tensors


def in_published_names(message: str) -> str:
    """Returns a message about parameters of the project under their published names."""
    return _rename(message, _PAIRS)


def foreign_parts(names: Iterable[str]) -> list[str]:
    """Returns what is missing, or not of this family, among the published names of a model's weights."""
    names = list(names)
    april = is_april(names)
    own, pairs = {_kind(name) for name in _family(april)}, _TO_OURS if april else _TO_GEPA
    optional = {kind for kind in own if kind.startswith(("bigram.", "value.", "embedding_", "input_smear."))}
    optional.add("blocks.*.attention.gate")
    unknown: dict[str, list[str]] = {}
    kinds = set()
    for name in names:
        kind = _kind(_rename(name, pairs))
        kinds.add(kind)
        if kind not in own:
            unknown.setdefault(kind, []).append(_shown(name))
    missing = own - kinds - optional
    parts = []
    banks = [kind for kind in unknown if kind.endswith("_bank")]
    if banks:
        parts.append(f"{', '.join(map(_shown, banks))}: stacked weights")
        missing = {kind for kind in missing if not re.fullmatch(r"blocks\.\*\.(attention|mlp)\..*\.weight", kind)}
    mlp = [kind for kind in unknown if re.fullmatch(r"blocks\.\*\.mlp\.\w+\.weight", kind)]
    plain = {"blocks.*.mlp.scale", "blocks.*.mlp.bias"} <= missing
    if plain and (mlp or not banks):
        matrices = [kind.split(".")[3] for kind in mlp] or ["up_proj", "down_proj"]
        form = "relu^2 or leaky-relu^2 MLP" if len(matrices) < 3 else "gated MLP"
        parts.append(f"{' / '.join(f'mlp.{_shown(name)}' for name in matrices)} without scale and bias: {form}")
    if plain:
        missing = {kind for kind in missing if not kind.startswith("blocks.*.mlp.")}
    others = [_of_blocks(every) for kind, every in unknown.items() if kind not in (*banks, *(mlp if plain else ()))]
    if others:
        parts.append(f"{_listed(others)} {'is' if len(others) == 1 else 'are'} not part of the model")
    if missing:
        absent = [in_published_names(kind) for kind in sorted(missing)]
        parts.append(f"{_listed(absent)} {'is' if len(absent) == 1 else 'are'} missing")
    return parts


def is_april(names: Iterable[str]) -> bool:
    """Returns whether published names are those of the PR #1493 family: gated skips and a plain MLP."""
    kinds = {_kind(name) for name in names}
    return {"skip_gates", "blocks.*.mlp.fc.weight"} <= kinds and not {"smear_gate.gate", "blocks.*.mlp.scale"} & kinds


def _family(april: bool) -> list[str]:
    """Returns the names of all parameters that a model of the family may have."""
    config = ModelConfig()
    if april:
        config = ModelConfig(
            bigram_buckets=None,
            value_dim=None,
            value_layers=(),
            smear_gate=False,
            activation="leaky_relu_squared",
            embedding_dim=64,
            input_smear=InputSmearConfig(),
            attention_gate=AttentionGateConfig(),
        )
    with torch.device("meta"):
        return [name for name, _ in GEPA(config).named_parameters()]


def _kind(name: str) -> str:
    """Returns a name without the numbers of its block and of value.layer_scales."""
    return re.sub(r"^(blocks|value\.layer_scales)\.\d+", r"\1.*", name)


def _of_blocks(names: list[str]) -> str:
    """Returns one name for several blocks, and their number."""
    return names[0] if len(names) == 1 else f"{names[0]} (and the same of {len(names) - 1} more blocks)"

"""Whether bfloat16 or int8 products would make scoring on this CPU faster, and what they would do to its numbers.

    python -m benchmarks.reduced_precision [--quick] [--run FOLDER_OF_A_RUN --data FOLDER]

Three tables: single matrix products at the record's sizes, attention at the record's shape, and the sliding windows of
the record's model (random weights). All in float32 and beside it in bfloat16 and in int8, in turns in one run. int8
means weights with a scale for each row, rounded once, and inputs with one scale, rounded at each product. With a run of
the demo the error of int8 in bits per byte is told for its trained weights. The last line is one JSON object.
"""

import argparse
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.evaluators import Ours
from benchmarks.scoring import random_model, random_tokens
from benchmarks.side_by_side import Timed, time_in_turns
from golf.artifact.pack import read_artifact
from golf.config.presets import PRESETS
from golf.data.dataset import open_dataset
from golf.evaluate.sliding import validation_stream
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup, device_name

SIZES = ((2048, 512, 1536), (2048, 1536, 512), (2048, 512, 512))
"""(positions, inputs, outputs) of the products in a window of the record's model."""
CPU = torch.device("cpu")


class Int8Products(TorchFunctionMode):
    """Within the block, `F.linear` on float32 matrices of at least 64 rows computes in int8."""

    def __init__(self) -> None:
        super().__init__()
        self._packed: dict[int, tuple[Tensor, Any]] = {}
        """By the weight's id: the weight, so that the id stays its own, and what the product takes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Computes `F.linear` otherwise, all else as it is."""
        if func is not F.linear or len(args) > 2 or min(args[1].shape) < 64:
            return func(*args, **(kwargs or {}))
        x, weight = args
        if id(weight) not in self._packed:
            self._packed[id(weight)] = weight, packed_int8(weight)
        return torch.ops.quantized.linear_dynamic(x, self._packed[id(weight)][1], False)


def packed_int8(weight_OI: Tensor) -> Any:
    """Returns a weight with int8 codes and a scale for each row, laid out for torch's int8 product."""
    scale_O = (weight_OI.abs().amax(dim=1) / 127).clamp(min=1e-12)
    codes = torch.quantize_per_channel(
        weight_OI, scale_O.double(), torch.zeros(len(weight_OI), dtype=torch.int64), 0, torch.qint8
    )
    return torch.ops.quantized.linear_prepack(codes, None)


def compare(what: str, work: Mapping[str, Callable[[], Tensor]], turns: int) -> dict[str, dict[str, float]]:
    """Times pieces of work in turns, printing a line for each. Returns: ratio to float32 and relative error of each."""
    for run in work.values():
        run()
    timed: Timed[Tensor] = time_in_turns(work, turns, CPU)
    exact, told = timed.results["float32"], {}
    for name, result in timed.results.items():
        error = float((result.float() - exact).abs().mean() / exact.abs().mean())
        told[name] = {"faster": timed.ratio("float32", name), "error": error}
        print(f"{what:28s} {name:9s} {1000 * timed.median(name):9.1f} ms {told[name]['faster']:6.2f}x   {error:.1e}")
    return told


def products(turns: int) -> dict[str, Any]:
    """Single products."""
    found = {}
    for positions, inputs, outputs in SIZES:
        x, weight = torch.randn(positions, inputs), torch.randn(outputs, inputs)
        half_x, half_weight, packed = x.bfloat16(), weight.bfloat16(), packed_int8(weight)
        work = {
            "float32": partial(F.linear, x, weight),
            "bfloat16": partial(F.linear, half_x, half_weight),
            "int8": partial(torch.ops.quantized.linear_dynamic, x, packed, False),
        }
        found[f"{positions}x{inputs}x{outputs}"] = compare(f"{positions} x {inputs} x {outputs}", work, 4 * turns)
    return found


def attention(turns: int) -> dict[str, Any]:
    """Attention of two windows."""
    shape = PRESETS["pr598"].model
    q = torch.randn(2, shape.num_heads, 2048, shape.model_dim // shape.num_heads)
    k = torch.randn(2, shape.num_kv_heads, 2048, q.shape[-1])

    def attend(dtype: torch.dtype) -> Tensor:
        key = k.to(dtype)
        return F.scaled_dot_product_attention(q.to(dtype), key, key, is_causal=True, enable_gqa=True)

    return compare(
        "attention, 2 windows", {str(t)[6:]: partial(attend, t) for t in (torch.float32, torch.bfloat16)}, turns
    )


def scoring(windows: int, turns: int) -> dict[str, Any]:
    """Windows of the record's model."""
    config = PRESETS["pr598"]
    model, length = random_model(config, CPU), config.score.sequence_length
    tokens = random_tokens(length + config.score.stride * (windows - 1), config.model.vocab_size)
    return compare(f"{windows} windows, pr598", scorers(model, tokens, length, config.score.stride), turns)


def scorers(model: GEPA, tokens: Tensor, length: int, stride: int) -> dict[str, Callable[[], Tensor]]:
    """Returns the evaluator with float32 products and with int8 products."""
    exact = partial(Ours(False).score, model, tokens, length, stride)

    def rounded() -> Tensor:
        with Int8Products():
            return exact()

    return {"float32": exact, "int8": rounded}


def trained_error(run: Path, data: Path) -> float:
    """Returns how many bits per byte int8 products add to the score of a run's artifact, whose preset is the demo."""
    shape, tensors = read_artifact(run / "artifact.golf")
    model, score = GEPA(shape), PRESETS["demo"].score
    model.load_state_dict(tensors)
    stream = validation_stream(open_dataset(data), ProcessGroup(device=CPU))
    nll = {name: run() for name, run in scorers(model, stream.tokens, score.sequence_length, score.stride).items()}
    bits = float((nll["int8"] - nll["float32"]).sum()) / math.log(2) / int(stream.target_bytes.sum())
    print(f"int8 products add {bits:+.5f} BPB to the sliding score of {run.name}")
    return bits


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns and windows: a minute on 2 cores")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (all)")
    parser.add_argument("--run", type=Path, help="folder of a run of the demo's shape, with its artifact.golf")
    parser.add_argument("--data", type=Path, help="folder of its data")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")  # torch names its int8 products' successor, which needs another package
    turns = 2 if given.quick else 5
    with torch.no_grad():
        told = {"products": products(turns), "attention": attention(turns)}
        told["scoring"] = scoring(4 if given.quick else 16, turns)
        bits = trained_error(given.run, given.data) if given.run else None
    capabilities = sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True)
    has = [name for name in capabilities if "bf16" in name or "amx" in name or "vnni" in name]
    print(
        json.dumps({"int8_adds_bpb": bits, "device": device_name(CPU), "torch": torch.__version__, "has": has} | told)
    )


if __name__ == "__main__":
    main()

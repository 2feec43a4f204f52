"""Sliding-window scoring against the plain evaluator, and against anybody else's, side by side in one run.

    python -m benchmarks.scoring [--quick] [--compile] [--peer MODULE.py]

The same random weights and tokens at the shapes of the demo and of the public record; both evaluators use the same
model. Prints a table, what the device's own rate of matrix products would allow, and last one JSON object: `ratio`
(the smallest over the shapes of the plain evaluator's seconds to ours) and `largest_difference` (of any target's NLL
in nats). Needs golf and torch only.
"""

import argparse
import json
import os
from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import evaluators
from benchmarks.side_by_side import matrix_rate, time_in_turns
from golf.config.config import RunConfig
from golf.config.presets import PRESETS
from golf.model.compile import activation_dtype
from golf.model.gepa import GEPA, build_model
from golf.runtime.process_group import device_name, pick_device

SHAPES = {"demo": "demo", "record": "pr598"}
RECORD_TARGETS = 62_021_632
"""Scored tokens of the validation split (PR #598)."""


def random_model(config: RunConfig, device: torch.device) -> GEPA:
    """A model whose every part does something: trained-like sizes, nothing left at zero."""
    model = build_model(config.model, 1, activation_dtype(device))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.to(device)


def random_tokens(count: int, vocab_size: int) -> Tensor:
    """Ids of `count` targets and the one before, int64 (count + 1,)."""
    return torch.randint(0, vocab_size, (count + 1,), generator=torch.Generator().manual_seed(3))


def needed_operations(config: RunConfig) -> float:
    """Arithmetic of the matrix products of a window: of its last block only keys and values where nothing is scored."""
    length, stride, shape = config.score.sequence_length, config.score.stride, config.model
    with torch.device("meta"):
        named = dict(GEPA(shape).named_parameters())
    sizes = {name: p.numel() for name, p in named.items() if p.ndim == 2 and not name.endswith("table.weight")}
    last = f"blocks.{shape.num_layers - 1}."
    spared = [name for name in sizes if name.startswith(last) and ".key." not in name and ".value." not in name]
    scored_only = sum(sizes[name] for name in [*spared, "token_embedding.weight"]) + shape.model_dim * length
    everywhere = sum(sizes.values()) + shape.num_layers * shape.model_dim * length - scored_only
    return 2.0 * (length * everywhere + stride * scored_only)


def parse(what: str, turns: int) -> argparse.Namespace:
    """The arguments of this benchmark, of `ttt` and, but for the peer, of `train_step`."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns and windows: at most 3 minutes on 2 cores")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--turns", type=int, default=turns, help=f"times that each is timed ({turns})")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads on a CPU (all)")
    parser.add_argument("--compile", action="store_true", help="compile ours on a CPU, too; on a GPU it always is")
    parser.add_argument(
        "--peer", type=Path, help="a file with an evaluator; benchmarks/evaluators.py says what it must be"
    )
    parser.add_argument("--json", type=Path, help="write the last object to this file as well")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    return parsed


def is_slow(shape: str, device: torch.device) -> bool:
    """Whether the shape has to be timed on less, once, and without a turn before."""
    return shape == "record" and device.type == "cpu"


def to_warm(work: Mapping[str, object], slow: bool, compiled: bool) -> Container[str]:
    """All of them; of slow ones only ours, and that only where it is compiled."""
    return work if not slow else ("ours",) if compiled else ()


def compare(
    shape: str,
    work: dict[str, Callable[[], Tensor]],
    turns: int,
    device: torch.device,
    unit: str,
    units: float,
    warm: Container[str],
) -> dict[str, Any]:
    """Time the evaluators, print a line for each, and give the shape's part of the last object.

    Args: warm: those that run once before, since a first pass compiles, allocates and tunes.
    """
    for name, run in work.items():
        if name in warm:
            run()
    timed = time_in_turns(work, turns, device)
    expected = timed.results["plain"]
    told: dict[str, Any] = {}
    for name, nll in timed.results.items():
        difference = (nll - expected).abs()
        if not bool(torch.isfinite(nll).all()):
            raise SystemExit(f"{shape}: {name} left {int((~torch.isfinite(nll)).sum())} targets without a number")
        told[name] = {
            f"seconds_per_{unit}": timed.median(name) / units,
            "ratio": timed.ratio("plain", name),
            "largest_difference": float(difference.max()),
            "mean_difference": abs(float((nll - expected).mean())),
        }
        row = told[name]
        print(
            f"{shape:8s} {name:8s} {1000 * row[f'seconds_per_{unit}']:10.2f} ms/{unit}  {row['ratio']:6.2f}x plain"
            f"   NLL differs by at most {row['largest_difference']:.1e}, on average {row['mean_difference']:.1e} nats",
            flush=True,
        )
    return {**told, "ratio": told["ours"]["ratio"], "largest_difference": told["ours"]["largest_difference"]}


def finish(shapes: dict[str, dict[str, Any]], device: torch.device, json_file: Path | None) -> None:
    """Print the last object."""
    last = {
        "ratio": min(told["ratio"] for told in shapes.values()),
        "largest_difference": max(told["largest_difference"] for told in shapes.values()),
        "device": device_name(device),
        "torch": torch.__version__,
        "shapes": shapes,
    }
    if json_file is not None:
        json_file.write_text(json.dumps(last, indent=1) + "\n")
    print(json.dumps(last))


def main() -> None:
    """Time both shapes."""
    parsed, device = parse(__doc__ or "", turns=3), pick_device()
    windows = {"demo": 256, "record": 32} if device.type == "cpu" else {"demo": 4096, "record": 1024}
    others = {"peer": evaluators.load_peer(parsed.peer, "score").score} if parsed.peer else {}
    shapes = {}
    for shape in parsed.shapes:
        config = PRESETS[SHAPES[shape]]
        length, stride = config.score.sequence_length, config.score.stride
        count = windows[shape] // (2 if parsed.quick and shape == "record" else 1)
        model = random_model(config, device)
        tokens = random_tokens(length + stride * (count - 1), config.model.vocab_size)
        scorers: dict[str, Callable[..., Tensor]] = {
            "plain": evaluators.score,
            "ours": evaluators.Ours(parsed.compile).score,
        } | others
        work: dict[str, Callable[[], Tensor]] = {
            name: partial(scorer, model, tokens, length, stride) for name, scorer in scorers.items()
        }
        turns = 1 if parsed.quick and shape == "record" else parsed.turns
        warm = to_warm(work, is_slow(shape, device), parsed.compile)
        shapes[shape] = compare(shape, work, turns, device, "window", count, warm)
        least = needed_operations(config) / matrix_rate(device)
        bound = {"share_of_matrix_rate": least / shapes[shape]["ours"]["seconds_per_window"]}
        bound["ratio_at_matrix_rate"] = shapes[shape]["plain"]["seconds_per_window"] / least
        shapes[shape] |= bound
        print(
            f"{shape:8s} ours reaches {100 * bound['share_of_matrix_rate']:.0f} % of the device's matrix rate; "
            f"all of it would be {bound['ratio_at_matrix_rate']:.2f}x plain"
        )
        if shape == "record":
            whole = shapes[shape]["ours"]["seconds_per_window"] * RECORD_TARGETS / stride
            print(f"at this rate {RECORD_TARGETS:,} tokens, the record's, take {whole:,.0f} s on {device_name(device)}")
    finish(shapes, device, parsed.json)


if __name__ == "__main__":
    main()

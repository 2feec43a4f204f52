"""The whole run without the project around it: what the shipped `train_gpt.py` does when it is started.

A configuration and a folder of shards enter; the run's folder and a log leave. Alone or under torchrun. The code it
counts is its own file, whose SHA-256 the log names. The log's last lines are in the field's own form, every number with
all its digits.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from golf.config import RunConfig, from_plain, override_all, to_plain
from golf.data.dataset import open_dataset
from golf.dist import device_name, join
from golf.files import write_json
from golf.stages import RunFolder, run_stages
from golf.train.loop import Notice, Preempted


def facts_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a run's log begins with: each fact by its name, as JSON."""
    return (f"{name}: {json.dumps(value)}" for name, value in facts.items())


def ladder_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """The run's sizes and scores, one line each."""
    packed = results["pack"]
    verdict = "fits" if packed["fits"] else f"over by {packed['over_bytes']:,}"
    yield (
        f"artifact {packed['artifact_bytes']:,} bytes = model {packed['model_bytes']:,} "
        f"+ code {packed['code_bytes']:,} ({verdict})"
    )
    yield f"train      {results['train']['seconds']:9.1f} s"
    for rung in results["ladder"]:
        scores = f"{rung['bpb']:.6f} BPB  {rung['nats_per_token']:.6f} nats/token"
        yield f"{rung['name']:10s} {rung['seconds']:9.1f} s  {scores}"


def exact_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """What a run's log ends with: sizes and scores in the field's form, all digits; the last score counts."""
    packed = results["pack"]
    yield f"Serialized model: {packed['model_bytes']} bytes"
    yield f"Code size: {packed['code_bytes']} bytes"
    yield f"Total submission size: {packed['artifact_bytes']} bytes"
    for rung in results["ladder"]:
        yield f"final_{rung['name']}_exact val_loss:{rung['nats_per_token']!r} val_bpb:{rung['bpb']!r}"


def print_ladder(results: Mapping[str, Any]) -> None:
    """Print the sizes and scores."""
    print(*ladder_lines(results), sep="\n")


def point_line(curve: str, step: int, value: float, steps: int) -> str:
    """A curve's point in a log; `steps` are those of the whole training."""
    of = f"/{steps}" if curve in ("train_loss", "validation_bpb") else ""
    return f"{curve:15s} {step:6d}{of} {value:.4f}"


PACKAGES = ("torch", "numpy", "sentencepiece", "zstandard")
"""What a run's numbers are computed with, where it is installed."""


class Progress:
    """Prints a line for a curve's points, at most one in `every` seconds, on the first rank only."""

    def __init__(self, quiet: bool, steps: int, every: float = 5.0) -> None:
        self.quiet, self.steps, self.every, self.printed = quiet, steps, every, 0.0

    def __call__(self, curve: str, step: int, value: float) -> None:
        """Take one point."""
        if self.quiet or (time.monotonic() - self.printed < self.every and curve != "validation_bpb"):
            return
        self.printed = time.monotonic()
        print(point_line(curve, step, value, self.steps), flush=True)


@contextlib.contextmanager
def noticed_signals(first: bool) -> Iterator[Notice]:
    """Ctrl-C and SIGTERM as a notice for the block; a second Ctrl-C ends it at once.

    Args: first: whether this rank tells the user.
    Raises: SystemExit with the shell's code of the signal (130, 143), once the notice was heeded.
    """
    seen: list[int] = []

    def take(number: int, frame: object) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    except Preempted as stop:
        if first:
            print(f"\n{stop}; the same command continues", file=sys.stderr)
        raise SystemExit(128 + (seen or [signal.SIGTERM])[0]) from stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(config_json: dict[str, Any]) -> None:
    """Train, pack, score and adapt the configuration that the shipped file holds."""
    parser = argparse.ArgumentParser(
        description="Train, pack and score this record's model; torchrun for several GPUs."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of shards and the tokenizer")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the run")
    parser.add_argument("--seed", type=int, help="another seed")
    arguments = parser.parse_args()
    config = from_plain(RunConfig, config_json)
    if arguments.seed is not None:
        config = override_all(config, {"seed": arguments.seed})
    with join() as group, noticed_signals(group.first) as notice:
        dataset = open_dataset(arguments.data, config.model.vocab_size)
        code, folder = Path(sys.argv[0]).read_bytes(), RunFolder(arguments.out)
        packages = {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
        facts = {
            "code_sha256": hashlib.sha256(code).hexdigest(),
            "code_bytes": len(code),
            "seed": config.seed,
            "data": dataset.digest,
            "device": f"{group.world_size} x {device_name(group.device)}",
            "versions": {"python": platform.python_version()} | packages,
            "config": to_plain(config),
        }
        if group.first:
            print(*facts_lines(facts), sep="\n", flush=True)
        progress = Progress(not group.first, config.schedule.steps)
        results = run_stages(config, dataset, folder, group, code, progress, notice=notice)
        if group.first:
            write_json(folder.file("record.json"), facts | results)
            print(*ladder_lines(results), *exact_lines(results), sep="\n")

"""Seconds that a configuration's stages take on this machine, by a few steps and chunks of each.

    torchrun --nproc-per-node 8 -m golf.pipeline.machine_seconds CONFIG.json DATA THREADS OUT.json

Everything is computed with weights before training, which take the same time, and thrown away.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from golf.config.config import RunConfig, ScheduleConfig, from_plain, to_plain
from golf.data.dataset import Dataset, open_dataset
from golf.evaluate.sliding import ChunkScore, score, validation_stream
from golf.evaluate.ttt import score_with_ttt
from golf.model.compile import activation_dtype, compile_model
from golf.model.gepa import build_model
from golf.pipeline.step_budget import StepSeconds, first_rank_value, mean_step_seconds, measure_steps
from golf.runtime.errors import Diverged, OutOfMemory
from golf.runtime.files import read_json, write_bytes, write_json
from golf.runtime.process_group import ProcessGroup, device_name, join

STEPS, CHUNKS = 20, 3
"""Steps of each kind and chunks of each way of scoring whose time counts, after one for warm-up."""
ERROR_FILE = "error.txt"
"""Beside the result: the message of an error that is for the user."""


@dataclass(frozen=True, kw_only=True)
class MachineSeconds:
    """What the stages of one configuration take on one machine."""

    device: str
    """Number and name of the devices."""
    steps: tuple[StepSeconds, ...]
    """Of each kind of training step."""
    plain_seconds: float
    """Of the whole validation stream in windows without overlap."""
    sliding_seconds: float
    """Of the whole stream with the stride."""
    ttt_seconds: float | None
    """Of the whole stream with test-time training; None: the configuration has none."""

    def step_seconds(self, schedule: ScheduleConfig) -> float:
        """Returns the mean seconds of a training step of a schedule."""
        return mean_step_seconds(schedule, self.steps)


def measure_machine(config: RunConfig, dataset: Dataset, group: ProcessGroup) -> MachineSeconds:
    """Measures steps, then chunks of each way of scoring. The result is the same on every rank.

    Raises: ValueError without training shards; OutOfMemory when a slice of a step does not fit.
    """
    return MachineSeconds(
        device=f"{group.world_size} x {device_name(group.device)}",
        steps=measure_steps(config, dataset, group, STEPS),
        plain_seconds=_scoring_seconds(config, dataset, group, plain=True),
        sliding_seconds=_scoring_seconds(config, dataset, group, plain=False),
        ttt_seconds=None if config.ttt is None else _ttt_seconds(config, dataset, group),
    )


def _scoring_seconds(config: RunConfig, dataset: Dataset, group: ProcessGroup, plain: bool) -> float:
    model = build_model(config.model, config.seed, activation_dtype(group.device)).to(group.device)
    forward, stream = compile_model(model, config.compile, group.device), validation_stream(dataset, group)

    def run(num_chunks: int, after_chunk: Callable[[int, ChunkScore], None]) -> None:
        score(forward, stream, config.score, group, plain=plain, stop_after=num_chunks, after_chunk=after_chunk)

    return _stream_seconds(run, stream.num_targets / config.score.chunk_tokens, group)


def _ttt_seconds(config: RunConfig, dataset: Dataset, group: ProcessGroup) -> float:
    model = build_model(config.model, config.seed, activation_dtype(group.device)).to(group.device)
    forward, stream, ttt = (
        compile_model(model, config.compile, group.device),
        validation_stream(dataset, group),
        config.ttt,
    )
    assert ttt is not None

    def run(num_chunks: int, after_chunk: Callable[[int, ChunkScore], None]) -> None:
        score_with_ttt(
            model, stream, config.score, ttt, group, forward=forward, stop_after=num_chunks, after_chunk=after_chunk
        )

    return _stream_seconds(run, stream.num_targets / config.score.chunk_tokens, group)


def _stream_seconds(
    run: Callable[[int, Callable[[int, ChunkScore], None]], None], chunks_in_all: float, group: ProcessGroup
) -> float:
    """Returns the seconds of a whole stream by those of its first chunks; of a stream of one chunk, that one's.

    Args: run: scores so many chunks and calls after each; chunks_in_all: of the stream; group: this rank's.
    """
    ends = [time.perf_counter()]
    run(1 + CHUNKS, lambda number, chunk: ends.append(time.perf_counter()))
    seconds = [end - begin for begin, end in itertools.pairwise(ends)]
    return first_rank_value(statistics.mean(seconds[1:] or seconds) * chunks_in_all, group)


def main(config: Path, data: Path, threads: int, out: Path) -> int:
    """Measures on the ranks that torchrun started, or on this one. Returns: the exit status.

    Args: config: file of the configuration; data: folder of the dataset; threads: of each rank on CPUs; out: file that
        the first rank writes.
    """
    torch.set_num_threads(threads)
    try:
        with join() as group:
            wanted = from_plain(RunConfig, read_json(config))
            measured = measure_machine(wanted, open_dataset(data, wanted.model.vocab_size), group)
            if group.first:
                write_json(out, to_plain(measured))
    except (ValueError, OSError, OutOfMemory, Diverged) as error:
        write_bytes(out.with_name(ERROR_FILE), str(error).encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))

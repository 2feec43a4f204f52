"""The shipped `train_gpt.py` as a program: the whole run without the project around it.

Options that are not on the command line come from the environment, under the names that others' scripts use. The log,
on the terminal and in logs/RUN_ID.txt, is that of `golf.train.run_log`. The counted code is the file itself.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, from_plain, override_all, to_plain
from golf.data.dataset import open_dataset
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.files import write_json
from golf.runtime.process_group import join
from golf.runtime.results import PackResult, RunResults
from golf.train.hooks import Hooks
from golf.train.loop import Preempted, PreemptionCheck
from golf.train.run_log import LogFile


def size_line(pack: PackResult) -> str:
    """Returns the line of an artifact's bytes."""
    verdict = "fits" if pack.fits else f"over by {pack.over_bytes:,}"
    sizes = f"{pack.artifact_bytes:,} bytes = model {pack.model_bytes:,} + code {pack.code_bytes:,}"
    return f"artifact {sizes} ({verdict})"


def ladder_lines(results: RunResults) -> Iterator[str]:
    """Yields the run's sizes and scores, one line each."""
    yield size_line(results.pack)
    yield f"train      {results.train.seconds:9.1f} s"
    for rung in results.ladder:
        scores = f"{rung.bpb:.6f} BPB  {rung.nats_per_token:.6f} nats/token"
        yield f"{rung.name:10s} {rung.seconds:9.1f} s  {scores}"


def record_values(run: StageContext, results: RunResults) -> dict[str, Any]:
    """Returns the content of record.json: the configuration, the data's digest and the results of all stages."""
    values, pack = to_plain(results), results.pack
    values["pack"] |= {"artifact_bytes": pack.artifact_bytes, "over_bytes": pack.over_bytes, "fits": pack.fits}
    return {"config": to_plain(run.config), "data": run.dataset.digest} | values


class Progress:
    """Prints the progress of a run, at most one line in `every` seconds, on the first rank only."""

    def __init__(self, quiet: bool, every: float = 5.0) -> None:
        self.quiet, self.every, self.printed = quiet, every, -every

    def __call__(self, curve: str, step: int, value: float) -> None:
        """Prints a point of a curve; those of the training are lines of the log."""
        if curve not in ("train_loss", "validation_bpb"):
            self._print(f"{curve:15s} {step:6d} {value:.4f}")

    def line(self, line: str) -> None:
        """Prints a line of the log that has figures of a step."""
        if line.startswith("step:"):
            self._print(line, "val_bpb" in line)

    def _print(self, line: str, always: bool = False) -> None:
        if not self.quiet and (always or time.monotonic() - self.printed >= self.every):
            self.printed = time.monotonic()
            print(line, flush=True)


@contextlib.contextmanager
def preemption_signals(first: bool) -> Iterator[PreemptionCheck]:
    """Takes Ctrl-C and SIGTERM as a preemption within the block; a second Ctrl-C ends it at once.

    Args: first: whether this rank tells the user.
    Yields: the check whether a signal has come.
    Raises: SystemExit with the shell's code of the signal (130, 143), once the state is saved.
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


UNREAD = (
    *("MAX_WALLCLOCK_SECONDS", "ITERATIONS", "TRAIN_BATCH_TOKENS", "TRAIN_SEQ_LEN", "VOCAB_SIZE", "NUM_LAYERS"),
    *("MODEL_DIM", "VAL_LOSS_EVERY", "TRAIN_LOG_EVERY"),
)
"""Variables that other scripts read and that would change the result or the log here."""


def read_options(config: RunConfig) -> argparse.Namespace:
    """Returns the command line; what it leaves out comes from the environment, as in others' scripts, or from ./data.

    Raises: SystemExit naming the files that are missing.
    """
    env, vocab_size = os.environ, config.model.vocab_size
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Train, pack and score this record's model; torchrun for several GPUs."
    )
    parser.add_argument("--data", type=Path, help="folder of shards (DATA_PATH, ./data/datasets/fineweb10B_spN)")
    parser.add_argument("--tokenizer", type=Path, help="(TOKENIZER_PATH, in --data, ../../tokenizers beside it)")
    parser.add_argument("--out", type=Path, help="folder of the run (out/RUN_ID)")
    parser.add_argument("--seed", type=int, default=env.get("SEED") or config.seed, help="(SEED, %(default)s)")
    parser.add_argument("--run-id", default=env.get("RUN_ID"), help="of logs/RUN_ID.txt (RUN_ID, seedN)")
    given = parser.parse_args()
    base = Path(env.get("DATA_DIR") or "data")
    data = given.data or Path(env.get("DATA_PATH") or base / f"datasets/fineweb10B_sp{vocab_size}")
    inside, path = any(data.glob("*.model")), env.get("TOKENIZER_PATH")
    if given.tokenizer is None and path and not (given.data and inside):
        given.tokenizer = Path(path)
    elif given.tokenizer is None and not inside:
        name = f"tokenizers/fineweb_{vocab_size}_bpe.model"
        places = [data.resolve().parent.parent / name, base / name]
        given.tokenizer = next(filter(Path.is_file, places), places[0])
    given.data, given.run_id = data, given.run_id or f"seed{given.seed}"
    given.out = given.out or Path("out") / given.run_id
    missing = [] if any(data.glob("*_val_*.bin")) else [f"no shards *_val_*.bin in {data}"]
    missing += [] if given.tokenizer is None or given.tokenizer.is_file() else [f"no tokenizer {given.tokenizer}"]
    if missing:
        time.sleep(3 * (env.get("RANK", "0") != "0"))  # torchrun ends the others when the first has said it
        raise SystemExit(f"error: {', '.join(missing)}: give --data and --tokenizer, or DATA_PATH and TOKENIZER_PATH")
    return given


def main(config_json: dict[str, Any]) -> None:
    """Trains, packs and scores the configuration that the shipped file holds."""
    config = from_plain(RunConfig, config_json)
    given = read_options(config)
    config = override_all(config, {"seed": given.seed})
    with join() as group, preemption_signals(group.first) as preemption:
        dataset = open_dataset(given.data, config.model.vocab_size, given.tokenizer)
        code, directory = Path(sys.argv[0]).read_bytes(), RunDirectory(given.out)
        run = StageContext(config=config, dataset=dataset, directory=directory, group=group)
        log = LogFile(Path("logs") / f"{given.run_id}.txt", group, partial(print, flush=True))
        unread = [f"{name}={os.environ[name]}" for name in UNREAD if name in os.environ]
        if unread:
            log(f"not read: {' '.join(unread)}; model and number of steps are fixed, so that the result is, too")
        results = run_stages(run, code, Hooks(event=Progress(not group.first), log=log, preemption=preemption))
        if group.first:
            write_json(run.directory.file("record.json"), record_values(run, results))

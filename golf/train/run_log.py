"""The log of a run: its lines, in the forms that readers of the competition's logs know, and the file.

Source of the forms: the logs below `records/` of openai/parameter-golf.
"""

import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from golf.config.config import MICRO_BATCHES, QuantConfig, RunConfig, to_plain
from golf.data.dataset import Dataset
from golf.model.gepa import count_parameters
from golf.runtime.process_group import ProcessGroup, device_name
from golf.runtime.results import PackResult, RungResult

LogSink = Callable[[str], None]
"""Receives a line of the log, on every rank."""
LOG_FILE = "log.txt"
PACKAGES = ("torch", "numpy", "sentencepiece", "zstandard")
"""Packages whose versions are logged where they are loaded."""
_FIRST, _MOST = 10, 500
"""The first steps, each of which has a line, and about how many of the others have one."""


def discard_line(line: str) -> None:
    """The log of a run that keeps none."""


class LogFile:
    """A log file that the first rank writes line by line; each line also goes to `echo`."""

    def __init__(self, path: Path, group: ProcessGroup, echo: LogSink = discard_line, append: bool = False) -> None:
        """Opens the log; without `append`, what the file holds already is deleted."""
        self.path, self.first, self.echo = path, group.first, echo
        if group.first and not append:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def __call__(self, line: str) -> None:
        """Writes a line."""
        if self.first:
            with self.path.open("a") as file:
                file.write(f"{line}\n")
            self.echo(line)


def head_lines(config: RunConfig, dataset: Dataset) -> Iterator[str]:
    """Yields the first lines of a run's log: seed, model, data, every setting."""
    validation = next(name for name in dataset.files if "_val_" in name)
    shards = sum("_train_" in name for name in dataset.files)
    yield f"seed:{config.seed}"
    yield f"model_params:{count_parameters(config.model)}"
    yield f"train_loader:dataset:{dataset.name} train_shards:{shards}"
    yield f"val_loader:shards pattern={validation.rpartition('_')[0]}_*.bin tokens:{len(dataset.validation) - 1}"
    yield f"data_sha256:{dataset.digest}"
    yield "Hyperparameters:"
    for name, value in flat_settings(to_plain(config)):
        yield f"  {name}: {json.dumps(value)}"


def flat_settings(plain: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of every setting but the seed."""
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from flat_settings(value, f"{path}{name}.")
        elif path or name != "seed":
            yield f"{path}{name}", value


def machine_lines(group: ProcessGroup) -> Iterator[str]:
    """Yields lines on the software and the devices of a training."""
    yield f"Running Python {platform.python_version()}"
    yield f"Running PyTorch {torch.__version__}"
    versions = {name: str(sys.modules[name].__version__) for name in PACKAGES if name in sys.modules}
    yield f"versions: {json.dumps(versions)}"
    yield f'device: "{group.world_size} x {device_name(group.device)}"'
    yield f"world_size:{group.world_size} grad_accum_steps:{MICRO_BATCHES // group.world_size}"


def utc_now() -> str:
    """Returns the time of day in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def has_log_line(step: int, steps: int) -> bool:
    """Returns whether the loss of a step, counted from 1, has a line in the log."""
    return step <= _FIRST or step == steps or step % max(1, steps // _MOST) == 0


def step_line(step: int, steps: int, seconds: float, **values: float) -> str:
    """Returns the line of figures after so many steps and seconds of training."""
    figures = " ".join(f"{name}:{value:.4f}" for name, value in values.items())
    return f"step:{step}/{steps} {figures} train_time:{1000 * seconds:.0f}ms step_avg:{1000 * seconds / step:.2f}ms"


def end_lines(steps: int, seconds: float, group: ProcessGroup) -> Iterator[str]:
    """Yields the last lines of a training; the memory is that of this rank."""
    yield f"stopping_early: no, every step is done train_time:{1000 * seconds:.0f}ms step:{steps}/{steps}"
    if group.device.type == "cuda":
        memory = (torch.cuda.max_memory_allocated(group.device), torch.cuda.max_memory_reserved(group.device))
    else:
        memory = (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,) * 2
    yield "peak memory allocated: {} MiB reserved: {} MiB".format(*(size >> 20 for size in memory))


def size_lines(pack: PackResult, quant: QuantConfig) -> Iterator[str]:
    """Yields lines on the bytes that count."""
    yield f"code_sha256:{pack.code_sha256}"
    yield f"Code size: {pack.code_bytes} bytes"
    yield f"Serialized model {quant.codec}: {pack.model_bytes} bytes"
    yield f"Total submission size {quant.codec}: {pack.artifact_bytes} bytes"
    yield f"{'gptq: calibrated and packed' if quant.calibrated else 'packed'} in {pack.seconds:.1f}s"


def rung_line(rung: RungResult) -> str:
    """Returns the line of a rung's score and its seconds."""
    scores = f"val_loss:{rung.nats_per_token:.4f} val_bpb:{rung.bpb:.4f}"
    return f"final_{rung.name} {scores} eval_time:{1000 * rung.seconds:.0f}ms"


def exact_line(name: str, nats_per_token: float, bpb: float) -> str:
    """Returns the line of a rung's score with all digits; a log ends with one of each rung, the last counts."""
    return f"final_{name}_exact val_loss:{nats_per_token!r} val_bpb:{bpb!r}"

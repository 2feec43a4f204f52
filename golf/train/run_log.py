"""A run's log: its lines in the forms that the field's readers know, written while it runs.

A number has the digits that its reader needs, the last scores have all of them. Nothing is computed here.
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

Say = Callable[[str], None]
"""Takes a line of the log, on every rank."""
LOG_FILE = "log.txt"
PACKAGES = ("torch", "numpy", "sentencepiece", "zstandard")
"""What a run's numbers are computed with, where it is installed."""
_FIRST, _MOST = 10, 500
"""Steps that are all told, and about how many of the others are."""


def unsaid(line: str) -> None:
    """The log of a run that keeps none."""


class LogFile:
    """A log that the first rank writes, line by line, each also given to `echo`."""

    def __init__(self, path: Path, group: ProcessGroup, echo: Say = unsaid, begin: bool = True) -> None:
        """Args: begin: whether what the file holds already is replaced."""
        self.path, self.first, self.echo = path, group.first, echo
        if group.first and begin:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def __call__(self, line: str) -> None:
        """Take a line."""
        if self.first:
            with self.path.open("a") as file:
                file.write(f"{line}\n")
            self.echo(line)


def head_lines(config: RunConfig, dataset: Dataset) -> Iterator[str]:
    """What a run's log begins with: seed, model, data, every setting."""
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
    """Every setting but the seed by its dotted name."""
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from flat_settings(value, f"{path}{name}.")
        elif path or name != "seed":
            yield f"{path}{name}", value


def machine_lines(group: ProcessGroup) -> Iterator[str]:
    """What a training runs on."""
    yield f"Running Python {platform.python_version()}"
    yield f"Running PyTorch {torch.__version__}"
    versions = {name: str(sys.modules[name].__version__) for name in PACKAGES if name in sys.modules}
    yield f"versions: {json.dumps(versions)}"
    yield f'device: "{group.world_size} x {device_name(group.device)}"'
    yield f"world_size:{group.world_size} grad_accum_steps:{MICRO_BATCHES // group.world_size}"


def utc_now() -> str:
    """The time of day."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def is_told(step: int, steps: int) -> bool:
    """Whether the loss of a step, counted from 1, has a line."""
    return step <= _FIRST or step == steps or step % max(1, steps // _MOST) == 0


def step_line(step: int, steps: int, seconds: float, **values: float) -> str:
    """Figures after so many steps and seconds of training."""
    told = " ".join(f"{name}:{value:.4f}" for name, value in values.items())
    return f"step:{step}/{steps} {told} train_time:{1000 * seconds:.0f}ms step_avg:{1000 * seconds / step:.2f}ms"


def end_lines(steps: int, seconds: float, group: ProcessGroup) -> Iterator[str]:
    """What a training ends with; the memory is this rank's."""
    yield f"stopping_early: no, every step is done train_time:{1000 * seconds:.0f}ms step:{steps}/{steps}"
    if group.device.type == "cuda":
        memory = (torch.cuda.max_memory_allocated(group.device), torch.cuda.max_memory_reserved(group.device))
    else:
        memory = (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,) * 2
    yield "peak memory allocated: {} MiB reserved: {} MiB".format(*(size >> 20 for size in memory))


def size_lines(packed: Mapping[str, Any], quant: QuantConfig) -> Iterator[str]:
    """The bytes that count."""
    yield f"code_sha256:{packed['code_sha256']}"
    yield f"Code size: {packed['code_bytes']} bytes"
    yield f"Serialized model {quant.codec}: {packed['model_bytes']} bytes"
    yield f"Total submission size {quant.codec}: {packed['artifact_bytes']} bytes"
    yield f"{'gptq: calibrated and packed' if quant.calibrated else 'packed'} in {packed['seconds']:.1f}s"


def rung_line(rung: Mapping[str, Any]) -> str:
    """A score and its seconds."""
    scores = f"val_loss:{rung['nats_per_token']:.4f} val_bpb:{rung['bpb']:.4f}"
    return f"final_{rung['name']} {scores} eval_time:{1000 * rung['seconds']:.0f}ms"


def exact_line(name: str, nats_per_token: float, bpb: float) -> str:
    """A rung's score with all digits, as a log ends with that of every rung; the last counts."""
    return f"final_{name}_exact val_loss:{nats_per_token!r} val_bpb:{bpb!r}"

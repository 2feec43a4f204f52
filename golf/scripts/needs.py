"""What a training script needs to run, and what of it will not work here; read from its source, nothing is run."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from golf.scripts.inputs import ScriptInputs

LAUNCHER_VARIABLES = frozenset(
    {
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK"),
        *("CUDA_VISIBLE_DEVICES", "NODE_RANK", "TORCHELASTIC_RUN_ID", "OMP_NUM_THREADS"),
    }
)
"""Variables that torchrun and Ray set."""
_DEMANDS_CUDA = re.compile(
    r"""if not torch\.cuda\.is_available\(\)\s*:\s*\n?\s*raise|assert torch\.cuda\.is_available\(\)|"""
    r"""torch\.cuda\.set_device\(|device\(\s*["']cuda["']\s*,|init_process_group\(\s*(?:backend\s*=\s*)?["']nccl"""
)
_MENTIONS_CPU = re.compile(r"""["']cpu["']|["']gloo["']""")
_ANY_CUDA = re.compile(r"""\.cuda\(\)|device\s*[=(]\s*["']cuda""")
_DIVIDES = re.compile(r"\b(\d+)\s*%\s*(?:self\.|args\.)?(?:world_size|ddp_world_size|WORLD_SIZE)\s*(?:!=|==)\s*0")
_SHUFFLES = re.compile(
    r"\b(?:randperm|shuffle|permutation|default_rng|RandomSampler|DistributedSampler|random\.sample|randint)\b"
)
_BY_CLOCK = ("MAX_WALLCLOCK_SECONDS",)
_FLASH = ("flash_attn", "flash_attn_interface", "flash_attn_3_cuda")


@dataclass(frozen=True)
class ScriptNeeds:
    """What a script needs and does, as far as its source says."""

    needs_cuda: bool
    """Whether it demands a GPU of NVIDIA's kind."""
    distributed: bool
    """Whether it reads what torchrun sets."""
    world_size_divides: int | None
    """The number of processes must divide this; None: no rule is seen."""
    missing_packages: tuple[str, ...]
    """Modules that it needs and that are not installed here."""
    flash_attention: bool
    triton: bool
    reads_seed: bool
    seed_reaches_data: bool
    """Whether anything in it shuffles; where nothing does, the seed does not reach the order of the data."""
    by_clock: bool
    """Whether its schedule follows the wall clock unless MAX_WALLCLOCK_SECONDS=0."""
    prints_score: bool
    """Whether it writes "val_bpb" or "val_loss"."""


def needs_of(inputs: ScriptInputs, beside: Sequence[str] = (), seed: str = "SEED") -> ScriptNeeds:
    """Returns what a script needs.

    Args:
        inputs: of the script.
        beside: modules in its folder.
        seed: name of the variable with its seed.
    """
    text, source = inputs.text, inputs.source
    provided = sys.stdlib_module_names | set(beside) | {"__future__"}
    missing = sorted(name for name in source.imports if name not in provided and not _installed(name))
    divides = _DIVIDES.search(text)
    cuda = _DEMANDS_CUDA.search(text) or (_ANY_CUDA.search(text) and not _MENTIONS_CPU.search(text))
    clock = inputs.variables.get(_BY_CLOCK[0])
    every_import = source.imports | source.optional
    return ScriptNeeds(
        needs_cuda=bool(cuda),
        distributed=bool({"RANK", "LOCAL_RANK", "WORLD_SIZE"} & inputs.variables.keys()),
        world_size_divides=None if divides is None else int(divides[1]),
        missing_packages=tuple(missing),
        flash_attention=bool(every_import & set(_FLASH)),
        triton="triton" in every_import,
        reads_seed=seed in inputs.variables,
        seed_reaches_data=bool(_SHUFFLES.search(text)),
        by_clock=clock is not None and clock.default not in (None, "0", "0.0"),
        prints_score="val_bpb" in text or "val_loss" in text,
    )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

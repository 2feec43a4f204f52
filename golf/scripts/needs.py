"""What a training script needs to run, and what of it will not work here; read from its source, nothing is run."""

import importlib.util
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from golf.scripts.inputs import ScriptInputs
from golf.scripts.settings import Setting

LAUNCHER_VARIABLES = frozenset(
    {
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK"),
        *("CUDA_VISIBLE_DEVICES", "NODE_RANK", "TORCHELASTIC_RUN_ID", "OMP_NUM_THREADS"),
    }
)
"""Variables that torchrun and Ray set."""
_CUDA_OR_ERROR = re.compile(
    r"if not (?:\w+\.)*cuda\.is_available\(\)\s*:\s*(?:raise\b|sys\.exit|exit\()|"
    r"assert (?:\w+\.)*cuda\.is_available\(\)"
)
_USES_CUDA = re.compile(
    r"""\.cuda\(\)|cuda\.set_device\(|device\s*[=(]\s*f?["']cuda|init_process_group\(\s*(?:backend\s*=\s*)?["']nccl"""
)
_ASKS_FOR_CUDA = re.compile(r"""cuda\.is_available\(\)|device_count\(\)""")
_CPU = re.compile(r"""["']cpu["']|["']gloo["']""")
_DIVIDES = re.compile(
    r"\b(\d{1,6}) ?% ?(?:\w+\.)*(?:ddp_)?world_size\b *(?:!=|==|>) *0|if (\d{1,6}) ?% ?(?:\w+\.)*world_size:",
    re.IGNORECASE,
)
_SHUFFLES = re.compile(
    r"\b(?:randperm|shuffle|permutation|default_rng|RandomSampler|DistributedSampler|random\.sample|randint|randrange)\b"
)
_BY_CLOCK = "MAX_WALLCLOCK_SECONDS"
_FLASH = ("flash_attn", "flash_attn_interface", "flash_attn_3_cuda", "flash_attn_2_cuda")
_FLASH_KERNEL = re.compile(r"""get_kernel\(\s*["'][^"'\n]{0,80}flash""")
_WRITES: Mapping[Literal["val_bpb", "val_loss"], re.Pattern[str]] = {
    "val_bpb": re.compile(r"""["'][^"'\n]{0,200}\bval_bpb["']?\s{0,2}[:=]"""),
    "val_loss": re.compile(r"""["'][^"'\n]{0,200}\bval_loss["']?\s{0,2}[:=]"""),
}
"""The names of scores in texts, with the colon before the number."""


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
    prints_score: Literal["val_bpb", "val_loss"] | None
    """The score that it writes with its name; None: none is seen."""


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
    divisible = [int(match[1] or match[2]) for match in _DIVIDES.finditer(text)]
    falls_back = _ASKS_FOR_CUDA.search(text) and _CPU.search(text)
    every_import = source.imports | source.optional
    return ScriptNeeds(
        needs_cuda=bool(_CUDA_OR_ERROR.search(text) or (_USES_CUDA.search(text) and not falls_back)),
        distributed=bool({"RANK", "LOCAL_RANK", "WORLD_SIZE"} & inputs.variables.keys()),
        world_size_divides=math.gcd(*divisible) or None,
        missing_packages=tuple(missing),
        flash_attention=bool(every_import & set(_FLASH) or _FLASH_KERNEL.search(text)),
        triton="triton" in every_import,
        reads_seed=seed in inputs.variables,
        seed_reaches_data=bool(_SHUFFLES.search(text)),
        by_clock=_is_positive(inputs.variables.get(_BY_CLOCK)),
        prints_score=next((name for name, pattern in _WRITES.items() if pattern.search(text)), None),
    )


def _is_positive(setting: Setting | None) -> bool:
    """Whether a limit is set unless somebody changes it; a default that is no number is taken for one."""
    try:
        return setting is not None and setting.default is not None and float(setting.default) > 0
    except ValueError:
        return True


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

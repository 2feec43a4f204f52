"""The command `script inspect`: what a training script reads, needs and prints. Its source is read, never run."""

import argparse
import dataclasses
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from golf.cli.terminal import need_path
from golf.scripts.inputs import Constant, ScriptInputs, read_inputs
from golf.scripts.needs import LAUNCHER_VARIABLES, ScriptNeeds, needs_of
from golf.scripts.settings import Setting

_LARGEST_FILE = 8 << 20
_WIDTH, _LONGEST_NAME = 80, 32


def inspect_command(arguments: argparse.Namespace) -> None:
    """Prints what is seen of a script. Raises: ValueError where it is none, or does not run with --nproc processes."""
    data = _read(arguments.file)
    try:
        inputs = read_inputs(data)
    except ValueError as error:
        raise ValueError(f"{arguments.file}: {error}") from error
    needs = needs_of(inputs, [path.stem for path in arguments.file.parent.glob("*.py")])
    remarks = list(_remarks(inputs, needs))
    if arguments.json:
        print(json.dumps(_plain(arguments.file, len(data), inputs, needs, remarks)))
    else:
        print("\n".join(_lines(arguments.file, data, inputs, needs, remarks)))
    divides = needs.world_size_divides
    if arguments.nproc is not None and divides is not None and divides % arguments.nproc:
        raise ValueError(f"{arguments.file}: --nproc {arguments.nproc} must be one of {_divisors(divides)}")
    if arguments.nproc is not None and arguments.nproc > 1 and not needs.distributed:
        raise ValueError(f"{arguments.file}: --nproc {arguments.nproc}: it does not read what torchrun sets; give 1")


def _read(path: Path) -> bytes:
    need_path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the script itself, such as {path / 'train_gpt.py'}")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than the {_LARGEST_FILE:,} that are read")
    return path.read_bytes()


def _divisors(number: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0)


def _remarks(inputs: ScriptInputs, needs: ScriptNeeds) -> Iterator[str]:
    """Yields what will not work, and what is to be known before the script is run."""
    if needs.needs_cuda and not importlib.import_module("torch").cuda.is_available():
        yield "it demands CUDA, which is not here"
    if needs.missing_packages:
        yield f"not installed here: {', '.join(needs.missing_packages)}"
    if inputs.source.newer_python:
        yield f"it needs Python {inputs.source.newer_python}; its settings were searched line by line"
    if needs.by_clock:
        yield (
            "its schedule follows the clock: another machine is another experiment. For one by steps set "
            "MAX_WALLCLOCK_SECONDS=0 and ITERATIONS"
        )
    if not needs.reads_seed:
        names = [f"--{name}" for name in inputs.flags if name.lower() == "seed"]
        names += [name for name in inputs.constants if name.split(".")[-1].lower() == "seed"]
        yield "it reads no SEED: runs differ by chance only" + (f"; it has {', '.join(names)}" if names else "")
    elif not needs.seed_reaches_data:
        yield "SEED does not reach the order of the data: nothing in it shuffles"
    if needs.prints_score is None:
        yield "it is not seen to print val_bpb or val_loss: a sweep needs --metric"
    if any(constant.span is None for constant in inputs.constants.values()):
        yield "constants in packed code cannot be patched; unpack the script first"
    if inputs.computed:
        lines = ", ".join(map(str, filter(None, inputs.computed))) or "packed code"
        yield f"it also reads variables whose names are made at run time (line {lines}): those are not listed"


def _lines(path: Path, data: bytes, inputs: ScriptInputs, needs: ScriptNeeds, remarks: Sequence[str]) -> Iterator[str]:
    """Yields the report, at most 80 characters a line."""
    packed = f", packed code of {sum(map(len, inputs.source.layers)):,} in it" if inputs.source.layers else ""
    yield f"{path}: {len(data):,} bytes{packed}"
    own = [setting for name, setting in inputs.variables.items() if name not in LAUNCHER_VARIABLES]
    yield from _table("environment variables", own)
    yield from _table("flags", [dataclasses.replace(flag, name=f"--{flag.name}") for flag in inputs.flags.values()])
    yield from _table("constants, patched in a copy on request", list(inputs.constants.values()))
    yield from _facts("needs", _need_facts(needs))
    yield from _facts("its log is read by", _log_facts(needs))
    yield from _facts("to be known", remarks)


def _table(title: str, settings: Sequence[Setting]) -> Iterator[str]:
    if not settings:
        return
    yield f"\n{title} ({len(settings)})"
    width = min(max(len(_shown(setting.name)) for setting in settings), _LONGEST_NAME)
    rest = _WIDTH - width - 19
    yield f"  {'name':{width}s}  {'type':5s}  {'line':>6s}  default"
    for setting in settings:
        line = str(setting.line) if setting.line else "packed"
        default = "(none)" if setting.default is None else _shown(setting.default) or '""'
        fixed = " (not patched)" if isinstance(setting, Constant) and setting.span is None else ""
        name = _cut(_shown(setting.name), _LONGEST_NAME)
        yield f"  {name:{width}s}  {setting.kind:5s}  {line:>6s}  {_cut(default, rest - len(fixed))}{fixed}"


def _facts(title: str, facts: Iterable[str]) -> Iterator[str]:
    """Yields a section of sentences, each wrapped."""
    yield f"\n{title}"
    for fact in facts:
        line = " "
        for word in _shown(fact).split():
            if len(line) + 1 + len(word) > _WIDTH and line.strip():
                yield line
                line = "   "
            line += f" {word}"
        yield line


def _need_facts(needs: ScriptNeeds) -> Iterator[str]:
    yield "CUDA" if needs.needs_cuda else "no CUDA, as far as is seen"
    if needs.flash_attention:
        yield "flash-attention"
    if needs.triton:
        yield "Triton"
    if needs.world_size_divides is not None:
        yield f"a number of processes that divides {needs.world_size_divides}: {_divisors(needs.world_size_divides)}"
    elif needs.distributed:
        yield "any number of processes: no rule is seen"
    else:
        yield "one process: it does not read what torchrun sets"


def _log_facts(needs: ScriptNeeds) -> Iterator[str]:
    if needs.prints_score is None:
        yield "nothing that is known; name a pattern or a JSON key: --metric NAME=REGEX, --metric NAME=json:KEY"
    elif needs.prints_score == "val_bpb":
        yield "LABEL ... val_bpb:X: the last such line outside the curve is the score"
    else:
        yield "val_loss:X: the last such line is the score; there is no val_bpb"
    yield "step:A/B train_loss:X, step:A/B val_loss:X: its curves"


def _plain(
    path: Path, num_bytes: int, inputs: ScriptInputs, needs: ScriptNeeds, remarks: Sequence[str]
) -> Mapping[str, object]:
    """Returns the report as JSON values."""
    constants = [_setting(found) | {"patchable": found.span is not None} for found in inputs.constants.values()]
    return {
        "file": str(path),
        "bytes": num_bytes,
        "packed": bool(inputs.source.layers),
        "python": inputs.source.newer_python or None,
        "variables": [_setting(found) for found in inputs.variables.values()],
        "computed_variables": list(inputs.computed),
        "flags": [_setting(found) for found in inputs.flags.values()],
        "constants": constants,
        "needs": dataclasses.asdict(needs),
        "remarks": list(remarks),
    }


def _setting(setting: Setting) -> dict[str, object]:
    line = setting.line or None
    return {"name": setting.name, "type": setting.kind, "default": setting.default, "line": line}


def _shown(text: str) -> str:
    """Returns a text of the script without what would act on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."

"""All benchmarks and checks that want a GPU, one after the other, their results in one Markdown file.

    sh benchmarks/gpu.sh

Each section is a process of its own: where one fails or runs out of time, the next goes on, and the summary says so. A
section may take its share of the time that is left, so that what one does not need is there for those after it; a
training that has no time for all its steps ends before and says how many it did. Needs PyTorch, 2.11 or another one
that golf takes, and NumPy alone: without sentencepiece, trainings read drawn tokens. Real ones are taken from the
folders that `golf data fineweb` writes to. Prints the summary and, last, one JSON object. Exit status: 1 where a
section failed, 2 without a GPU.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from golf.runtime.process_group import device_name

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = ("ray", "mlflow", "zstandard", "sentencepiece", "python_minifier")
"""Packages that a card's machine may lack."""
FIGURES = (
    *("ratio", "largest_difference", "seconds_per_step", "seconds_per_window", "seconds_per_chunk"),
    *("tokens_per_second", "share_of_matrix_rate", "peak_memory_bytes", "matrix_operations_per_second"),
    *("steps", "first_loss", "last_loss", "startup_seconds", "pack_seconds", "bpb", "ttt_bpb", "checks", "failed"),
    "seconds_for_the_record_split",
)
"""Names of the numbers that the summary repeats."""
SHOWN_LINES = 60
"""Of a section's output that the file repeats, the last ones."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One process of the script."""

    name: str
    words: tuple[str, ...]
    """Module of this folder, and its arguments on a GPU."""
    quick: tuple[str, ...]
    """Its arguments with --quick."""
    weight: float
    """Seconds that it may take, as far as the time that is left allows it."""
    is_training: bool = False
    """Whether it is told how many seconds it has."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a section ended."""

    name: str
    command: str
    outcome: str
    """"ok", or why it is not."""
    seconds: float
    output: str
    figures: Mapping[str, float]


_FAST = ("--quick", "--shapes", "demo", "--turns", "1", "--threads", "1")
SECTIONS = (
    Section(name="checks of CUDA's paths", words=("gpu_paths",), quick=("--device", "cpu"), weight=60),
    Section(name="training step", words=("train_step", "--turns", "2"), quick=_FAST, weight=75),
    Section(name="scoring", words=("scoring", "--turns", "2"), quick=_FAST, weight=50),
    Section(name="test-time training", words=("ttt", "--turns", "2"), quick=_FAST, weight=75),
    Section(
        name="quantiser",
        words=("quantiser",),
        quick=("--quick", "--threads", "1", "--device", "cpu", "--cases", "demo, its grid"),
        weight=30,
    ),
    Section(name="golf run demo", words=("gpu_training", "demo"), quick=("--quick",), weight=45, is_training=True),
    Section(
        name="pr598, full shape", words=("gpu_training", "pr598"), quick=("--quick",), weight=125, is_training=True
    ),
    Section(
        name="pr1493, full shape", words=("gpu_training", "pr1493"), quick=("--quick",), weight=125, is_training=True
    ),
)


def run_section(section: Section, limit: float, on_cpu: bool, quick: bool) -> Result:
    """Runs a section for at most `limit` seconds."""
    module, *arguments = section.words
    # Of what is given twice, argparse takes the last.
    words = [module, *arguments, *(section.quick if quick else ())]
    if section.is_training:
        words += ["--seconds", f"{limit:.0f}"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | ({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})
    command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(limit)
            outcome = "ok" if status == 0 else f"FAILED with status {status}"
        except subprocess.TimeoutExpired:
            outcome = f"FAILED: not done after {limit:.0f} s"
        finally:
            end_group(process)
        file.seek(0)
        output = file.read()
    return Result(
        name=section.name,
        command=" ".join(["python", *command[1:]]),
        outcome=outcome,
        seconds=time.perf_counter() - began,
        output=output,
        figures=figures_of(output),
    )


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Ends a process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def figures_of(output: str) -> dict[str, float]:
    """Returns the numbers of the last JSON object in an output that the summary repeats, by their dotted names."""
    objects = [line for line in output.splitlines() if line.startswith("{")]
    return {name: n for name, n in numbers(json.loads(objects[-1])) if is_figure(name)} if objects else {}


def is_figure(name: str) -> bool:
    """Returns whether the summary repeats a number: those of what ours is compared with are left out."""
    parts = name.split(".")
    return parts[-1] in FIGURES and not {"plain", "peer"} & set(parts)


def numbers(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Yields all numbers in a JSON value by their dotted names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def environment_lines(device: torch.device) -> list[str]:
    """Returns what the results were measured with."""
    absent = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    lines = [
        f"{device_name(device)}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda or 'none'}; not installed: {', '.join(absent) or 'nothing'}."
    ]
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        lines.append(f"{total / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB of it free at the start.")
    return lines


def document(device: torch.device, results: Sequence[Result], minutes: float) -> str:
    """Returns the Markdown of all results; the summary is its end."""
    lines = [f"# All GPU benchmarks, on {device_name(device)}", "", f"`sh benchmarks/gpu.sh`, {date.today()}."]
    lines += [*environment_lines(device), ""]
    for result in results:
        shown = result.output.rstrip().splitlines()[-SHOWN_LINES:]
        fence = "~~~~" if any(line.startswith("~~~") for line in shown) else "~~~"
        lines += [f"## {result.name}: {result.outcome}", "", f"`{result.command}`, {result.seconds:.0f} s", ""]
        lines += [fence, *shown, fence, ""]
    lines += [f"## Summary, {minutes:.1f} minutes", "", "| section | outcome | seconds |", "|---|---|---:|"]
    lines += [f"| {result.name} | {result.outcome} | {result.seconds:.0f} |" for result in results]
    lines += ["", "| section | figure | value |", "|---|---|---:|"]
    for result in results:
        lines += [f"| {result.name} | {name} | {value:,.6g} |" for name, value in result.figures.items()]
    failed = [result.name for result in results if result.outcome != "ok"]
    lines += ["", f"FAILED: {', '.join(failed)}." if failed else "Every section succeeded."]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu.sh", allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the script (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on a CPU two minutes")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="sections whose names begin so")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the file")
    return parser.parse_args()


def main() -> int:
    """Runs the sections and writes the file. Returns: the exit status."""
    parsed = parse()
    on_cpu = parsed.device == "cpu"
    if not on_cpu and not torch.cuda.is_available():
        print("there is no GPU that torch can use; --device cpu --quick tries the script without one", file=sys.stderr)
        return 2
    device, results, began = torch.device(parsed.device), list[Result](), time.perf_counter()
    left = [each for each in SECTIONS if not parsed.only or each.name.startswith(tuple(parsed.only))]
    parsed.out.mkdir(parents=True, exist_ok=True)
    name = "cpu" if on_cpu else re.sub(r"[^a-z0-9]+", "-", device_name(device).lower())
    path = parsed.out / f"gpu_{name}_{date.today()}.md"
    while left:
        section, seconds = left[0], 60 * parsed.minutes - (time.perf_counter() - began)
        limit = max(5.0, seconds * section.weight / sum(each.weight for each in left))
        print(f"{time.strftime('%H:%M:%S')}  {section.name}: at most {limit:.0f} s", flush=True)
        results.append(run_section(section, limit, on_cpu, parsed.quick))
        print(f"{time.strftime('%H:%M:%S')}  {results[-1].outcome} after {results[-1].seconds:.0f} s", flush=True)
        # Written after each one: what was measured is kept if this process ends.
        path.write_text(document(device, results, (time.perf_counter() - began) / 60))
        left.pop(0)
    summary = path.read_text().partition("## Summary")[2]
    print(f"\n{summary.partition(chr(10))[2].strip()}\n\nall of it: {path}")
    outcomes = {result.name: result.outcome for result in results}
    print(json.dumps({"file": str(path), "sections": outcomes}))
    return int(any(outcome != "ok" for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

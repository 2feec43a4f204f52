"""How long small sweeps take beside their trials' own work; with --against also of another checkout, side by side.

    python -m benchmarks.startup [--against PATH_OF_ANOTHER_CHECKOUT] [--turns 3]

Each turn is a new storage folder, and in it, for each checkout:

- `cold_seconds`: from Enter to the first trial's first optimiser step, where the built-in text has to be read first;
- `first_step_seconds`: the same with the text there; the aim is 8 on 2 cores;
- `overhead_seconds_per_trial`: what a trial takes beyond its own stages where its artifact is there already and only
  its test-time training is computed and checked, one at a time, the first one left out; the aim is 0.3;
- `repeat_seconds`: of the same command when all is done, and `repeat_cpu_seconds` of its process; the aim is 4.

Prints a table of medians with ratios, and last one JSON object. Times are those of a machine under whatever else runs
on it; ratios are not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS = 10
STORED_TRIALS = 4
LIMIT_SECONDS = 600.0
"""Of one command."""
_FIRST_STEP = "step:1/"
"""Beginning of the log line of a training's first step."""


@dataclass(frozen=True)
class Ran:
    """One command that ended."""

    seconds: float
    cpu_seconds: float
    """Of its own process, without Ray's."""
    first_step_seconds: float | None
    """From its start to the first optimiser step of any trial; None where none was trained."""


def run(checkout: Path, storage: Path, name: str, options: Sequence[str]) -> Ran:
    """Runs a sweep of the demo, one trial at a time, and watches its trials' logs."""
    command = [sys.executable, "run_sweep.py", "demo", "--name", name, "--storage", str(storage), "--search", "grid"]
    command += ["--only", "ttt.lr"]
    command += ["--no-screening", "--concurrent", "1", "--set", f"schedule.steps={STEPS}"]
    command += ["--set", f"schedule.warmdown_start={STEPS // 2}", "--set", "ttt.epochs=1", *options]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    logs, first_step, began = storage / "sweeps" / name / "trials", None, time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if first_step is None and any(_FIRST_STEP in path.read_text() for path in logs.glob("*/log.txt")):
                first_step = time.perf_counter() - began
            if time.perf_counter() - began > LIMIT_SECONDS:
                process.kill()
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()}")
    return Ran(seconds, ended[2].ru_utime + ended[2].ru_stime, first_step)


def overhead(storage: Path, name: str) -> float:
    """Returns the seconds of a trial beyond what its own stages and its check took, of all trials but the first.

    The first one's process has to be started and to import.
    """
    lines = map(json.loads, (storage / "ledger.jsonl").read_text().splitlines())
    first, *trials = sorted((line for line in lines if line.get("sweep") == name), key=lambda trial: trial["ended"])
    assert len(trials) == STORED_TRIALS - 1, len(trials)
    own = sum(sum(trial["computed"].values()) for trial in trials)
    for trial in trials:
        check = storage / "sweeps" / name / "trials" / trial["trial"] / "check.json"
        own += json.loads(check.read_text()).get("seconds", 0.0)
    return (trials[-1]["ended"] - first["ended"] - own) / len(trials)


def measure(checkout: Path, storage: Path) -> dict[str, float]:
    """Returns the figures of one turn."""
    rates = ",".join(f"{0.001 * number:g}" for number in range(1, STORED_TRIALS + 1))
    cold = run(checkout, storage, "cold", ["--space", "ttt.lr=0.02"])
    first = run(checkout, storage, "first", ["--space", "ttt.lr=0.02", "--set", "seed=7"])
    run(checkout, storage, "stored", ["--space", f"ttt.lr={rates}", "--set", "seed=7"])
    repeats = [run(checkout, storage, "stored", ["--space", f"ttt.lr={rates}", "--set", "seed=7"]) for _ in range(2)]
    assert cold.first_step_seconds is not None
    assert first.first_step_seconds is not None
    return {
        "cold_seconds": cold.first_step_seconds,
        "first_step_seconds": first.first_step_seconds,
        "overhead_seconds_per_trial": overhead(storage, "stored"),
        "repeat_seconds": repeats[-1].seconds,
        "repeat_cpu_seconds": repeats[-1].cpu_seconds,
    }


def main() -> None:
    """Measures, prints a table and the JSON object."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--turns", type=int, default=3, help="times that each is measured (%(default)s)")
    parsed = parser.parse_args()
    checkouts = {"ours": ROOT} | ({} if parsed.against is None else {"other": parsed.against.resolve()})
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for turn in range(parsed.turns):
        for name in list(checkouts) if turn % 2 == 0 else list(reversed(checkouts)):
            with tempfile.TemporaryDirectory(prefix="golf-startup-") as folder:
                turns[name].append(measure(checkouts[name], Path(folder) / "storage"))
            shown = ", ".join(f"{figure} {value:.2f}" for figure, value in turns[name][-1].items())
            print(f"turn {turn + 1}, {name}: {shown}", flush=True)
    result: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    print(f"\n{'':28s}" + "".join(f"{name:>10s}" for name in checkouts) + (" other / ours" if parsed.against else ""))
    for figure in turns["ours"][0]:
        values = {name: statistics.median(turn[figure] for turn in told) for name, told in turns.items()}
        result |= {f"{figure}{'' if name == 'ours' else '_other'}": round(value, 3) for name, value in values.items()}
        line = f"{figure:28s}" + "".join(f"{value:10.2f}" for value in values.values())
        if parsed.against:
            pairs = zip(turns["other"], turns["ours"], strict=True)
            result[f"{figure}_ratio"] = round(statistics.median(a[figure] / b[figure] for a, b in pairs), 3)
            line += f"{result[f'{figure}_ratio']:13.2f}"
        print(line)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What a sweep of a training script costs beside a shell loop over the same 12 runs; one JSON object last.

    python -m benchmarks.script_overhead

The script trains nothing and takes about two seconds. Both run one at a time, the loop in bash. Measured:

- `overhead_seconds_per_trial`: seconds of a trial in the sweep, from the first trial's start to the last one's end,
  beyond the loop's mean seconds of a run; the aim is below 0.5.
- `startup_seconds`: from the command to the first trial's start, which the loop does not have.
- `runs_after_kill`: runs of all 12 settings that both started in all, when the driver or the loop was killed
  (kill -9) after six runs and the same command was given again; 13 at most where nothing finished is run again.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "tune" / "workloads" / "script" / "scripts" / "train_gpt.py"
RATES, GAINS = ("0.01", "0.015", "0.02", "0.025", "0.03", "0.035"), ("4.0", "5.25")
LOOP = """
for lr in {rates}; do
  for gain in {gains}; do
    mkdir -p "run-$lr-$gain" && cd "run-$lr-$gain" && echo x >> ../count.log
    RUN_ID=$lr-$gain MATRIX_LR=$lr QK_GAIN_INIT=$gain ITERATIONS={steps} {python} ../train_gpt.py > log.txt
    cd ..
  done
done
grep -H '^final_int8_zlib_roundtrip_exact' run-*/log.txt | sort -t: -k4 | head -1
"""
MOST_SECONDS = 300.0


def loop_command(steps: int) -> list[str]:
    """Returns the shell loop."""
    text = LOOP.format(rates=" ".join(RATES), gains=" ".join(GAINS), steps=steps, python=sys.executable)
    return ["bash", "-c", text]


def sweep_command(steps: int, storage: Path) -> list[str]:
    """Returns the sweep of the same runs."""
    words = [str(ROOT / "run_sweep.py"), "train_gpt.py", "--search", "grid", "--env", f"ITERATIONS={steps}"]
    words += ["--space", f"MATRIX_LR={','.join(RATES)}", f"QK_GAIN_INIT={','.join(GAINS)}", "--trust"]
    return [sys.executable, *words, "--concurrent", "1", "--storage", str(storage)]


def run(command: list[str], folder: Path, stop_at: int | None = None) -> tuple[float, str]:
    """Runs a command in a folder; returns its wall-clock seconds and its output.

    Args: stop_at: number of runs in the folder's file "count" after which the command is killed; None: never.
    """
    began, log = time.monotonic(), folder / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        while process.poll() is None and time.monotonic() - began < MOST_SECONDS:
            if stop_at is not None and counted(folder) > stop_at:
                # The loop's own runs belong to it, as in a shell that is closed.
                (os.killpg if command[0] == "bash" else os.kill)(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        raise RuntimeError(f"{command[:3]} took more than {MOST_SECONDS:g} s:\n{log.read_text()}")
    return time.monotonic() - began, log.read_text()


def counter(folder: Path) -> Path:
    """Returns the file with a line for every run that was started in a folder; a log is no part of the script's."""
    return folder / "count.log"


def counted(folder: Path) -> int:
    """Returns how many runs were started in a folder."""
    path = counter(folder)
    return len(path.read_text().splitlines()) if path.exists() else 0


def fresh(root: Path, name: str) -> Path:
    """Returns a new folder with the script, which counts its runs there."""
    folder = root / name
    folder.mkdir()
    counting = f"open({str(counter(folder))!r}, 'a').write('x\\n')\n" if name.startswith("sweep") else ""
    text = SCRIPT.read_text()
    head, quotes, rest = text.partition("import math")
    (folder / "train_gpt.py").write_text(f"{head}{counting}{quotes}{rest}")
    return folder


def seconds_between(output: str, first: str, last: str) -> float:
    """Returns the seconds from the first line with a word to the last with another, by the console's clock."""
    times = {word: re.findall(rf"^(\d\d:\d\d:\d\d)  {word} ", output, re.MULTILINE) for word in (first, last)}
    begin, end = (datetime.strptime(text, "%H:%M:%S") for text in (times[first][0], times[last][-1]))
    return (end - begin).total_seconds()


def main() -> None:
    """Measures, prints a table, and last one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="of the script, 2 ms each (%(default)s)")
    parsed = parser.parse_args()
    root, runs = Path(tempfile.mkdtemp(prefix="golf-script-")), len(RATES) * len(GAINS)
    try:
        loop, sweep = fresh(root, "loop"), fresh(root, "sweep")
        loop_seconds, loop_told = run(loop_command(parsed.steps), loop)
        sweep_seconds, told = run(sweep_command(parsed.steps, sweep / "storage"), sweep)
        busy = seconds_between(told, "started", "done")
        again_seconds, _ = run(sweep_command(parsed.steps, sweep / "storage"), sweep)
        killed = {}
        for name, command in (("loop", loop_command(parsed.steps)), ("sweep", None)):
            folder = fresh(root, f"{name}-killed")
            words = command or sweep_command(parsed.steps, folder / "storage")
            run(words, folder, stop_at=runs // 2)
            run(words, folder)
            killed[name] = counted(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    per_run = loop_seconds / runs
    rows = {
        "a run in the loop, s": per_run,
        "the loop, s": loop_seconds,
        "the sweep, s": sweep_seconds,
        "the sweep again, s": again_seconds,
        "lines of the loop": len(LOOP.strip().splitlines()),
        "lines of the sweep": 1,
        "runs after a kill, loop": killed["loop"],
        "runs after a kill, sweep": killed["sweep"],
    }
    for label, value in rows.items():
        print(f"{label:28s} {value:8.2f}")
    print(loop_told.strip().splitlines()[-1])
    print(next(line for line in told.splitlines() if line.startswith("best: ")))
    result = {
        "runs": runs,
        "run_seconds": round(per_run, 3),
        "overhead_seconds_per_trial": round(busy / runs - per_run, 3),
        "startup_seconds": round(sweep_seconds - busy, 1),
        "repeat_seconds": round(again_seconds, 1),
        "runs_after_kill": killed,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

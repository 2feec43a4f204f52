"""Faults on purpose: at least 100 random kills over a sweep, spoiled storages, hostile files; one JSON object last.

    python -m benchmarks.faults --quick
    python -m benchmarks.faults --seed 1

An undisturbed sweep is the reference: 24 trials that share four trainings of one tree. Then the same sweep, in fresh
storages, is killed at random: part A (`forked.py`) kills many forked processes over one store, part B (`stack.py`) the
real command with Ray and an MLflow server. `grid.py` says what equal ledgers are. Measured, by `work.py`, from a log of
every optimiser step and scored chunk that any process computed:

- `largest_lost_work_seconds`: of all killed processes the most seconds of computing that had to be done again; to be
  compared with `save_seconds`, the interval of saving, and `longest_step_seconds`, one step or chunk.
- `stages_recomputed`: stages that a process computed a step or chunk of after their result had been published.

`--quick` takes at most ten minutes on two cores. The kept table is in benchmarks/results/.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import hostile
from benchmarks.faults import forked, stack, storages
from benchmarks.faults.forked import Killed
from benchmarks.faults.grid import Grid, differences, make_data, make_grid

SAVE_SECONDS = 0.5
STEPS, SMALL_STEPS = 150, 40


def part_a(grid: Grid, root: Path, chance: random.Random, kills: int, seconds: float) -> tuple[Killed, list[Killed]]:
    """The reference, and the sweep killed again and again in fresh storages until there were so many kills."""
    calm = forked.run(grid, root / "calm", None, 0)
    check(calm)
    say(f"undisturbed: {len(calm.entries)} trials in {calm.seconds:.0f} s")
    every, rounds, began = max(0.8, calm.seconds / 40), list[Killed](), time.monotonic()
    while (done := sum(sum(one.kinds.values()) for one in rounds)) < kills and time.monotonic() - began < seconds:
        one = forked.run(grid, root / f"killed-{len(rounds)}", chance, kills - done, every)
        wrong = differences(calm.entries, one.entries)
        say(f"A: {describe(one)}; " + (f"DIFFERENT: {wrong[:5]}" if wrong else "the same ledger"))
        rounds.append(one)
    return calm, rounds


def check(calm: Killed) -> None:
    """Raise RuntimeError unless the reference is what a disturbed sweep can be compared with."""
    statuses = Counter(entry["status"] for entry in calm.entries.values())
    account = calm.account
    assert account is not None
    if set(statuses) != {"done", "infeasible"} or account.redone or account.recomputed:
        raise RuntimeError(f"the undisturbed sweep is no reference: {statuses}, {account.redone} steps done twice")


def describe(one: Killed) -> str:
    """A disturbed sweep in words."""
    account = one.account
    assert account is not None
    kinds = ", ".join(f"{count} {kind}" for kind, count in one.kinds.items())
    redone = f"{account.redone} of {account.computed} steps and chunks were redone"
    most = max(account.lost_seconds.values(), default=0.0)
    lost = f"at most {most:.2f} s lost, {len(account.recomputed)} finished stages recomputed"
    return f"{sum(one.kinds.values())} kills ({kinds}) in {one.seconds:.0f} s; {redone}, {lost}"


def totals(calm: Killed, rounds: list[Killed]) -> dict[str, Any]:
    """The figures of all disturbed sweeps together."""
    accounts = [one.account for one in rounds if one.account is not None]
    kinds: Counter[str] = sum((one.kinds for one in rounds), Counter())
    assert calm.account is not None
    return {
        "kills": sum(kinds.values()),
        "kills_by_kind": dict(kinds),
        "kills_within_a_stage": sum(account.working for account in accounts),
        "sweeps": len(rounds),
        "ledgers_equal": bool(rounds) and all(not differences(calm.entries, one.entries) for one in rounds),
        "stages_recomputed": sum(len(account.recomputed) for account in accounts),
        "largest_lost_work_seconds": max((max(a.lost_seconds.values(), default=0.0) for a in accounts), default=0.0),
        "lost_work_seconds": sum(sum(account.lost_seconds.values()) for account in accounts),
        "save_seconds": SAVE_SECONDS,
        "longest_step_seconds": max((account.longest_seconds for account in accounts), default=0.0),
        "steps_redone": sum(account.redone for account in accounts),
        "steps_computed": sum(account.computed for account in accounts),
    }


def study(parsed: argparse.Namespace, root: Path) -> dict[str, Any]:
    """All parts, in an order in which nothing is forked after threads were started."""
    began, chance, data = time.monotonic(), random.Random(parsed.seed), make_data(root)
    grid, small = make_grid(data, STEPS, SAVE_SECONDS), make_grid(data, SMALL_STEPS, 0.1)
    forked.warm(grid, root / "warm")
    calm, rounds = part_a(grid, root / "a", chance, parsed.kills, 200.0 if parsed.quick else 3600.0)
    say("spoiled storages")
    table = []
    for row in storages.rows(small, root / "rows"):
        table.append(row)
        say(f"{row.fault}: {row.outcome}; {'the same ledger' if row.recovered else 'NOT RECOVERED'}")
    say("hostile files")
    files = hostile.run(parsed.hostile, parsed.seed)
    found: dict[str, Any] = {}
    if parsed.command_kills:
        say("the command, Ray and MLflow")
        every, window = (12.0, 90.0) if parsed.quick else (20.0, 7200.0)
        whole = stack.run(grid, root / "b", chance, parsed.command_kills, every, window, say)
        say(f"B: {describe(whole.killed)}; started {whole.starts} times, {whole.hangs} hangs, {whole.outages}")
        found = {"command_starts": whole.starts, "hangs": whole.hangs, "mlflow": whole.outages}
        rounds = [*rounds, whole.killed]
    recovered = {row.fault: row.recovered for row in table}
    files = {name: files[name] for name in ("hostile_inputs", "hostile_crashes")}
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    return totals(calm, rounds) | files | {"recovered": recovered} | found | seconds


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the study; 1 when anything was lost."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.faults", allow_abbrev=False, description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="at most ten minutes on two cores")
    parser.add_argument("--seed", type=int, default=0, help="of the kills and the hostile files (%(default)s)")
    parser.add_argument("--kills", type=int, help="of part A (100; 300 without --quick)")
    parser.add_argument("--command-kills", type=int, help="of part B (8; 100 without --quick); 0: no part B")
    parser.add_argument("--hostile", type=int, default=100_000, help="(%(default)s)")
    parsed = parser.parse_args(arguments)
    for name, quick, whole in (("kills", 100, 300), ("command_kills", 8, 100)):
        if getattr(parsed, name) is None:
            setattr(parsed, name, quick if parsed.quick else whole)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        numbers = study(parsed, Path(folder))
    print(json.dumps(numbers))
    good = numbers["ledgers_equal"] and not numbers["stages_recomputed"] and not numbers["hostile_crashes"]
    return 0 if good and all(numbers["recovered"].values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

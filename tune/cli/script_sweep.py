"""The command run_sweep.py SCRIPT: a sweep of anybody's training script."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from golf.cli.terminal import python_line
from tune.cli.afterwards import Afterwards
from tune.cli.options import limits_of, machines_of, places_of, run_anywhere
from tune.cli.runs import Runs
from tune.cli.script_target import ask_trust, check_here, read_enqueued, read_space, read_target, told_changes
from tune.cli.session import Session
from tune.cli.sweep_report import show_sweep
from tune.cli.tables import Column, format_table, terminal_width
from tune.cluster.finished import finished
from tune.records.entries import WorldShape
from tune.search.early_stopping import COMPARED_AT, Halving
from tune.search.search import Search, SearchConfig
from tune.search.space import Trial, only_of
from tune.workloads.script.outcome import FROM_THE_START
from tune.workloads.script.workload import ScriptWorkload


class ScriptSweepCommand:
    """A sweep of a script from the command line: shown, or run and reported."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """Reads script, space and ledger. Raises: ValueError, OSError for what cannot be run."""
        self.parsed, self.places, self.machines = parsed, places_of(parsed), machines_of(parsed)
        self.limits = limits_of(parsed)
        self.storage, target = self.places.storage, read_target(parsed)
        self.name = parsed.name or target.preset
        space, places = read_space(target, parsed.space, parsed.allow_unknown_env)
        space = only_of(space, parsed.only) if parsed.only else space
        if not space:
            raise ValueError(f"give what is searched: --space NAME=A,B,...; {_inspect(parsed.preset)} lists the names")
        settings = msgspec.structs.replace(target.settings, places={**target.settings.places, **places})
        self.target, self.halving = replace(target, settings=settings), self._halving()
        points = tuple(read_enqueued(target, parsed.enqueue, space, places))
        strategy, trials = parsed.search, parsed.trials
        config = SearchConfig(spaces=(space,), strategy=strategy, num_trials=trials, seed=parsed.seed, enqueued=points)
        planned = self.machines.planned_workers()
        keeps_screened = self.halving is not None
        self.known = finished(self.name, self.storage, settings.files.digest, keeps_screened, settings.tags)
        self.search = Search(config, self.workload(planned.world).trial, self.known)

    def _halving(self) -> Halving | None:
        steps = self.parsed.fixed_steps
        if steps is None or self.parsed.no_early_stopping:
            return None
        at = tuple(max(1, steps // part) for part in COMPARED_AT)
        return Halving(file=self.storage.screened(self.name), steps=at, top=min(self.parsed.top, 1.0))

    def workload(self, world: WorldShape) -> ScriptWorkload:
        """Returns what the trials run, on the machines of one trial."""
        return self.target.workload(world, self.halving)

    def run(self) -> int:
        """Shows or runs the sweep. Returns: the exit status."""
        if self.parsed.dry_run:
            print(plan_text(self.search.planned(), len(self.known)))
            return 0
        if self.machines.address is None:
            check_here(self.target, self.machines.gpus_per_worker)
        ask_trust(self.target, self.storage, self.parsed.trust)
        changes = told_changes(self.target, self.storage, self.name)
        if changes is not None:
            print(changes)
        self.target = self.target.kept(self.storage, self.name)
        session = Session(self.places, self.machines, self.target.preset)
        with Afterwards(self.parsed.then, session, self.name, self.search) as afterwards:
            with session:
                session.run(
                    Runs(
                        name=self.name,
                        search=self.search,
                        make_workload=self.workload,
                        known=self.known,
                        headline=f"; {self._stopping()}",
                        share=not self.parsed.no_reuse,
                        limits=self.limits,
                        keep_screened=self.halving is not None,
                        tags=self.target.settings.tags,
                    )
                )
            status = show_sweep(session, self.name, self.search, f", and the same command continues; {FROM_THE_START}")
            session.finish_mirror()
            afterwards.status = status
        return status

    def _stopping(self) -> str:
        """Returns in words whether trials are stopped early, and why not."""
        if self.halving is not None:
            return f"trials behind at step {' or '.join(map(str, self.halving.steps))} are stopped early"
        if self.parsed.no_early_stopping:
            return "no trial is stopped early"
        return "no trial is stopped early: losses compare at equal steps only (--fixed-steps N)"


def plan_text(trials: Sequence[Trial], num_known: int) -> str:
    """Returns the trials that would run as a table."""
    columns = [
        Column("trial", [trial.trial for trial in trials], align="left"),
        Column("settings", [trial.name for trial in trials], align="left"),
    ]
    lines = format_table(columns, terminal_width()) if trials else []
    known = f"; {num_known} are finished and not run again" if num_known else ""
    return "\n".join([*lines, f"{len(trials)} trials{known}; an interrupted trial begins anew: {FROM_THE_START}"])


def _inspect(script: str) -> str:
    return python_line("golf", "script", "inspect", script)


def run(parsed: argparse.Namespace) -> int:
    """Runs or continues a sweep of a script, here or on a cluster. Returns: the exit status."""
    return run_anywhere("sweep", parsed, lambda local: ScriptSweepCommand(local).run())

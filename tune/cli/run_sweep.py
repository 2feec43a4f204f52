"""The command run_sweep.py: shows, plans, or runs a sweep and reports it."""

import argparse
from dataclasses import replace
from pathlib import Path

from golf.cli.inputs import names_file, read_config
from golf.cli.options import assignments
from golf.cli.start import imported
from golf.config.config import RunConfig
from golf.config.presets import DEMO_PRESETS
from golf.runtime.results import LADDER
from tune.cache.prefix_tree import format_trees
from tune.cache.store import Store
from tune.cli.afterwards import Afterwards
from tune.cli.calibrate import calibrate
from tune.cli.options import limits_of, machines_of, open_data, places_of, run_anywhere
from tune.cli.parsers import DEMO_TRIALS
from tune.cli.runs import Runs
from tune.cli.session import Session
from tune.cli.sweep_report import entries_of, show_sweep
from tune.cluster.finished import finished
from tune.planning.forecast import Forecast, forecast
from tune.planning.measured import MeasuredTimings
from tune.planning.published import PUBLISHED_PRESETS, PublishedTimings
from tune.planning.stage_timings import TRAIN, StageTimings, none_published
from tune.planning.text import format_forecast, format_forecast_vs_actual
from tune.records.entries import Config, TrialEntry, TrialState, WorldShape
from tune.records.ledger import Ledger
from tune.records.provenance import outdated
from tune.search.early_stopping import Halving
from tune.search.search import Search, SearchConfig
from tune.search.successive_halving import SuccessiveHalving
from tune.workloads.gepa.describe import describe_text_passes, dry_run_table
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.space import enqueued_points, only_space, read_choices, space_of
from tune.workloads.gepa.stages import training_trees
from tune.workloads.gepa.workload import GepaWorkload


def search_config(parsed: argparse.Namespace, base: RunConfig) -> SearchConfig:
    """Returns the search that the command line asks for: the preset's space with --space, less the fields of --set.

    Args: parsed: the command line; base: configuration of every trial.
    """
    preset = None if names_file(parsed.preset) else parsed.preset
    changes, fixed = read_choices(parsed.space), assignments(parsed.set)
    only = parsed.only
    space = only_space(only, base, preset, changes, fixed) if only else space_of(preset, changes, fixed)
    trials = parsed.trials
    if trials is None and parsed.preset in DEMO_PRESETS and parsed.search != "grid":
        trials = DEMO_TRIALS
    points = tuple(enqueued_points(parsed.enqueue, space, base))
    return SearchConfig(spaces=(space,), strategy=parsed.search, num_trials=trials, seed=parsed.seed, enqueued=points)


def _stopped_in_training(entry: TrialEntry) -> bool:
    return entry.state == TrialState.SCREENED and not entry.screening


class SweepCommand:
    """A sweep from the command line: shown, planned, or run and reported."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """Reads configuration, data and ledger. Raises: ValueError, OSError for what cannot be run."""
        self.parsed, self.places, self.machines = parsed, places_of(parsed), machines_of(parsed)
        self.limits = limits_of(parsed)
        self.base, self.storage = read_config(parsed), self.places.storage
        self.preset = Path(parsed.preset).stem
        self.name = parsed.name or self.preset
        config = search_config(parsed, self.base)
        self.dataset = open_data(parsed.data, self.base, parsed.preset, self.storage)
        screening = SuccessiveHalving(fraction=parsed.screen_fraction, top=parsed.top)
        self.screening = None if parsed.no_screening else screening
        self.training_halving = self._training_halving()
        priced = (parsed.plan or parsed.calibrate) and parsed.dollars_per_gpu_hour is not None
        published = parsed.plan and parsed.preset in PUBLISHED_PRESETS
        planned = self.machines.planned_workers(assume_gpus=priced or published)
        workload = self.workload(planned.world)
        known = finished(self.name, self.storage, workload.code, self.keeps_screened)
        self.known = [entry for entry in known if self.training_halving is not None or not _stopped_in_training(entry)]
        self.search = Search(config, workload.trial, self.known)
        self.planned_workload = workload.for_trials(self.search.candidates())

    def workload(self, world: WorldShape) -> GepaWorkload:
        """Returns what the trials run, on the machines of one trial."""
        workload = GepaWorkload.of(self.base, self.preset, self.dataset, world)
        return replace(
            workload,
            screening=self.screening,
            screening_file=self.storage.screened(self.name),
            training_halving=self.training_halving,
        )

    def _training_halving(self) -> Halving | None:
        if self.parsed.early_stopping != "training":
            return None
        if self.base.validate_every is None:
            steps = max(1, self.base.schedule.steps // 8)
            raise ValueError(
                "--early-stopping training compares validation curves and nothing is validated on the way; "
                f"give --set validate_every={steps}"
            )
        return Halving(file=self.storage.screened(self.name), top=self.parsed.top)

    @property
    def keeps_screened(self) -> bool:
        """Whether trials that were stopped early stay so."""
        return self.screening is not None or self.training_halving is not None

    def run(self) -> int:
        """Shows, plans or runs the sweep. Returns: the exit status."""
        trials = self.search.planned()
        if self.parsed.dry_run:
            print(dry_run_table(trials, self.dataset, len(self.known)))
            return 0
        if self.parsed.calibrate:
            return self.calibrate()
        planned = self.forecast(self.timings())
        passes = describe_text_passes(list(map(config_of, self.search.candidates())), self.dataset)
        if self.parsed.plan:
            self.show_plan(planned)
            print(passes)
            return 0
        code = self.planned_workload.code
        num_outdated = sum(outdated(entry, code) for entry in Ledger(self.storage.ledger).latest(self.name))
        if num_outdated:
            reason = "ran with other code or another torch: they are run again, as far as it changes them"
            print(f"{num_outdated} trials {reason}")
        session = Session(self.places, self.machines, self.preset)
        with Afterwards(self.parsed.then, session, self.name, self.search) as afterwards:
            with session:
                session.run(
                    Runs(
                        name=self.name,
                        search=self.search,
                        make_workload=self.workload,
                        known=self.known,
                        headline=f", cap {self.base.cap_bytes:,} bytes; {passes}",
                        share=not self.parsed.no_reuse,
                        limits=self.limits,
                        keep_screened=self.keeps_screened,
                    )
                )
            status = show_sweep(session, self.name, self.search, "; the same command continues")
            print(format_forecast_vs_actual(planned, entries_of(self.storage, self.name, self.search)))
            session.finish_mirror()
            afterwards.status = status
        return status

    def timings(self) -> StageTimings:
        """Returns what is known of the stages' seconds: given, seen in the ledger, or for --plan published."""
        published = PublishedTimings(self.planned_workload).seconds if self.parsed.plan else none_published
        return StageTimings(self.planned_workload, Ledger(self.storage.ledger).trials(), self.given(), published)

    def given(self) -> dict[str, float]:
        """Returns the seconds that the command line gives, by stage and unit of its work."""
        step = {} if self.parsed.step_seconds is None else {TRAIN: self.parsed.step_seconds}
        return dict(self.parsed.stage_seconds) | step

    def calibrate(self) -> int:
        """Measures steps and chunks on this machine, and prints what the sweep would take. Returns: the exit status."""
        workload = self.planned_workload
        measured = MeasuredTimings(workload=workload, measured=calibrate(workload))
        seen = self.timings()

        def seconds(config: Config, stage: str, units: float | None) -> float | None:
            known = measured.seconds(config, stage, units)
            return seen.seconds(config, stage, units) if known is None else known

        print(measured.text())
        self.show_plan(self.forecast(StageTimings(workload, (), self.given(), seconds)))
        return 0

    def forecast(self, timings: StageTimings) -> Forecast:
        """Returns the work of the trials that are planned, before anything is started, with these seconds of stages."""
        trials, store, workload = self.search.planned(), Store(self.places.store), self.planned_workload

        def is_stored(key: str) -> bool:
            return not self.parsed.no_reuse and store.find(key) is not None

        return forecast(workload, trials, timings, is_stored, workload.screening_odds(len(trials)))

    def show_plan(self, planned: Forecast) -> None:
        """Prints and draws the tree of shared trainings, the work and its price."""
        trials, picture = self.search.planned(), self.storage.sweep(self.name) / "plan.svg"
        names = {trial.trial: trial.name for trial in trials}
        trees = training_trees({trial.trial: config_of(trial) for trial in trials})
        picture.parent.mkdir(parents=True, exist_ok=True)
        imported("tune.planning.plan_plot:draw_tree")(trees, names, picture)
        print(format_trees(trees, names))
        slots = self.machines.concurrent or int((self.parsed.gpus or 0) // max(planned.units, 1)) or 1
        print(f"\n{format_forecast(planned, slots, self.parsed.dollars_per_gpu_hour)}")
        for line in self.published_notes() if self.parsed.plan else []:
            print(line)
        print("trials over the cap make it less; TPE may choose other trials than these")
        print(f"picture: {picture}")

    def published_notes(self) -> list[str]:
        """Returns one line for each published record that seconds of the plan are taken from."""
        timings, published = self.timings(), PublishedTimings(self.planned_workload)
        taken = {
            stage: trial.config
            for trial in self.search.planned()
            for stage in (TRAIN, *LADDER)
            if not timings.is_own(trial.config, stage)
        }
        return published.notes(taken)


def run(parsed: argparse.Namespace) -> int:
    """Runs or continues a sweep, here or on a cluster. Returns: the exit status."""
    if parsed.calibrate and parsed.address:
        raise ValueError("--calibrate measures this machine: give it without --address, on a machine with the GPUs")
    return run_anywhere("sweep", parsed, lambda local: SweepCommand(local).run())

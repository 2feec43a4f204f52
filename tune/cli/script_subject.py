"""A training script as the subject of a seed study."""

import re
from collections.abc import Sequence

from golf.runtime.results import digest
from golf.submission.study import StudyVerdict
from tune.cache.store import Store
from tune.cli.options import Machines
from tune.cli.script_sweep import plan_text
from tune.cli.script_target import ScriptTarget, ask_trust, check_here, told_changes
from tune.cli.study_subject import Exported
from tune.records.entries import Config, WorldShape
from tune.records.layout import Storage
from tune.search.space import Trial
from tune.study.script_export import export_script_study
from tune.workloads.script.settings import BPB, PLACES, config_of
from tune.workloads.script.workload import SCRIPT, ScriptWorkload

_LONGEST_NAME = 120
"""Characters of a study's name, which is also a folder's."""


class ScriptSubject:
    """A script with its settings."""

    kind = SCRIPT
    stream = None

    def __init__(
        self, target: ScriptTarget, machines: Machines, trial: str | None = None, trusted: bool = False
    ) -> None:
        """Args: target: the script; machines: that it is to run on; trial: whose settings these are, the beginning of
        its id; trusted: whether it is run without asking.

        Raises: ValueError for a script without a seed.
        """
        if target.settings.seed_field is None:
            raise ValueError(
                f"{target.settings.files.script} reads no seed: name what sets it with --seed-name NAME, arg.NAME or "
                "constant.NAME"
            )
        self.target, self.machines, self.trusted = target, machines, trusted
        self.preset, self.data, self.tags = target.preset, target.data, target.settings.tags
        self.study_name = _study_name(target, trial)
        self.config: Config = config_of(target.settings, {})
        objective = target.settings.objective.name
        self.unit = "BPB" if objective == BPB else objective

    @property
    def nats_per_bpb(self) -> float | None:
        """Returns 1 where another metric counts; None for BPB, of which only a run says it."""
        return None if self.unit == "BPB" else 1.0

    def prepare(self, storage: Storage, name: str) -> None:
        """Copies the script's files, with consent. Raises: ValueError for what cannot run here."""
        if self.machines.address is None:
            check_here(self.target, self.machines.gpus_per_worker)
        ask_trust(self.target, storage, self.trusted)
        changes = told_changes(self.target, storage, name)
        if changes is not None:
            print(changes)
        self.target = self.target.kept(storage, name)

    def workload(self, world: WorldShape) -> ScriptWorkload:
        """Returns what the runs are, on the machines of one run."""
        return self.target.workload(world)

    def headline(self, trials: Sequence[Trial]) -> str:
        """Returns what the seed does not reach, where that is seen."""
        return "" if self.target.needs.seed_reaches_data else "; the seed does not reach the order of the data"

    def plan_text(self, trials: Sequence[Trial], num_known: int) -> str:
        """Returns the runs as a table."""
        return plan_text(trials, num_known)

    def export(self, storage: Storage, name: str, verdict: StudyVerdict, store: Store) -> Exported:
        """Writes the study's folder; what the rules ask of other people's scripts is checked in a record folder."""
        return export_script_study(storage, name, verdict), None


def _study_name(target: ScriptTarget, trial: str | None) -> str:
    """Returns the name of a study: the script, and the trial or all settings that are no paths."""
    fixed = target.settings.fixed
    given = [f"{name}={value}" for place in PLACES for name, value in sorted(fixed[place].items()) if "/" not in value]
    parts = [target.preset, *([trial] if trial else given)]
    name = "-".join(re.sub(r"[^\w.+=-]+", "_", part) for part in parts)
    return f"{name if len(name) <= _LONGEST_NAME else f'{name[:60]}-{digest(name)[:8]}'}-seeds"

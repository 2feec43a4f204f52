"""The command run_seeds.py: runs a seed study and reports what it shows, compares studies, or plans one."""

import argparse
import re
from collections.abc import Sequence

from msgspec.structs import replace

from golf.cli.terminal import python_line
from golf.compliance.points import brief
from golf.config.rules import MIN_SEEDS, P_CLAIM
from golf.runtime.results import digest
from golf.submission.study import StudyVerdict
from tune.cache.store import Store
from tune.cli.options import run_anywhere
from tune.cli.outcome_table import ending_of
from tune.cli.report import report_at_end
from tune.cli.runs import Runs
from tune.cli.script_subject import ScriptSubject
from tune.cli.script_target import target_of_trial
from tune.cli.seed_options import SeedStudyOptions, options_of
from tune.cli.session import Session
from tune.cli.study_subject import GepaSubject, StudySubject
from tune.cli.study_target import find_data, find_target, likely_nats_per_bpb, trial_of
from tune.cluster.finished import finished
from tune.records.entries import (
    REPEAT,
    SEED,
    PlanEntry,
    SequentialPlan,
    StudyPlan,
    TrialEntry,
    VerdictEntry,
)
from tune.records.ledger import Ledger
from tune.records.provenance import versions
from tune.search.search import Search, SearchConfig
from tune.search.space import Space
from tune.study.baseline import Baseline, baseline_of, check_same_text, target_of
from tune.study.conditions import check_unmixed, configuration_key
from tune.study.noise import PUBLISHED, Noise, pooled_noise, seeds_table
from tune.study.paired import compare
from tune.study.preregistration import SEEDS, agreed_plan, fixed_seeds, fresh_seeds, known_seeds
from tune.study.runs import Study, study_of
from tune.study.sequential_test import NO_GAIN_ALPHA, nominal_levels
from tune.study.text import comparison_text, power_text, verdict_text
from tune.study.verdict import due_seeds, judge
from tune.tracking.tracker import runs_page
from tune.workloads.script.workload import SCRIPT


class SeedStudyCommand:
    """A seed study from the command line: shown, or run and judged."""

    def __init__(self, options: SeedStudyOptions, subject: StudySubject) -> None:
        """Reads baseline and ledger. Raises: ValueError, OSError for what cannot be run.

        Args:
            options: of the command line.
            subject: what is run.
        """
        self.options, self.storage, self.subject = options, options.places.storage, subject
        self.ledger = Ledger(self.storage.ledger)
        self.name = options.name or subject.study_name
        if not re.fullmatch(r"[\w.\-+=]+", self.name):
            raise ValueError(f'a study\'s name has letters, digits and . - + = _ only, got "{self.name}"')
        self.configuration = configuration_key(subject.config, subject.kind)
        self.code = subject.workload(options.machines.planned_workers().world).code
        self.baseline = self.find_baseline()

    def find_baseline(self) -> Baseline | None:
        """Returns the baseline, None where none is asked for. Raises: ValueError for one on another stream."""
        names, in_nats = self.options.baseline, self.options.baseline_in_nats
        if self.options.target_value is not None:
            return target_of(self.subject.unit, self.options.target_value)
        if not names:
            return None
        baseline = baseline_of(names, self.ledger, self.subject.nats_per_bpb, in_nats, self.subject.unit)
        own, other = self.subject.stream, None if baseline.study is None else baseline.study.stream
        if own is not None and other is not None:
            check_same_text(self.name, own, baseline.name, other.size)
        return baseline

    def run(self) -> int:
        """Shows the study, or runs or continues it and reports what it shows. Returns: the exit status."""
        wanted, known = self.wanted_plan(), self.finished()
        self.check_known(known, will_run=False)
        plan = agreed_plan(self.name, self.earlier_plan(), wanted, len(self.ledger.trials(self.name)))
        if self.options.dry_run:
            search = self.search(plan, plan.seeds, known)
            print(f"study {self.name}: seeds {' '.join(map(str, plan.seeds))}")
            print(self.subject.plan_text(search.planned(), len(known)))
            return 0
        self.subject.prepare(self.storage, self.name)
        if plan != self.earlier_plan():
            self.ledger.append(PlanEntry(study=self.name, plan=plan))
        with Session(self.options.places, self.options.machines, self.subject.preset) as session:
            self.run_due(plan, session)
        status = self.conclude(plan, session)
        session.finish_mirror()
        return status

    def earlier_plan(self) -> StudyPlan | None:
        """Returns the study's plan in the ledger."""
        plans = self.ledger.plans(self.name)
        return plans[-1].plan if plans else None

    def wanted_plan(self) -> StudyPlan:
        """Returns the plan that the command line asks for. Raises: ValueError for seeds that cannot be planned."""
        options = self.options
        given, sequential = SEEDS if options.seeds is None else options.seeds, None
        seeds = fixed_seeds(given, len(given))
        if options.max_seeds is not None and self.baseline is not None:
            known = known_seeds(self.configuration, self.name, self.ledger.trials())
            seeds = fresh_seeds(options.seeds, options.max_seeds, known, self.earlier_plan())
            looks = tuple(range(MIN_SEEDS, options.max_seeds + 1))
            nominal_levels(None if self.baseline.published else len(self.baseline.bpb), looks, P_CLAIM)
            sequential = SequentialPlan(
                looks=looks,
                baseline=self.baseline.name,
                baseline_bpb=self.baseline.bpb,
                published=self.baseline.published,
                margin_nats=options.margin_nats,
                alpha=P_CLAIM,
                no_gain_alpha=NO_GAIN_ALPHA,
            )
        return StudyPlan(
            configuration=digest(self.configuration),
            data=self.subject.data,
            seeds=seeds,
            repeats=options.repeats,
            cold=options.cold,
            sequential=sequential,
        )

    def check_known(self, known: Sequence[TrialEntry], will_run: bool) -> None:
        """Raises: ValueError where the study's runs are not what this command runs.

        Args: will_run: whether anything is run: only then other code and versions matter.
        """
        if known:
            coming = replace(known[-1], config=dict(self.subject.config), data=self.subject.data, device=None)
            coming = replace(coming, code=self.code, environment=versions()) if will_run else coming
            check_unmixed(self.name, known, coming)

    def finished(self) -> list[TrialEntry]:
        """Returns the runs that are not run again."""
        tags = {"study": self.name, **self.subject.tags}
        return finished(self.name, self.storage, self.code, keep_screened=False, tags=tags)

    def search(self, plan: StudyPlan, seeds: Sequence[int], known: Sequence[TrialEntry]) -> Search:
        """Returns a search that gives these seeds, and the plan's repeats of the first."""
        spaces: list[Space] = [{SEED: list(seeds)}]
        if plan.repeats:
            spaces.append({SEED: [plan.seeds[0]], REPEAT: list(range(1, plan.repeats + 1))})
        workload = self.subject.workload(self.options.machines.planned_workers().world)
        return Search(SearchConfig(spaces=tuple(spaces), strategy="grid"), workload.trial, known)

    def current(self) -> Study | None:
        """Returns the study as the ledger has it now; None before its first run."""
        return study_of(self.name, self.ledger) if self.ledger.trials(self.name) else None

    def run_due(self, plan: StudyPlan, session: Session) -> None:
        """Runs the seeds of one look after another until none is due; a look that gave no value is not tried twice."""
        last: tuple[int, ...] = ()
        while not session.stopped and (seeds := due_seeds(self.current(), plan)) and seeds != last:
            last, known = seeds, self.finished()
            search = self.search(plan, seeds, known)
            if search.num_trials > len(search.given):
                self.check_known(known, will_run=True)
                session.run(
                    Runs(
                        name=self.name,
                        search=search,
                        make_workload=self.subject.workload,
                        known=known,
                        what="study",
                        headline=self.subject.headline(search.candidates()),
                        share=not plan.cold,
                        keep_screened=False,
                        tags={"study": self.name, **self.subject.tags},
                    )
                )

    def conclude(self, plan: StudyPlan, session: Session) -> int:
        """Prints the verdict; when the runs came to their end, keeps it in the ledger and exports the study."""
        study = self.current()
        if study is not None:
            history = [entry.verdict for entry in self.ledger.verdicts(self.name)]
            verdict = judge(study, plan, self.baseline, self.options.margin_nats, self.options.track, history)
            verdict = replace(verdict, text=verdict_text(study, verdict))
            print(f"\n{verdict.text}\n")
            if not session.stopped:
                self.keep(verdict, history)
            problem = session.send(self.name)
            print(f"every number: {self.ledger.path}")
            if problem is None and not session.stopped:
                print(report_at_end(self.storage, self.name, session.uri, session.preset, is_study=True))
            print(problem or runs_page(session.uri, session.preset, self.name))
        if session.stopped:
            print("stopped: what was finished is kept; the same command continues")
            return 130
        ending = ending_of(self.ledger.latest(self.name), self.storage.root, "run")
        if ending.text:
            print(ending.text)
        return ending.status

    def keep(self, verdict: StudyVerdict, history: Sequence[StudyVerdict]) -> None:
        """Exports the study, checks what was exported, and writes a verdict that is new into the ledger."""
        folder, checked = self.subject.export(self.storage, self.name, verdict, Store(self.options.places.store))
        verdict = replace(verdict, check=checked)
        if not history or verdict != history[-1]:
            self.ledger.append(VerdictEntry(study=self.name, verdict=verdict))
        if verdict.check is not None:
            print(f"checks: {brief(verdict.check)} (all of it: {python_line('golf', 'check', str(folder))})")
        submit = python_line("golf", "submit", str(folder))
        print(f"a record folder: {submit} --author NAME --github-id ID --name TITLE")


def subject_of(options: SeedStudyOptions) -> StudySubject:
    """Returns what the command line names: a preset, a file, or a trial of the ledger, which may be a script's."""
    storage = options.places.storage
    trials = Ledger(storage.ledger).trials()
    entry = trial_of(options.target, trials)
    if entry is not None and entry.workload == SCRIPT:
        return ScriptSubject(target_of_trial(entry, storage), options.machines, entry.trial[:8])
    target = find_target(options.target, trials)
    return GepaSubject(target, find_data(options.target, target, storage))


def show_comparison(options: SeedStudyOptions) -> int:
    """Compares what the ledger holds."""
    ledger = Ledger(options.places.storage.ledger)
    print(comparison_text(compare(options.compare, ledger, options.margin_nats)))
    return 0


def show_power(options: SeedStudyOptions) -> int:
    """Prints how many seeds a gain needs, by the noise given, the ledger's, and the published one."""
    trials = Ledger(options.places.storage.ledger).trials()
    preset = find_target(options.target, trials).preset
    factor, stream = likely_nats_per_bpb(options.target.data, trials, preset, options.places.storage)
    print_power(options, preset, factor, stream)
    return 0


def print_power(options: SeedStudyOptions, preset: str, factor: float, stream: str) -> None:
    """Prints how many seeds a gain needs.

    Args:
        options: of the command line.
        preset: whose noise in the ledger counts.
        factor: nats per token that are 1 BPB.
        stream: of which validation stream that is.
    """
    ledger = Ledger(options.places.storage.ledger)
    trials = ledger.trials()
    margin = options.margin_nats / factor
    gains = [*options.gains_bpb, *(gain / factor for gain in options.gains_nats)]
    num_baseline = None
    if options.baseline:
        baseline = baseline_of(options.baseline, ledger, factor, options.baseline_in_nats)
        num_baseline = None if baseline.published else len(baseline.bpb)
    noises = [PUBLISHED]
    if options.noise_bpb is not None:
        noises = [Noise(sd_bpb=options.noise_bpb, source="as given")]
    elif (own := pooled_noise(trials, preset)) is not None:
        noises = [own, PUBLISHED]
    texts = []
    for noise in noises:
        table = seeds_table(noise.sd_bpb, margin, gains, num_baseline)
        texts.append(power_text(noise, table, margin * factor, factor, stream, num_baseline))
    print("\n\n".join(texts))


def run(parsed: argparse.Namespace) -> int:
    """Compares, plans or runs, here or on a cluster. Returns: the exit status."""

    def act(local: argparse.Namespace) -> int:
        options = options_of(local)
        if options.compare:
            return show_comparison(options)
        return show_power(options) if options.power else SeedStudyCommand(options, subject_of(options)).run()

    return run_anywhere("seeds", parsed, act)

"""The verdict on a seed study: what its seeds show, and every reason why they may not show it.

Faults are what forbids a claim whatever p is: a seed without a result, over the cap or over the track's seconds, too
few seeds. Notes are what a reader has to know.
"""

from collections.abc import Sequence

from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, RECORD, RECORD_DEVICE, TRACK_SECONDS
from golf.submission.study import NATS_UNITS, Comparison, OtherRun, SequentialResult, StudyVerdict
from tune.records.entries import StudyPlan
from tune.study.baseline import Baseline, check_same_text, differences
from tune.study.runs import Study, evaluation_seconds, failed_points, training_seconds
from tune.study.sequential_test import sequential_decision
from tune.study.stats import cap_probability, noise_split, one_sample_gain, summarise, welch_gain


def judge(
    study: Study,
    plan: StudyPlan | None = None,
    baseline: Baseline | None = None,
    margin_nats: float = MARGIN_NATS,
    track: str = NON_RECORD,
    history: Sequence[StudyVerdict] = (),
) -> StudyVerdict:
    """Returns the verdict on a study, without its text and check.

    Args: study: its runs; plan: as the ledger holds it; baseline: what it is compared with; margin_nats: nats per token
        that a gain has to exceed; track: whose seconds count; history: earlier verdicts on the study.
    Raises: ValueError when the baseline was scored on another stream, or is the study itself.
    """
    if baseline is not None and baseline.study is not None:
        other = baseline.study
        if not {row.identity for row in study.rows}.isdisjoint(row.identity for row in other.rows):
            raise ValueError(f'"{other.name}" shares runs with "{study.name}": a baseline has to be other runs')
        if study.stream is not None and other.stream is not None:
            check_same_text(study.name, study.stream.size, other.name, other.stream.size)
    values, factor = list(study.values.values()), study.nats_per_bpb
    comparison = None if baseline is None else _compare(study, plan, baseline, margin_nats)
    looks = None if comparison is None else comparison.sequential
    missing = tuple(seed for seed in (() if plan is None else plan.seeds) if seed not in {r.seed for r in study.rows})
    if looks is not None and looks.next_look is None:
        missing = ()
    sizes = [row.artifact_bytes for row in study.rows if row.artifact_bytes is not None]
    repeated = [run.score for run in study.repeats if run.score is not None]
    notes, in_nats = _notes(study, track), study.unit in NATS_UNITS
    if baseline is not None:
        notes += _notes_on_baseline(study, baseline) + _notes_on_looks(study, plan, baseline, looks, history)
    return StudyVerdict(
        track=track,
        facts=dict(study.facts),
        seeds=tuple(row.seed for row in study.rows if row.seed is not None),
        missing=missing,
        others=_other_runs(study),
        unit=study.unit,
        nats_per_bpb=factor if study.unit == "BPB" else None,
        bpb=summarise(values) if values else None,
        nats=summarise([value * factor for value in values]) if values and in_nats and factor is not None else None,
        cap_bytes=study.cap_bytes,
        cap=cap_probability(sizes, study.cap_bytes) if sizes and study.cap_bytes is not None else None,
        noise_bpb=noise_split(values, repeated) if min(len(values), len(repeated)) > 1 else None,
        comparison=comparison,
        faults=tuple(_faults(study, track, missing, looks)),
        notes=tuple(notes),
    )


def due_seeds(study: Study | None, plan: StudyPlan) -> tuple[int, ...]:
    """Returns the seeds that have to be there for the next look, present ones included; none when all is decided."""
    if plan.sequential is None:
        return plan.seeds
    if study is None or study.nats_per_bpb is None:
        return plan.seeds[: plan.sequential.looks[0]]
    looks = decide(study, plan, study.nats_per_bpb)
    return () if looks is None or looks.next_look is None else plan.seeds[: looks.next_look]


def decide(study: Study, plan: StudyPlan | None, nats_per_bpb: float) -> SequentialResult | None:
    """Returns the planned test with repeated looks; None where none was planned.

    Values are taken in the order of the plan, up to the first seed without one: what follows it would be a selection.
    """
    if plan is None or plan.sequential is None:
        return None
    test, by_seed = plan.sequential, study.values
    values: list[float] = []
    for seed in plan.seeds:
        if seed not in by_seed:
            break
        values.append(study.sign * by_seed[seed])
    others = [study.sign * value for value in test.baseline_bpb]
    baseline = others[0] if test.published else others
    margin = test.margin_nats / nats_per_bpb
    return sequential_decision(values, baseline, margin, test.alpha, test.looks, test.no_gain_alpha)


def _compare(study: Study, plan: StudyPlan | None, baseline: Baseline, margin_nats: float) -> Comparison | None:
    """Returns the test against a baseline; None without a value to compare."""
    values, factor = [study.sign * value for value in study.values.values()], study.nats_per_bpb
    if not values or factor is None:
        return None
    margin, others = margin_nats / factor, [study.sign * value for value in baseline.bpb]
    gain = one_sample_gain(values, others[0], margin) if baseline.published else welch_gain(values, others, margin)
    return Comparison(
        baseline=baseline.name,
        values=baseline.bpb,
        seeds=None if baseline.study is None else tuple(baseline.study.values),
        published=baseline.published,
        gain_nats=gain.scaled(factor),
        gain_bpb=gain,
        sequential=decide(study, plan, factor),
    )


def _other_runs(study: Study) -> tuple[OtherRun, ...]:
    """Returns every run of the configuration that is no seed of the study."""
    others = [(other.entry, other.why) for other in study.others]
    others += [(repeat, "the same seed again, for its noise") for repeat in study.repeats]
    return tuple(
        OtherRun(
            sweep=entry.sweep,
            trial=entry.trial,
            seed=entry.seed or 0,
            repeat=entry.repeat,
            state=entry.state,
            bpb=entry.score,
            why=why,
        )
        for entry, why in others
    )


def _faults(study: Study, track: str, missing: Sequence[int], looks: SequentialResult | None) -> list[str]:
    """Returns the reasons why nothing may be claimed: in the runs, what is still to come, and the track's seconds."""
    faults = [f"seed {row.seed} has no result: {row.state}, {row.reason}" for row in study.rows if not row.done]
    faults += [
        f"repeat {run.repeat} of seed {run.seed}: {run.state}, {run.reason}" for run in study.repeats if not run.done
    ]
    for row in study.rows:
        points = failed_points(row)
        faults += [f"seed {row.seed} fails point {', '.join(map(str, points))} of the rules"] if points else []
    faults += [f"seed {seed} was planned and has not run" for seed in missing]
    if len(study.counted) < MIN_SEEDS:
        faults.append(f"results of {len(study.counted)} seeds, a claim needs {MIN_SEEDS}")
    if looks is not None and looks.next_look is not None:
        faults.append(f"the planned test is not decided: its next look is at {looks.next_look} seeds")
    limit = TRACK_SECONDS[track]
    return faults + [
        f"seed {row.seed} takes {seconds:.1f} s for {part}, the track allows {limit:.0f} s"
        for row in study.rows
        for part, seconds in (("training", training_seconds(row)), ("evaluation", evaluation_seconds(row)))
        if seconds is not None and limit is not None and seconds > limit
    ]


def _notes(study: Study, track: str) -> list[str]:
    """Returns what a reader has to know of the runs, and what keeps them from being the record track's."""
    unknown = [name for name, value in study.facts.items() if value is None]
    if not any(name.startswith("environment.") for name in study.facts):
        unknown.append("environment")
    notes = [f"the ledger does not say the {' and '.join(unknown)} of these runs"] if unknown else []
    unchecked = [str(row.seed) for row in study.counted if failed_points(row) is None]
    notes += [f"seed {', '.join(unchecked)}: not checked against the rules' points"] if unchecked else []
    notes += [
        f"seed {row.seed} ran on {row.world_history} ranks, for nodes were lost: the same to rounding, not in seconds"
        for row in study.rows
        if row.world_history is not None
    ]
    sweeps = {row.seed: row.sweep for row in study.counted}
    notes += [
        f'seed {other.entry.seed} is also one of the trials of "{other.entry.sweep}": if the configuration was chosen '
        "there by its value, that value is better than a fresh seed's"
        for other in study.others
        if other.entry.done and other.num_configurations > 1
        if sweeps.get(other.entry.seed, other.entry.sweep) != other.entry.sweep
    ]
    device = study.facts.get("device") or "an unknown device"
    if track == RECORD and not all(part in device for part in RECORD_DEVICE):
        notes.append(f"the record track is timed on 8 x H100, these seconds are of {device}")
    shared = [str(row.seed) for row in study.rows if row.cold is False]
    if track == RECORD and shared:
        notes.append(f"seeds {', '.join(shared)} took results from the store: a record is run again with --cold")
    return notes


def _notes_on_baseline(study: Study, baseline: Baseline) -> list[str]:
    """Returns what a reader has to know of the baseline."""
    notes = []
    if baseline.study is not None:
        differ = differences(study, baseline.study)
        notes += [f"the baseline differs in {', '.join(differ)} too"] if differ else []
        notes += [
            f"seed {row.seed} of the baseline does not count: {row.state}, {row.reason}"
            for row in baseline.study.rows
            if not row.done
        ]
    if baseline.published:
        notes.append("the published mean is taken as exact: p is too small by as much as it is uncertain")
    elif len(baseline.bpb) < 2:
        notes.append("one baseline run shows no spread, so there is no test: run more seeds of it")
    if study.counted and study.nats_per_bpb is None:
        notes.append("the runs do not say their nats per token, in which the margin is: there is no test")
    return notes


def _notes_on_looks(
    study: Study,
    plan: StudyPlan | None,
    baseline: Baseline,
    looks: SequentialResult | None,
    history: Sequence[StudyVerdict],
) -> list[str]:
    """Returns what a reader has to know of looking more than once."""
    notes = []
    if looks is None:
        seen = {verdict.bpb.num_values for verdict in history if verdict.comparison is not None and verdict.bpb}
        before = sorted(num for num in seen if num < len(study.counted))
        if before:
            notes.append(
                f"a verdict was seen before at {', '.join(map(str, before))} seeds; p makes no allowance for that: "
                "--until-decided is the test that may look again"
            )
    if plan is not None and plan.sequential is not None and plan.sequential.baseline_bpb != baseline.bpb:
        notes.append(f"the planned test is against {plan.sequential.baseline} as it was then, not as it is now")
    return notes

"""The verdict on a seed study: what its seeds show, and every reason why they may not show it.

A `Study`, its plan and a baseline enter, a frozen `Verdict` leaves, for the ledger. Faults are what forbids a claim
whatever p is: a seed without a result, over the cap or over the track's seconds, too few seeds. Notes are what a reader
has to know. The statistics are those of `tune.study.stats` and `tune.study.sequential_test`; none are made here.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, P_CLAIM, P_LOOSE, RECORD, RECORD_DEVICE, TRACK_SECONDS
from tune.study.baseline import Baseline, check_same_text, differences, values_by_seed
from tune.study.preregistration import Plan
from tune.study.runs import Entry, Other, Run, Study
from tune.study.sequential_test import Sequential as Looks
from tune.study.sequential_test import Verdict as Decision
from tune.study.sequential_test import sequential_decision
from tune.study.stats import (
    CapRisk,
    Gain,
    NoiseSplit,
    Summary,
    cap_probability,
    noise_split,
    one_sample_gain,
    summarise,
    welch_gain,
)

TEXT = "text"
"""Field of a verdict's entry: all of it in words, as it was printed."""
VERDICT = "seeds"
"""Kind of a verdict's entry in the ledger."""


@dataclass(frozen=True)
class Verdict:
    """All that a study says."""

    study: str
    preset: str
    facts: dict[str, str | None]
    """Code, data, device and versions that all its runs share; None: unknown."""
    rows: tuple[Run, ...]
    missing: tuple[int, ...]
    """Seeds of the plan that have no run yet."""
    repeats: tuple[Run, ...]
    others: tuple[Other, ...]
    nats_per_bpb: float | None
    """ln 2 * bytes per token of the validation stream."""
    bpb: Summary | None
    """Of the seeds with a result; None without any."""
    nats: Summary | None
    cap_bytes: int | None
    cap: CapRisk | None
    """Over all seeds that were packed, those over the cap too."""
    track: str
    baseline: Baseline | None
    gain_nats: Gain | None
    """By Welch's test against seeds, by the t test against a published mean."""
    gain_bpb: Gain | None
    claim: bool | None
    """Whether p < 0.01; None without a test."""
    loose: bool | None
    """Whether p < 0.25."""
    noise_bpb: NoiseSplit | None
    """Same-seed noise beside seed noise; None without repeats."""
    sequential: Looks | None
    """The test with repeated looks, where the plan has one."""
    faults: tuple[str, ...]
    """What forbids a claim."""
    notes: tuple[str, ...]
    """What a reader has to know."""

    @property
    def holds(self) -> bool | None:
        """Whether the claim stands: by the planned test, and without a fault; None without a test."""
        shown = self.claim
        if self.sequential is not None:
            shown = self.sequential.verdict == Decision.GAIN
        return None if shown is None else shown and not self.faults


def judge(
    study: Study,
    plan: Plan | None = None,
    baseline: Baseline | None = None,
    margin_nats: float = MARGIN_NATS,
    track: str = NON_RECORD,
    history: Sequence[Entry] = (),
) -> Verdict:
    """The verdict on a study.

    Args: plan: as the ledger holds it; history: the study's earlier verdicts in the ledger.
    Raises: ValueError when the baseline was scored on another stream, or is the study itself.
    """
    if baseline is not None and baseline.study is not None:
        _check_baseline(study, baseline.study)
    values = values_by_seed(study)
    factor = None if study.stream is None else study.stream.nats_per_bpb
    sizes = [run.artifact_bytes for run in study.rows if run.artifact_bytes is not None]
    gain, looks = None, None
    if baseline is not None and values and factor is not None:
        gain = gain_over(list(values.values()), baseline, margin_nats / factor)
        looks = decide(study, plan, factor)
    missing = tuple(seed for seed in (() if plan is None else plan.seeds) if seed not in {r.seed for r in study.rows})
    if looks is not None and looks.next_look is None:
        missing = ()
    repeated = [run.bpb for run in study.repeats if run.bpb is not None]
    return Verdict(
        study=study.name,
        preset=study.preset,
        facts=study.facts,
        rows=study.rows,
        missing=missing,
        repeats=study.repeats,
        others=study.others,
        nats_per_bpb=factor,
        bpb=summarise(list(values.values())) if values else None,
        nats=summarise([value * factor for value in values.values()]) if values and factor is not None else None,
        cap_bytes=study.cap_bytes,
        cap=cap_probability(sizes, study.cap_bytes) if sizes and study.cap_bytes is not None else None,
        track=track,
        baseline=baseline,
        gain_nats=None if gain is None or factor is None else gain.scaled(factor),
        gain_bpb=gain,
        claim=None if gain is None or gain.p is None else gain.p < P_CLAIM,
        loose=None if gain is None or gain.p is None else gain.p < P_LOOSE,
        noise_bpb=noise_split(list(values.values()), repeated) if min(len(values), len(repeated)) > 1 else None,
        sequential=looks,
        faults=(*_faults(study, missing, looks), *_over_time(study, track)),
        notes=(*_notes(study, track), *_notes_on_test(study, plan, baseline, looks, history)),
    )


def _check_baseline(study: Study, other: Study) -> None:
    """Raises: ValueError unless the baseline's runs are other ones on the same text."""
    if not {(run.sweep, run.trial) for run in study.rows}.isdisjoint((run.sweep, run.trial) for run in other.rows):
        raise ValueError(f'"{other.name}" shares runs with "{study.name}": a baseline has to be other runs')
    if study.stream is not None and other.stream is not None:
        check_same_text(study.name, study.stream.size, other.name, other.stream.size)


def gain_over(values: Sequence[float], baseline: Baseline, margin: float) -> Gain:
    """The gain of a study's values, all in BPB: Welch's test, or the t test against a published mean."""
    if baseline.published:
        return one_sample_gain(values, baseline.bpb[0], margin)
    return welch_gain(values, baseline.bpb, margin)


def decide(study: Study, plan: Plan | None, nats_per_bpb: float) -> Looks | None:
    """The planned test with repeated looks; None where none was planned.

    Values are taken in the order of the plan, up to the first seed without one: what follows it would be a selection.
    """
    if plan is None or plan.sequential is None:
        return None
    test, found = plan.sequential, values_by_seed(study)
    values: list[float] = []
    for seed in plan.seeds:
        if seed not in found:
            break
        values.append(found[seed])
    baseline = test.baseline_bpb[0] if test.published else test.baseline_bpb
    margin = test.margin_nats / nats_per_bpb
    return sequential_decision(values, baseline, margin, test.alpha, test.looks, test.no_gain_alpha)


def due(study: Study | None, plan: Plan) -> tuple[int, ...]:
    """The seeds that have to be there for the next look, those that are there included; none when all is decided."""
    if plan.sequential is None:
        return plan.seeds
    if study is None or study.stream is None:
        return plan.seeds[: plan.sequential.looks[0]]
    looks = decide(study, plan, study.stream.nats_per_bpb)
    return () if looks is None or looks.next_look is None else plan.seeds[: looks.next_look]


def plain(verdict: Verdict) -> dict[str, Any]:
    """The verdict as a ledger entry's plain values."""
    values = asdict(verdict)
    if values["baseline"] is not None:
        del values["baseline"]["study"]  # its runs have entries of their own
    return {"kind": VERDICT, "holds": verdict.holds, **json.loads(json.dumps(values))}


def _faults(study: Study, missing: Sequence[int], looks: Looks | None) -> list[str]:
    """Reasons in the seeds themselves why nothing may be claimed."""
    faults = [f"seed {row.seed} has no result: {row.status}, {row.cause}" for row in study.rows if row.bpb is None]
    faults += [f"seed {seed} was planned and has not run" for seed in missing]
    faults += [
        f"repeat {run.repeat} of seed {run.seed}: {run.status}, {run.cause}" for run in study.repeats if run.bpb is None
    ]
    faults += [
        f"seed {row.seed} fails point {', '.join(map(str, row.points_failed))} of the rules"
        for row in study.rows
        if row.points_failed
    ]
    if len(study.counted) < MIN_SEEDS:
        faults.append(f"results of {len(study.counted)} seeds, a claim needs {MIN_SEEDS}")
    if looks is not None and looks.next_look is not None:
        faults.append(f"the planned test is not decided: its next look is at {looks.next_look} seeds")
    return faults


def _over_time(study: Study, track: str) -> list[str]:
    """Seeds that take longer than the track allows."""
    limit, faults = TRACK_SECONDS[track], []
    for row in study.rows if limit is not None else ():
        for what, seconds in (("training", row.train_seconds), ("evaluation", row.evaluation_seconds)):
            if seconds is not None and limit is not None and seconds > limit:
                faults.append(f"seed {row.seed} takes {seconds:.1f} s for {what}, the track allows {limit:.0f} s")
    return faults


def _notes(study: Study, track: str) -> list[str]:
    """What of the runs a reader has to know."""
    unknown = [name for name, value in study.facts.items() if value is None]
    if not any(name.startswith("environment.") for name in study.facts):
        unknown.append("environment")
    notes = [f"the ledger does not say the {' and '.join(unknown)} of these runs"] if unknown else []
    unchecked = [str(row.seed) for row in study.counted if row.points_failed is None]
    notes += [f"seed {', '.join(unchecked)}: not checked against the rules' points"] if unchecked else []
    notes += [
        f"seed {row.seed} ran on {row.ranks} ranks, for nodes were lost: the same to rounding, not in seconds"
        for row in study.rows
        if row.ranks is not None
    ]
    own = {row.seed: row.sweep for row in study.counted}
    for other in study.others:
        run = other.run
        if run.seed in own and run.sweep != own[run.seed] and other.num_configurations > 1 and run.bpb is not None:
            notes.append(
                f'seed {run.seed} is also one of the trials of "{run.sweep}": if the configuration was chosen there by '
                "its value, that value is better than a fresh seed's"
            )
    if track == RECORD:
        device = study.facts.get("device") or "an unknown device"
        if not all(part in device for part in RECORD_DEVICE):
            notes.append(f"the record track is timed on 8 x H100, these seconds are of {device}")
        shared = [str(row.seed) for row in study.rows if row.cold is False]
        if shared:
            notes.append(f"seeds {', '.join(shared)} took results from the store: a record is run again with --cold")
    return notes


def _notes_on_test(
    study: Study,
    plan: Plan | None,
    baseline: Baseline | None,
    looks: Looks | None,
    history: Sequence[Entry],
) -> list[str]:
    """What of the comparison a reader has to know."""
    if baseline is None:
        return []
    notes = []
    if baseline.study is not None:
        differ = differences(study, baseline.study)
        notes += [f"the baseline differs in {', '.join(differ)} too"] if differ else []
        notes += [
            f"seed {row.seed} of the baseline does not count: {row.status}, {row.cause}"
            for row in baseline.study.rows
            if row.bpb is None
        ]
    if baseline.published:
        notes.append("the published mean is taken as exact: p is too small by as much as it is uncertain")
    elif len(baseline.bpb) < 2:
        notes.append("one baseline run shows no spread, so there is no test: run more seeds of it")
    if looks is None:
        seen = {sum(row.get("bpb") is not None for row in e["rows"]) for e in history if e.get("baseline") is not None}
        before = sorted(num for num in seen if num < len(study.counted))
        if before:
            notes.append(
                f"a verdict was seen before at {', '.join(map(str, before))} seeds; p makes no allowance for that: "
                "--until-decided is the test that may look again"
            )
    if plan is not None and plan.sequential is not None and plan.sequential.baseline_bpb != baseline.bpb:
        notes.append(f"the planned test is against {plan.sequential.baseline} as it was then, not as it is now")
    return notes

"""From results to figures: what each one shows, in words, and why one is left out.

Results enter, exhibits leave; nothing is drawn for which there are no numbers.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from golf.runtime.results import TTT
from tune.report.canvas import Floats, svg_of
from tune.report.curve_figures import MAX_OTHERS, SMOOTHING_SHARE, Training, draw_trainings
from tune.report.data import (
    Entry,
    Group,
    Results,
    Subject,
    cap_of,
    chunks_of,
    curve_of,
    ending_of,
    finished_bpb,
    groups_of,
    ladder_of,
    metric,
    name_of,
    parameters,
    seed_of,
    subjects_of,
    trial_of,
    varying_fields,
    warmdown_of,
)
from tune.report.run_figures import Ladder, StreamRun, draw_ladders, draw_stream
from tune.report.search_figures import SearchedTrial, SizedTrial, draw_importance, draw_search, draw_sizes
from tune.report.seed_figures import MAX_ROWS, GroupBytes, Mark, SeedRow, draw_bytes, draw_seeds
from tune.report.text import clean
from tune.search.importance import CHANCE_LEVEL, MIN_TRIALS, TOP_SHARE, field_importances
from tune.study.bootstrap import MIN_CHUNKS, STREAM_CLAIM, PairedDifference, paired_bootstrap
from tune.study.stats import summarise


@dataclass(frozen=True)
class FigureSpec:
    """A figure with its words, or why there is none."""

    name: str
    """Its file's name without suffix."""
    title: str
    figure: Figure | None
    words: str
    """The caption; without a figure, one line that says why."""

    @functools.cached_property
    def svg(self) -> str | None:
        """The figure as an SVG element."""
        return None if self.figure is None else svg_of(self.figure)


def figure_specs_of(results: Results, baseline: Results | None) -> list[FigureSpec]:
    """All figures of a report, in reading order."""
    subjects = subjects_of(results, baseline)
    search = [] if results.is_study else [search_figure(results), importance_figure(results)]
    return [
        bytes_figure(results),
        seeds_figure(results, baseline),
        ladder_figure(subjects),
        stream_figure(results, subjects),
        training_figure(results, subjects),
        *search,
        artifact_figure(results),
    ]


def bytes_figure(results: Results) -> FigureSpec:
    """BPB against bytes."""
    name, title = "bytes", "BPB against artifact bytes"
    sized = [
        SizedTrial(artifact_bytes=int(size), bpb=finished_bpb(entry), status=ending_of(entry))
        for entry in results.trials
        if (size := metric(entry, "artifact_bytes")) is not None
    ]
    if not sized:
        return FigureSpec(name, title, None, "no trial was packed, so that there are no bytes to show.")
    words = ["Each dot is a trial that was evaluated in full."]
    if not results.is_study and results.ranked:
        words += ["The line is the Pareto front: no other trial is both smaller and better; the table below names it."]
    if any(trial.bpb is None for trial in sized):
        words += ["In the rows below stand the trials that have bytes and no BPB."]
    unsized = len(results.trials) - len(sized)
    words += [f"Without an artifact and not shown: {unsized}."] if unsized else []
    return FigureSpec(name, title, draw_sizes(sized, results.caps, not results.is_study), " ".join(words))


def seeds_figure(results: Results, baseline: Results | None) -> FigureSpec:
    """Seeds with intervals."""
    name, title = "seeds", "Seeds"
    groups = [group for group in groups_of(results) if group.seeds]
    several = [group for group in groups if len(group.seeds) > 1]
    shown = several[:MAX_ROWS]
    if shown and baseline is not None and baseline.name != results.name:
        shown = [*several[: MAX_ROWS - 1], *(group for group in groups_of(baseline)[:1] if group.seeds)]
    if not shown:
        return FigureSpec(name, title, None, "no configuration has finished under more than one seed.")
    words = (
        "Each dot is a seed, the upright bar their mean, the line the 95 % t interval of the mean, which assumes "
        "independent normal values."
    )
    if any(group.repeats for group in shown):
        words += " Hollow: the same seed run again, not in the mean."
    if len(several) > len(shown):
        words += f" The best of {len(several)} configurations with several seeds."
    return FigureSpec(name, title, draw_seeds([_seed_row(group) for group in shown], marks_of(results)), words)


def _seed_row(group: Group) -> SeedRow:
    values = [float(finished_bpb(entry) or 0.0) for entry in group.seeds]
    again = [float(finished_bpb(entry) or 0.0) for entry in group.repeats]
    return SeedRow(
        title=group.name, seeds=values, repeats=again, summary=summarise(values), num_unfinished=len(group.lacking)
    )


def marks_of(results: Results) -> list[Mark]:
    """The baseline and the margin of the study's verdict, where it has them in BPB."""
    verdict = results.verdict or {}
    baseline, gain = verdict.get("baseline") or {}, verdict.get("gain_bpb") or {}
    values = [value for value in baseline.get("bpb") or [] if isinstance(value, (int, float))]
    if not values:
        return []
    mean = summarise(values).mean
    marks = [Mark(mean, f"baseline {clean(baseline.get('name', ''), 40)}")]
    margin = gain.get("margin")
    return marks + ([Mark(mean - margin, "less the margin")] if isinstance(margin, (int, float)) and margin else [])


def ladder_figure(subjects: Sequence[Subject]) -> FigureSpec:
    """The ladder as a waterfall."""
    name, title = "ladder", "The ladder"
    ladders = [Ladder(title=_heading(subject), rungs=ladder_of(subject.entries)) for subject in subjects]
    ladders = [ladder for ladder in ladders if len(ladder.rungs) > 1]
    if not ladders:
        return FigureSpec(name, title, None, "no trial was evaluated on two rungs of the ladder.")
    words = (
        "What each stage adds to the BPB (dark) or takes from it (white), measured from the stage before; the rungs "
        "from the quantised one on are measured on the artifact read back from the disk."
    )
    words += "".join(f" {_heading(subject)}: {clean(subject.label, 200)}." for subject in subjects)
    words += " Means over the seeds." if any(len(subject.entries) > 1 for subject in subjects) else ""
    return FigureSpec(name, title, draw_ladders(ladders), words)


def stream_figure(results: Results, subjects: Sequence[Subject]) -> FigureSpec:
    """TTT along the stream, and the paired difference."""
    name, title = "ttt", "Test-time training along the validation stream"
    first, second = paired_entries(subjects)
    own, other = _sums_of(first), _sums_of(second)
    if not len(own):
        return FigureSpec(name, title, None, "no finished trial here has test-time training with sums per chunk.")
    runs = [StreamRun(label=_run_label(subjects[0], first), nats=own[:, 0])]
    words = "Running BPB of test-time training: every token is scored before the model is trained on it."
    if second is None and results.is_study:
        words += (
            " Seeds of one configuration are not set against each other; --baseline names something to compare with."
        )
    elif second is None:
        words += " There is no second finished trial to compare with."
    elif own.shape != other.shape or not np.array_equal(own[:, 1:], other[:, 1:]):
        words += f" The {subjects[1].role} was not scored over the same chunks: there is no paired difference."
    else:
        paired = paired_bootstrap(own[:, 0], other[:, 0], own[:, 2], own[:, 1])
        runs.append(StreamRun(label=_run_label(subjects[1], second), nats=other[:, 0]))
        return FigureSpec(
            name, title, draw_stream(runs, own[:, 2], paired), f"{words} {_paired_words(paired, len(own))}"
        )
    return FigureSpec(name, title, draw_stream(runs, own[:, 2], None), words)


def paired_entries(subjects: Sequence[Subject]) -> tuple[Entry | None, Entry | None]:
    """The two runs to set side by side: of one seed where both sides have one."""
    if len(subjects) < 2:
        return (subjects[0].entries[0] if subjects else None), None
    by_seed = {seed_of(entry): entry for entry in reversed(subjects[1].entries)}
    common = next((entry for entry in subjects[0].entries if seed_of(entry) in by_seed), subjects[0].entries[0])
    return common, by_seed.get(seed_of(common), subjects[1].entries[0])


def _sums_of(entry: Entry | None) -> Floats:
    """(num_chunks, 3) of NLL in nats, tokens and bytes; empty where there are none."""
    chunks = [] if entry is None else chunks_of(entry, TTT)
    return np.array(chunks, dtype=np.float64).reshape(-1, 3)


def _paired_words(paired: PairedDifference, num_chunks: int) -> str:
    """What the lower panel shows and can claim."""
    words = "Below: the running difference to the dashed run, above 0 where the first is better; dots: single chunks."
    if paired.bpb_interval is None:
        return f"{words} {num_chunks} chunks are too few for a block bootstrap (it takes {MIN_CHUNKS}): no interval."
    block = f"{paired.block_chunks} chunk{'s' if paired.block_chunks > 1 else ''} a block"
    return f"{words} At the end: its {paired.level:.0%} interval by a block bootstrap ({block}). {STREAM_CLAIM}"


def training_figure(results: Results, subjects: Sequence[Subject]) -> FigureSpec:
    """Training curves."""
    name, title = "training", "Training"
    shown = trainings_of(results, subjects)
    if not shown:
        return FigureSpec(name, title, None, "no trial here has a training curve.")
    named = [training for training in shown if training.label]
    others = [training for training in shown if not training.label]
    words = f"Training loss by step: raw (faint), and the running mean over 1/{SMOOTHING_SHARE} of the steps (dark)."
    if others:
        some = (
            f"those of the next best trials, {MAX_OTHERS} of {len(others)}"
            if len(others) > MAX_OTHERS
            else "all others"
        )
        words += f" Grey: {some}."
    words += " Trials that share a training are one line."
    words += " Losses at equal steps compare only before the first warmdown starts."
    if not any(training.validation for training in shown):
        words += " No validation was run during training."
    return FigureSpec(name, title, draw_trainings([*named, *others[:MAX_OTHERS]]), words)


def trainings_of(results: Results, subjects: Sequence[Subject]) -> list[Training]:
    """All different trainings, those of the subjects first and with their names."""
    firsts = [entry for entry in paired_entries(subjects) if entry is not None]
    labels = {id(entry): _run_label(subject, entry) for subject, entry in zip(subjects, firsts, strict=False)}
    found: dict[bytes, Training] = {}
    for entry in [*firsts, *(entry for entry in results.ordered if id(entry) not in labels)]:
        loss = np.array(curve_of(entry, "train_loss"), dtype=np.float64).reshape(-1, 3)
        if not len(loss):
            continue
        key, label = loss[:, [0, 2]].tobytes(), labels.get(id(entry))
        if key not in found:
            validation = [(float(step), float(value)) for step, _, value in curve_of(entry, "validation_bpb")]
            found[key] = Training(
                label=label,
                steps=loss[:, 0],
                loss_nats=loss[:, 2],
                validation=validation,
                warmdown_start=warmdown_of(entry),
            )
        elif label is not None:
            found[key] = replace(found[key], label=f"{found[key].label} and {label}")
    return list(found.values())


def search_figure(results: Results) -> FigureSpec:
    """BPB by every searched field."""
    name, title = "search", "The search"
    fields = varying_fields(results.trials)
    if not fields:
        return FigureSpec(name, title, None, "no searched field has more than one value here.")
    trials = [
        SearchedTrial(point=parameters(entry), bpb=finished_bpb(entry), status=ending_of(entry))
        for entry in results.trials
    ]
    words = (
        "Each dot is a finished trial, one panel a field; blue: the best tenth. Upright bar: the median of a choice. "
        "Crosses: trials without a BPB, by how they ended. Dots of one choice are spread in height to be seen. BPB far "
        "above all others are drawn at the right edge."
    )
    return FigureSpec(name, title, draw_search(trials, fields), words)


def importance_figure(results: Results) -> FigureSpec:
    """What the searched fields matter."""
    name, title = "importance", "What the searched fields matter"
    done = results.ranked
    found = field_importances([parameters(entry) for entry in done], [float(finished_bpb(entry) or 0.0) for entry in done])
    if not found:
        few = f"{len(done)} finished trial{' is' if len(done) == 1 else 's are'} too few"
        why = few if len(done) < MIN_TRIALS else "nothing differs among the finished trials"
        words = f"{why}; it takes {MIN_TRIALS} finished trials of which fields and BPB differ."
        return FigureSpec(name, title, None, words)
    words = (
        f"PED-ANOVA: how far the best {TOP_SHARE:.0%} of {len(done)} finished trials differ from all of them in each "
        f"field. A bar that ends before its mark can be chance: with the BPB dealt to the trials at random, "
        f"{CHANCE_LEVEL:.0%} of the bars end before it. Trials without a BPB have no part in this."
    )
    return FigureSpec(name, title, draw_importance(found), words)


def artifact_figure(results: Results) -> FigureSpec:
    """The artifact's bytes."""
    name, title = "artifact", "The artifact's bytes"
    entry = next((entry for entry in results.ordered if entry.get("ledger")), None)
    if entry is None:
        return FigureSpec(name, title, None, "no trial here has a byte ledger.")
    rows = sorted(entry["ledger"].items(), key=lambda item: (item[0] == "header", -item[1].get("packed_bytes", 0.0)))
    groups = [
        GroupBytes(name=group, packed=row.get("packed_bytes", 0.0), entropy=row.get("entropy_bytes", 0.0))
        for group, row in rows
    ]
    size, cap = metric(entry, "artifact_bytes"), cap_of(entry)
    known = size is not None and cap is not None
    whole = f" {size:,.0f} of {cap:,} bytes." if known else ""
    words = (
        f"{clean(name_of(entry), 120)} ({trial_of(entry)}, {ending_of(entry)}).{whole} Percentages: packed bytes "
        "against the order-0 entropy of the group's codes. Packed bytes hold the scales too, and are shares of the "
        "compressed whole; they fall below the entropy where the codec finds order between codes."
    )
    room = float(cap - size) if size is not None and cap is not None else None
    return FigureSpec(name, title, draw_bytes(groups, metric(entry, "code_bytes"), room), words)


def _heading(subject: Subject) -> str:
    return subject.role[:1].upper() + subject.role[1:]


def _run_label(subject: Subject, entry: Entry | None) -> str:
    """What a single run of the subject is to the reader."""
    if len(subject.entries) == 1 or entry is None:
        return subject.role
    return f"{'baseline, ' if subject.role.startswith('baseline') else ''}seed {seed_of(entry)}"

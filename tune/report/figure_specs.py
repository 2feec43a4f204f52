"""Figures of a report: what each one shows, in words, and why one is left out where there are no numbers for it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from golf.runtime.results import QUANTISED, TTT
from tune.records.entries import Series, TrialEntry
from tune.report.canvas import Floats, svg_of
from tune.report.data import (
    STATE_NAMES,
    Results,
    Subject,
    groups_of,
    ladder_of,
    name_of,
    paired_entries,
    score_of,
    subjects_of,
    varying_fields,
)
from tune.report.run_figures import (
    MAX_OTHERS,
    RUNG_NAMES,
    SMOOTHING_SHARE,
    Training,
    draw_ladders,
    draw_stream,
    draw_trainings,
)
from tune.report.text import clean
from tune.report.trial_figures import MAX_ROWS, draw_bytes, draw_importance, draw_search, draw_seeds, draw_sizes
from tune.search.importance import CHANCE_LEVEL, MIN_TRIALS, TOP_SHARE, field_importances
from tune.study.bootstrap import MIN_CHUNKS, STREAM_CLAIM, PairedDifference, paired_bootstrap
from tune.study.stats import summarise

ReadSeries = Callable[[TrialEntry], Series]
"""Reads a trial's curves and chunk sums; empty ones where it has none."""
Drawn = tuple[Figure | None, str]
"""A figure and its caption, or none and the reason."""
_NO_POINTS: Floats = np.empty((0, 3))


@dataclass(frozen=True)
class FigureSpec:
    """A figure with its caption, or why there is none."""

    name: str
    """Name of its file without suffix."""
    title: str
    figure: Figure | None
    caption: str
    """Without a figure, one sentence that says why."""

    @functools.cached_property
    def svg(self) -> str | None:
        """The figure as an SVG element."""
        return None if self.figure is None else svg_of(self.figure)


def figure_specs_of(results: Results, baseline: Results | None, read_series: ReadSeries) -> list[FigureSpec]:
    """Returns all figures of a report, in reading order."""
    subjects = subjects_of(results, baseline)
    specs = [
        FigureSpec("bytes", "BPB against artifact bytes", *bytes_figure(results)),
        FigureSpec("seeds", "Seeds", *seeds_figure(results, baseline)),
        FigureSpec("ladder", "The ladder", *ladder_figure(subjects)),
        FigureSpec("stream", "Along the validation stream", *stream_figure(results, subjects, read_series)),
        FigureSpec("training", "Training", *training_figure(results, subjects, read_series)),
    ]
    if not results.is_study:
        specs.append(FigureSpec("search", "The search", *search_figure(results)))
        specs.append(FigureSpec("importance", "What the searched fields matter", *importance_figure(results)))
    return [*specs, FigureSpec("artifact", "The artifact's bytes", *artifact_figure(results))]


def bytes_figure(results: Results) -> Drawn:
    """Draws BPB against bytes."""
    sized = [entry for entry in results.trials if entry.size is not None]
    if not sized:
        return None, "no trial here has an artifact."
    caption = "Each dot is a trial that was evaluated in full."
    if not results.is_study and results.ranked:
        caption += " The line is the Pareto front: no other trial is both smaller and better. The table below lists it."
    if not all(entry.done for entry in sized):
        caption += " The rows below the dots are trials that have bytes and no BPB."
    if len(sized) < len(results.trials):
        caption += f" Without an artifact and not shown: {len(results.trials) - len(sized)}."
    return draw_sizes(sized, results.caps, not results.is_study), caption


def seeds_figure(results: Results, baseline: Results | None) -> Drawn:
    """Draws seeds with intervals, and the baseline and margin of a study's verdict."""
    several = [group for group in groups_of(results) if len(group.seeds) > 1]
    if not several:
        return None, "no configuration has finished under more than one seed."
    shown = several[:MAX_ROWS]
    if baseline is not None and baseline.name != results.name:
        shown = [*several[: MAX_ROWS - 1], *(group for group in groups_of(baseline)[:1] if group.seeds)]
    caption = (
        "Each dot is a seed, the upright bar their mean, the line the 95 % t interval of the mean, which assumes "
        "independent normal values."
    )
    if any(group.repeats for group in shown):
        caption += " Hollow: the same seed run again, not in the mean."
    if len(several) > MAX_ROWS:
        caption += f" The best of {len(several)} configurations with several seeds."
    marks, comparison = [], None if results.verdict is None else results.verdict.verdict.comparison
    if comparison is not None and comparison.values:
        mean, margin = summarise(comparison.values).mean, comparison.gain_bpb.margin
        marks = [(mean, f"baseline {clean(comparison.baseline, 40)}")]
        marks += [(mean - margin, "less the margin")] if margin else []
    return draw_seeds(shown, marks), caption


def ladder_figure(subjects: Sequence[Subject]) -> Drawn:
    """Draws the ladder as a waterfall."""
    ladders = {_heading(subject): ladder_of(subject.entries) for subject in subjects}
    ladders = {title: ladder for title, ladder in ladders.items() if len(ladder) > 1}
    if not ladders:
        return None, "no trial here was evaluated on two rungs of a ladder."
    caption = "What each stage adds to the BPB (dark) or takes from it (white), measured from the stage before."
    if any(QUANTISED in ladder for ladder in ladders.values()):
        caption += " From the quantised rung on, the artifact is measured that was read back from the disk."
    caption += "".join(f" {_heading(subject)}: {clean(subject.label, 200)}." for subject in subjects)
    caption += " Means over the seeds." if any(len(subject.entries) > 1 for subject in subjects) else ""
    return draw_ladders(ladders), caption


def stream_figure(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> Drawn:
    """Draws the running BPB along the validation stream, and the paired difference of two runs."""
    entries = paired_entries(subjects)
    sums = [_chunk_sums(entry, read_series) for entry in entries]
    if not entries or not len(sums[0]):
        return None, "no finished trial here has sums by chunk of the validation stream."
    rung, paired = entries[0].rungs[-1].name, None
    caption = f"Running BPB of the score that counts ({RUNG_NAMES.get(rung, rung)})."
    if rung == TTT:
        caption += " Every token is scored before the model is trained on it."
    if len(sums) == 2 and sums[0].shape == sums[1].shape and np.array_equal(sums[0][:, 1:], sums[1][:, 1:]):
        paired = paired_bootstrap(sums[0][:, 0], sums[1][:, 0], sums[0][:, 2], sums[0][:, 1])
        caption += _paired_caption(paired, len(sums[0]))
    elif len(sums) == 2:
        caption += f" The {subjects[1].role} was not scored over the same chunks: there is no paired difference."
    elif results.is_study:
        caption += " Seeds of one configuration are not compared; --baseline names something to compare with."
    else:
        caption += " There is no second finished trial to compare with."
    labels = [_run_label(subject, entry) for subject, entry in zip(subjects, entries, strict=True)]
    runs = {label: chunks[:, 0] for label, chunks in zip(labels, sums if paired else sums[:1], strict=False)}
    return draw_stream(runs, sums[0][:, 2], paired), caption


def _chunk_sums(entry: TrialEntry, read_series: ReadSeries) -> Floats:
    """Returns NLL in nats, tokens and bytes by chunk of the rung that counts, (num_chunks, 3); empty without any."""
    return read_series(entry).chunks.get(entry.rungs[-1].name, _NO_POINTS) if entry.rungs else _NO_POINTS


def _paired_caption(paired: PairedDifference, num_chunks: int) -> str:
    """Returns what the lower panel shows and can claim."""
    caption = " Below: running difference to the dashed run, above 0 where the first is better; dots: single chunks."
    if paired.bpb_interval is None:
        return f"{caption} {num_chunks} chunks are too few for a block bootstrap (at least {MIN_CHUNKS}): no interval."
    block = f"{paired.block_chunks} chunk{'s' if paired.block_chunks > 1 else ''} a block"
    return f"{caption} At the end: its {paired.level:.0%} interval by a block bootstrap ({block}). {STREAM_CLAIM}"


def training_figure(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> Drawn:
    """Draws the training curves."""
    shown, has_more = trainings_of(results, subjects, read_series)
    if not shown:
        return None, "no trial here has a training curve."
    caption = f"Training loss by step: raw (faint), and the running mean over 1/{SMOOTHING_SHARE} of the steps (dark)."
    if any(training.label is None for training in shown):
        caption += f" Grey: {f'{MAX_OTHERS} of the next best trials' if has_more else 'all others'}."
    caption += " Trials that share a training are one line."
    if any(training.warmdown_start is not None for training in shown):
        caption += " Losses at equal steps compare only before the first warmdown starts."
    if not any(len(training.validation) for training in shown):
        caption += " No validation was run during training."
    return draw_trainings(shown), caption


def trainings_of(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> tuple[list[Training], bool]:
    """Returns different trainings, those of the subjects first and with their names, and whether there may be more."""
    pairs = list(zip(subjects, paired_entries(subjects), strict=True))
    labels = {entry.identity: _run_label(subject, entry) for subject, entry in pairs}
    others = [entry for entry in results.ordered if entry.identity not in labels]
    trainings: dict[bytes, Training] = {}
    for entry in [*(entry for _, entry in pairs), *others]:
        if sum(training.label is None for training in trainings.values()) == MAX_OTHERS:
            return list(trainings.values()), True
        curves, label = read_series(entry).curves, labels.get(entry.identity)
        loss = curves.get("train_loss", _NO_POINTS)[:, [0, 2]]
        key = loss.tobytes()
        if key in trainings and label is not None:
            trainings[key] = replace(trainings[key], label=f"{trainings[key].label} and {label}")
        elif len(loss) and key not in trainings:
            validation = curves.get("validation_bpb", _NO_POINTS)[:, [0, 2]]
            trainings[key] = Training(label, loss, validation, _warmdown_start(entry))
    return list(trainings.values()), False


def _warmdown_start(entry: TrialEntry) -> int | None:
    """Returns the step at which the learning rate starts to fall; None where the configuration has no such field."""
    schedule = entry.config.get("schedule")
    start = schedule.get("warmdown_start") if isinstance(schedule, dict) else None
    return start if isinstance(start, int) else None


def search_figure(results: Results) -> Drawn:
    """Draws BPB by the value of every searched field."""
    fields = varying_fields(results.trials)
    if not fields:
        return None, "no searched field has more than one value here."
    return draw_search(results.trials, fields), (
        "Each dot is a finished trial, one panel a field; blue: the best tenth. Upright bar: the median of a choice. "
        "Crosses: trials without a BPB, by how they ended. Dots of one choice are spread in height to be seen. BPB far "
        "above all others are drawn at the right edge."
    )


def importance_figure(results: Results) -> Drawn:
    """Draws how much the searched fields matter."""
    done = results.ranked
    importances = field_importances([entry.parameters for entry in done], [score_of(entry) for entry in done])
    if not importances:
        few = f"{len(done)} finished trial{' is' if len(done) == 1 else 's are'} too few"
        why = few if len(done) < MIN_TRIALS else "nothing differs among the finished trials"
        return None, f"{why}; it takes {MIN_TRIALS} finished trials of which fields and BPB differ."
    return draw_importance(importances), (
        f"PED-ANOVA: how far the best {TOP_SHARE:.0%} of {len(done)} finished trials differ from all of them in each "
        f"field. A bar that ends before its mark can be chance: with the BPB dealt to the trials at random, "
        f"{CHANCE_LEVEL:.0%} of the bars end before it. Trials without a BPB have no part in this."
    )


def artifact_figure(results: Results) -> Drawn:
    """Draws where the bytes of the best trial's artifact go."""
    entry = next((entry for entry in results.ordered if entry.byte_groups), None)
    if entry is None:
        return None, "no trial here says where its artifact's bytes go."
    caption = f"{clean(name_of(entry), 120)} ({entry.trial}, {STATE_NAMES[entry.state]})."
    if entry.size is not None and entry.cap_bytes is not None:
        caption += f" {entry.size.artifact_bytes:,} of {entry.cap_bytes:,} bytes."
    return draw_bytes(entry), (
        f"{caption} Percentages: packed bytes against the order-0 entropy of the group's codes. Packed bytes hold the "
        "scales too, and are shares of the compressed whole; they fall below the entropy where the codec finds order "
        "between codes."
    )


def _heading(subject: Subject) -> str:
    return subject.role[:1].upper() + subject.role[1:]


def _run_label(subject: Subject, entry: TrialEntry) -> str:
    """Returns the label of a single run of the subject."""
    if len(subject.entries) == 1:
        return subject.role
    return f"{'baseline, ' if subject.role.startswith('baseline') else ''}seed {entry.seed}"

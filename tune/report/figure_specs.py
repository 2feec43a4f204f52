"""Figures of a report: what each one shows, in words, and why one is left out where there are no numbers for it."""

import functools
from dataclasses import dataclass

from matplotlib.figure import Figure

from tune.report.canvas import svg_of
from tune.report.data import ReadSeries, Results, subjects_of
from tune.report.run_figures import ladder_figure, stream_figure, training_figure
from tune.report.search_figures import history_figure, importance_figure, search_figure
from tune.report.time_figures import seconds_figure, timeline_figure
from tune.report.trial_figures import artifact_figure, bytes_figure, seeds_figure


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
    specs = [FigureSpec("bytes", f"{results.unit} against artifact bytes", *bytes_figure(results))]
    if not results.is_study:
        specs += [
            FigureSpec("history", "The search by trial and by time", *history_figure(results)),
            FigureSpec("search", "The searched fields", *search_figure(results)),
            FigureSpec("importance", "What the searched fields matter", *importance_figure(results)),
        ]
    return [
        *specs,
        FigureSpec("seeds", "Seeds", *seeds_figure(results, baseline)),
        FigureSpec("seconds", f"{results.unit} against seconds", *seconds_figure(results)),
        FigureSpec("timeline", "Trials side by side", *timeline_figure(results)),
        FigureSpec("ladder", "The ladder", *ladder_figure(subjects)),
        FigureSpec("stream", "Along the validation stream", *stream_figure(results, subjects, read_series)),
        FigureSpec("training", "Training", *training_figure(results, subjects, read_series)),
        FigureSpec("artifact", "The artifact's bytes", *artifact_figure(results)),
    ]

"""Figures: what they compute, that their words are legible, and that they show what they were given."""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from msgspec.structs import replace

from tests.tune.made_ledger import Made, made_study, made_sweep, made_trial, write_ledger
from tune.records.entries import ArtifactSize, ScreeningScore, Series, TrialEntry
from tune.report.canvas import BLUE, ORANGE, limits, new_figure, style, svg_file, svg_of
from tune.report.data import STATE_NAMES, Group, ReportData, Results
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.run_figures import Training, draw_ladders, draw_trainings, smoothed, span_of
from tune.report.search_figures import draw_history, draw_search
from tune.report.text import clean, signed
from tune.report.time_figures import draw_seconds, draw_timeline, lanes_of
from tune.report.trial_figures import draw_bytes, draw_seeds, draw_sizes, front_of

pytestmark = pytest.mark.long

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)
MIXED = ("done", "done", "screened", "infeasible", "done", "screened", "failed")


@given(POINTS)
def test_the_front_by_brute_force(points: list[tuple[int, int]]) -> None:
    """Fault: a dominated point on the front, a point of the front missing, equal points twice."""
    expected = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert [points[index] for index in front_of(points)] == sorted(expected)


@pytest.mark.parametrize("num", [1, 2, 39, 80, 1001, 30_000])
def test_smoothing(num: int) -> None:
    """Fault: a running mean that leans to one side or belongs to another step, lost ends, a line too long to draw."""
    steps, noise = np.arange(num, dtype=np.float64) * 10, np.random.default_rng(0).normal(size=num)
    half = span_of(num) // 2
    x, y = smoothed(np.column_stack([steps, noise])).T
    assert x[-1] == steps[num - 1 - half]
    assert len(x) <= 400
    for step, mean in zip(x, y, strict=True):
        centre = round(step / 10)
        assert mean == pytest.approx(noise[centre - half : centre + half + 1].mean())


def test_long_curves_make_small_pictures_and_keep_their_spikes() -> None:
    """Fault: a page of many megabytes, or one from which the spike of a training is gone."""
    steps = np.arange(30_000.0)
    loss = 3 + np.random.default_rng(0).normal(size=30_000) / 50
    loss[12_345] = 3.9
    figure = draw_trainings([Training("best", np.column_stack([steps, loss]), np.empty((0, 2)))])
    figure.axes[0].set_ylim(2.5, 4.0)
    svg = svg_of(figure)
    assert len(svg) < 200_000
    raw = next(line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) == 30_000)
    with style():
        drawn = np.asarray(raw.get_path().cleaned(raw.get_transform(), simplify=True).vertices)
    highest = raw.get_transform().transform((12_345, 3.9))[1]
    assert drawn[:, 1].max() == pytest.approx(highest, abs=1.0)


def texts_of(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Yields every visible text of the figure and the pixels that it takes."""
    canvas = FigureCanvasAgg(figure)
    with style():
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        texts = [text for legend in figure.legends for text in legend.get_texts()]
        for axes in figure.axes:
            labels = [label for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
            titles = [axes.title, axes._left_title]  # type: ignore[attr-defined] # where titles of the style are
            texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label, *titles]
            texts += [label for label in labels if _is_drawn(label, axes.get_window_extent())]
        for text in texts:
            if text.get_visible() and text.get_text():
                yield text.get_text(), text.get_window_extent(renderer)


def _is_drawn(label: Text, box: Bbox) -> bool:
    """Whether a tick's label is drawn: its tick is within the axes."""
    x, y = label.get_transform().transform(label.get_position())
    return bool(label.get_visible() and (box.x0 - 1 <= x <= box.x1 + 1 or box.y0 - 1 <= y <= box.y1 + 1))


def assert_legible(figure: Figure) -> None:
    """No text on another, none beyond the paper's edge."""
    texts = list(texts_of(figure))
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in texts:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (text, box), (other, second) in itertools.combinations(texts, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        along = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across < 1 or along < 1, f"{text!r} on {other!r}"


def specs(tmp_path: Path, records: Sequence[Made], name: str, baseline: str | None = None) -> list[FigureSpec]:
    """Returns the figures of a made-up ledger."""
    data = ReportData(write_ledger(tmp_path / "ledger.jsonl", records))
    results = data.results(name)
    return figure_specs_of(results, data.baseline_of(results, baseline), data.series)


@pytest.mark.parametrize("num", [1, 3, 30, 500])
def test_figures_of_sweeps_are_legible(num: int, tmp_path: Path) -> None:
    """Fault: labels on each other or beyond the edge, at any size of a sweep."""
    drawn = [spec for spec in specs(tmp_path, made_sweep("s", num, MIXED), "s") if spec.figure]
    assert {spec.name for spec in drawn} >= {"bytes", "ladder", "stream", "training", "artifact"}
    for spec in drawn:
        assert spec.figure is not None
        assert_legible(spec.figure)


def test_figures_of_studies_are_legible(tmp_path: Path) -> None:
    """Fault: labels on each other, a study compared with itself, a baseline left out."""
    records = [*made_study("s", [42, 1337, 2025], 2), *made_study("base", [42, 7, 8], split="int5-mlp")]
    texts = {}
    for spec in specs(tmp_path, records, "s", "base"):
        assert spec.figure is not None
        assert_legible(spec.figure)
        texts[spec.name] = [text for text, _ in texts_of(spec.figure)]
    assert [text.splitlines()[0] for text in texts["seeds"] if "\n" in text] == ["s", "base"]
    # Seed 42 ran on both sides; the difference is of these two, whatever else is better.
    assert any(text.startswith("baseline, seed 42, ") for text in texts["stream"])


def trial(number: int, **changes: Any) -> TrialEntry:
    """Returns a trial; finished where the changes have a BPB."""
    entry, _ = made_trial("s", number, "done" if changes.get("bpb") else "infeasible", {})
    return replace(entry, **changes)


def results_of(trials: Sequence[TrialEntry]) -> Results:
    """Returns a sweep of these trials."""
    return Results(name="s", trials=tuple(trials), num_entries=len(trials), digest="")


def sized(number: int, num_bytes: int, bpb: float | None = None) -> TrialEntry:
    """Returns a trial with an artifact of so many bytes."""
    return trial(number, bpb=bpb, size=ArtifactSize(model_bytes=num_bytes, code_bytes=0, cap_bytes=16_000_000))


def test_crowded_labels_are_legible() -> None:
    """Fault: caps, marks, long names and far outliers that the ordinary case does not have."""
    dice = random.Random(0)
    trials = [sized(n, 15_000_000 + dice.randrange(10**6), 1.2 + dice.random() / 100) for n in range(50)]
    trials += [sized(50, 15_100_000, 9.5), sized(51, 17_000_000), sized(52, 1)]
    assert_legible(draw_sizes(trials, [16_000_000, 16_777_216], True))
    assert_legible(draw_sizes(trials[-2:], [16_000_000], True))
    seeds = tuple(trial(n, bpb=bpb) for n, bpb in enumerate([1.12, 1.13, 1.121]))
    group = Group(name="n" * 300, seeds=seeds, repeats=seeds[:1], unfinished=())
    alone = Group(name="one", seeds=(trial(5, bpb=1.2),), repeats=(), unfinished=seeds[1:])
    assert_legible(draw_seeds([group, alone], [(1.12, "baseline " + "b" * 30), (1.1201, "less the margin")]))
    assert_legible(draw_ladders({"w" * 90: {"a": 1.0, "b": 1.01}, "x": {"a": 3.0, "b": 2.99}}))
    groups = {"g" * 99: {"packed_bytes": 3.0, "entropy_bytes": 2.0}, "x": {"packed_bytes": 1.0, "entropy_bytes": 2.0}}
    for size in (60, 16_900_000):
        assert_legible(draw_bytes(replace(sized(1, size), byte_groups=groups)))
    assert_legible(draw_bytes(trial(1, byte_groups=groups, size=None, config={})))
    fields = {"w" * 50: "v" * 50, "$y$": 0, "many": "m"}
    points = [{**fields, "x": n, "$y$": n % 3, "many": f"m{n}", "log": 10.0 ** (n - 20)} for n in range(30)]
    done = [trial(n, bpb=1.0 + n, parameters=point) for n, point in enumerate(points)]
    stopped = [trial(n, parameters=point) for n, point in enumerate(points)]
    for searched in (done, stopped, [*done, *stopped]):
        assert_legible(draw_search(results_of(searched), list(points[0])))
        assert_legible(draw_history(results_of(done)))


def test_figures_show_their_values(tmp_path: Path) -> None:
    """Fault: a figure of other trials, other rungs or other bytes than the ledger's."""
    records = made_sweep("s", 40, MIXED)
    shown = {spec.name: [t for t, _ in texts_of(spec.figure)] for spec in specs(tmp_path, records, "s") if spec.figure}
    entries = [entry for entry, _ in records]
    best, second = sorted((entry for entry in entries if entry.done), key=lambda entry: entry.bpb or 0.0)[:2]
    assert best.bpb is not None
    assert second.bpb is not None
    assert {f"Pareto front, best {best.bpb:.4f} BPB", "cap 430,000 bytes"} <= set(shown["bytes"])
    assert f"stopped early ({sum(entry.state == 'screened' for entry in entries)})" in shown["bytes"]
    for entry in (best, second):
        scores = [rung.bpb for rung in entry.rungs]
        changes = [signed(after - before) for before, after in itertools.pairwise(scores)]
        assert {f"{scores[0]:.4f}", *changes[:-1], f"{changes[-1]}\n= {scores[-1]:.4f}"} <= set(shown["ladder"])
    assert any(text.startswith(f"{signed(second.bpb - best.bpb)} BPB, ") for text in shown["stream"])
    assert best.size is not None
    assert {f"{430_000 - best.size.artifact_bytes:,}", f"{best.size.code_bytes:,}"} <= set(shown["artifact"])
    assert any(text.endswith("+6.0 %") for text in shown["artifact"])
    assert {"over the cap", "failed", "pure-int6", "0.01", "ttt.lr"} <= set(shown["search"])


def test_the_search_shows_every_trial() -> None:
    """Fault: a trial that failed, or one far above the others, is missing from a panel or drawn at another value."""
    bpb = [1.0, 1.1, 1.2, 1.15, 9.0, None, None]
    points = [{"lr": number / 10, "split": "ab"[number % 2]} for number in range(7)]
    trials = [trial(n, bpb=b, parameters=p) for n, (b, p) in enumerate(zip(bpb, points, strict=True))]
    lr_panel, lr_stopped, split_panel, _ = draw_search(results_of(trials), ["lr", "split"]).axes
    dots = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in lr_panel.lines])
    assert sorted(dots) == pytest.approx([1.0, 1.1, 1.15, 1.2, 1.2])
    assert np.isfinite(np.asarray(lr_stopped.lines[0].get_xdata(), dtype=float)).sum() == 2
    rows = [row for line in split_panel.lines for row in np.round(np.asarray(line.get_ydata(), dtype=float))]
    assert sorted(rows) == [0, 0, 0, 1, 1]


def contrast(color: Any) -> float:
    """Returns the contrast of a colour, with its opacity on white paper, to that paper (WCAG 2.2)."""
    red, green, blue, alpha = to_rgba(color)
    mixed = [alpha * part + 1 - alpha for part in (red, green, blue)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in mixed]
    return 1.05 / (0.05 + float(np.dot((0.2126, 0.7152, 0.0722), linear)))


def colors_of(artist: Artist) -> Iterator[Any]:
    """Yields the colour by which an artist is seen: its own, or its edge's where it is white or empty."""
    if isinstance(artist, Line2D) and artist.get_linestyle() not in ("None", ""):
        yield artist.get_color()
    if isinstance(artist, Line2D) and artist.get_marker() not in ("None", "", None) and len(artist.get_xydata()):  # type: ignore[arg-type]
        face = artist.get_markerfacecolor()
        is_white = artist.get_marker() not in ("x", "|", "_") and to_rgba(face)[:3] == (1, 1, 1)
        yield artist.get_markeredgecolor() if is_white or artist.get_marker() in ("x", "|", "_") else face
    if isinstance(artist, (Patch, Collection)):
        faces, edges = np.atleast_2d(artist.get_facecolor()), np.atleast_2d(artist.get_edgecolor())
        filled = len(faces) and faces.shape[1] == 4 and faces[0][3] > 0 and tuple(faces[0][:3]) != (1, 1, 1)
        yield faces[0] if filled else edges[0]


def test_everything_drawn_is_seen(tmp_path: Path) -> None:
    """Fault: grey on white that a projector or an eye does not show; a third hue."""
    records = [*made_sweep("s", 40, MIXED), *made_study("st", [1, 2, 3], 1)]
    drawn = [spec for name in ("s", "st") for spec in specs(tmp_path, records, name) if spec.figure]
    hues = set()
    for spec in drawn:
        assert spec.figure is not None
        for axes in spec.figure.axes:
            for artist in [*axes.lines, *axes.collections, *axes.patches]:
                width = artist.get_linewidth()  # type: ignore[attr-defined]
                if isinstance(artist, Patch) and not width and not artist.get_fill():
                    continue  # it only places labels
                for color in colors_of(artist):
                    assert contrast(color) >= 3, (spec.name, artist, color)
                    red, green, blue, _ = to_rgba(color)
                    hues |= {to_hex(color)} if max(red, green, blue) - min(red, green, blue) > 0.05 else set()
    assert hues == {BLUE.lower(), ORANGE.lower()}


def test_every_trial_and_field_can_be_found(tmp_path: Path) -> None:
    """Fault: a field without a panel, a trial without its words, words on another trial's mark."""
    records = made_sweep("s", 80, MIXED)
    entries = [entry for entry, _ in records]
    drawn = {spec.name: spec for spec in specs(tmp_path, records, "s") if spec.figure}
    figure = drawn["search"].figure
    assert figure is not None
    titles = {axes._left_title.get_text() for axes in figure.axes} - {""}  # type: ignore[attr-defined]
    assert titles == {field for entry in entries for field in entry.parameters}
    by_trial = {entry.trial: entry for entry in entries}
    for name, shown in (
        ("bytes", {entry.trial for entry in entries if entry.done}),
        ("seconds", {entry.trial for entry in entries if entry.done}),
        ("history", {entry.trial for entry in entries if entry.done or entry.screening}),
        ("search", {entry.trial for entry in entries if entry.done or entry.screening}),
        ("timeline", set(by_trial)),
    ):
        root = ElementTree.fromstring(drawn[name].svg or "")
        tips = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}title")]
        assert {tip[:12] for tip in tips} == shown, name
        for tip in tips:
            entry = by_trial[tip[:12]]
            assert (f"{entry.score:.4f} BPB" if entry.done else STATE_NAMES[entry.state]) in tip
    figure = draw_seconds([("s", [(1.0, entries[0]), (7.0, entries[1])])])
    _, limit = figure.axes[0].lines
    assert np.asarray(limit.get_xdata()).tolist() == [600.0, 600.0]
    svg = ElementTree.fromstring(svg_of(figure))
    marks = [node for node in svg.iter("{http://www.w3.org/2000/svg}use") if len(node)]
    assert [(node[0].text or "")[:12] for node in sorted(marks, key=lambda node: float(node.attrib["x"]))] == [
        entries[0].trial,
        entries[1].trial,
    ]


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=20)


@given(SPANS)
def test_lanes(spans: list[tuple[int, int]]) -> None:
    """Fault: two trials on each other in one lane; more lanes than trials ran at a time."""
    trials = [trial(n, started=float(a), ended=float(a + b)) for n, (a, b) in enumerate(sorted(spans))]
    lanes = lanes_of(trials)
    for (one, lane), (other, second) in itertools.combinations(zip(trials, lanes, strict=True), 2):
        assert lane != second or one.ended <= other.started or other.ended <= one.started
    most = max(sum(e.started <= at.started < max(e.ended, e.started + 0.5) for e in trials) for at in trials)
    assert max(lanes) + 1 <= most


def test_the_timeline_shows_what_was_shared() -> None:
    """Fault: a bar that ends at another time, a stage from the store that is drawn as computed."""
    seconds = {"train": 40.0, "ttt": 10.0}
    alone = trial(0, bpb=1.0, started=0.0, ended=60.0, seconds=seconds, computed=seconds)
    shared = replace(alone, trial="f" * 12, started=60.0, ended=80.0, computed={"train": 0.0, "ttt": 10.0})
    figure = draw_timeline([alone, shared])
    bars = [[path.get_extents() for path in part.get_paths()] for part in figure.axes[0].collections]
    ends = [[round(60 * x) for box in row for x in (box.x0, box.x1)] for row in bars]
    assert ends == [[0, 40], [40, 50, 60, 70], [50, 60, 70, 80]]
    (diamonds, _) = figure.axes[0].lines
    assert np.asarray(diamonds.get_xdata()).tolist() == [1.0]


def screened(number: int, value: float, bpb: float | None = None) -> TrialEntry:
    """Returns a trial that was screened at `value`: it went on where it has a BPB."""
    entry, _ = made_trial("s", number, "done" if bpb else "screened", {"x": number % 4, "y": number % 3})
    return replace(entry, bpb=bpb, screening=(ScreeningScore(name="sliding", bpb=value, seconds=1.0, rank=""),))


def test_partial_scores_are_shown_apart_and_count_for_importance(tmp_path: Path) -> None:
    """Fault: a score of the first chunks drawn or ranked as one of all; trials with one left out of the importance."""
    trials = [(screened(n, 3.0 + n / 100, 2.0 + n / 100 if n < 8 else None), Series()) for n in range(30)]
    drawn = {spec.name: spec for spec in specs(tmp_path, trials, "s")}
    figure = drawn["history"].figure
    assert figure is not None
    full, _, partial, _ = figure.axes
    assert max(full.get_ylim()) < 2.5 < min(partial.get_ylim())
    heights = [np.asarray(line.get_ydata(), dtype=float).tolist() for line in partial.lines[:2]]
    assert [len(row) for row in heights] == [8, 22]
    assert sorted(heights[1]) == pytest.approx([3.0 + n / 100 for n in range(8, 30)])
    assert "best 25% of 30 trials" in drawn["importance"].caption
    assert "22 of them were stopped early" in drawn["importance"].caption


def test_an_svg_is_xml_of_text(tmp_path: Path) -> None:
    """Fault: text as outlines, a date, an address that a viewer would open, settings left changed."""
    before = dict(mpl.rcParams)
    for spec in specs(tmp_path, made_sweep("s", 25, MIXED), "s"):
        if spec.figure is None or spec.svg is None:
            continue
        root = ElementTree.fromstring(svg_file(spec.svg))
        texts = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
        assert len(texts) > 5
        assert set(re.findall(r"https?://[^\"' <]*", spec.svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
    assert dict(mpl.rcParams) == before


def test_clean_text() -> None:
    """Fault: text that no XML can hold, or that is cut to more than was asked for; a formula out of a name."""
    assert clean("a\x00b\ud800c\nd") == "a\ufffdb\ufffdc d"
    assert len(clean("x" * 500, 20)) == 20
    assert clean("short", 20) == "short"
    low, high = limits([1.0, 1.0])
    assert low < 1.0 < high
    with style():
        figure = new_figure(1.0)
        figure.add_subplot().set_title("$x^2$ \\frac{")
    assert "$x^2$ \\frac{" in svg_of(figure)

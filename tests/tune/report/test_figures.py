"""Figures: what they compute, that their words are legible, and that they show what they were given."""

import itertools
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tests.tune.made_ledger import made_study, made_sweep, write_ledger
from tune.report.canvas import clean, limits, signed, spread, style, svg_file, svg_of, thinned
from tune.report.curve_figures import Training, draw_trainings, extremes, smoothed, span_of
from tune.report.data import Book
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.run_figures import Ladder, draw_ladders, steps_of
from tune.report.search_figures import ParallelLine, Sized, draw_parallel_lines, draw_sizes, front_of
from tune.report.seed_figures import GroupBytes, Mark, SeedRow, draw_bytes, draw_seeds
from tune.study.stats import summarise

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)
MIXED = ("done", "done", "screened", "infeasible", "done", "screened", "failed")


@given(POINTS)
def test_the_front_by_brute_force(points: list[tuple[int, int]]) -> None:
    """Fault: a dominated point on the front, a point of the front missing, equal points twice."""
    front = front_of(points)
    expected = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert [points[place] for place in front] == sorted(expected)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0.1, 9))
def test_labels_are_spread(places: list[float], gap: float) -> None:
    """Fault: labels that overlap, change their order, drift away, or move without need."""
    moved = spread(places, gap)
    order = sorted(range(len(places)), key=places.__getitem__)
    for low, high in itertools.pairwise(order):
        assert moved[high] - moved[low] >= gap - 1e-6
    assert abs(sum(moved) - sum(places)) < 1e-6 * max(1, len(places)) * 50
    if all(places[high] - places[low] > gap * 1.001 for low, high in itertools.pairwise(order)):
        assert moved == pytest.approx(places)


@given(st.lists(st.floats(1, 3), min_size=2, max_size=5))
def test_the_waterfall_ends_at_the_last_rung(values: list[float]) -> None:
    """Fault: a rung measured against the wrong one before it."""
    ladder = Ladder("", "", dict(zip("abcde", values, strict=False)))
    steps = steps_of(ladder)
    assert values[0] + math.fsum(after - before for _, before, after in steps) == pytest.approx(values[-1])
    assert [after for _, _, after in steps[:-1]] == [before for _, before, _ in steps[1:]]


@pytest.mark.parametrize("num", [1, 2, 39, 80, 1001])
def test_smoothing(num: int) -> None:
    """Fault: a running mean that leans to one side, or stands at another step than its own."""
    steps = 10.0 * np.arange(num, dtype=np.float64)
    x, y = smoothed(steps, np.asarray(3.0 - steps, dtype=np.float64))
    assert np.allclose(y, 3.0 - x)
    noise = np.random.default_rng(0).normal(size=num)
    x, y = smoothed(steps, noise)
    half = span_of(num) // 2
    expected = {steps[n]: noise[n - half : n + half + 1].mean() for n in range(half, num - half)}
    assert np.allclose(x, list(expected))
    assert np.allclose(y, list(expected.values()))


def test_thinned_lines_keep_what_is_seen() -> None:
    """Fault: the last point lost, or a spike that the raw curve had."""
    x, y = np.arange(30_000.0), np.random.default_rng(0).normal(size=30_000)
    y[12_345], y[777] = 99.0, -99.0
    few_x, few_y = extremes(x, y)
    assert len(few_x) < 1000
    assert (few_y.max(), few_y.min()) == (99.0, -99.0)
    assert (np.diff(few_x) > 0).all()
    assert thinned(x, y, 50)[0][-1] == x[-1]
    assert len(thinned(x, y, 50)[0]) <= 50


def texts_of(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every visible text of the figure, and the pixels that it takes."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with style():
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        for axes in figure.axes:
            ticks = [
                t
                for axis in (axes.xaxis, axes.yaxis)
                for t in axis.get_ticklabels()
                if _shown(t, axes.get_window_extent())
            ]
            names = [axes.xaxis.label, axes.yaxis.label]
            for text in [*axes.texts, *ticks, *names]:
                if text.get_visible() and text.get_text():
                    yield text.get_text(), text.get_window_extent(renderer)


def _shown(text: Text, box: Bbox) -> bool:
    """Whether a tick's label is drawn: its place is within the axes."""
    x, y = text.get_transform().transform(text.get_position())
    return bool(text.get_visible() and (box.x0 - 1 <= x <= box.x1 + 1 or box.y0 - 1 <= y <= box.y1 + 1))


def assert_legible(figure: Figure) -> None:
    """No text on another, none beyond the paper's edge."""
    width, height = figure.get_size_inches() * figure.dpi
    found = list(texts_of(figure))
    for text, box in found:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, box), (other, second) in itertools.combinations(found, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        along = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across < 1 or along < 1, f"{one!r} on {other!r}"


def exhibits(
    tmp_path: Path, entries: list[dict[str, object]], name: str, baseline: str | None = None
) -> list[FigureSpec]:
    """The figures of a made-up ledger."""
    book = Book(write_ledger(tmp_path / "ledger.jsonl", entries))
    results = book.results(name)
    return figure_specs_of(results, book.baseline_of(results, baseline))


@pytest.mark.parametrize("num", [1, 2, 6, 72, 500])
def test_figures_of_sweeps_are_legible(num: int, tmp_path: Path) -> None:
    """Fault: labels on each other or beyond the edge, at any size of a sweep."""
    drawn = exhibits(tmp_path, made_sweep("s", num, MIXED), "s")
    assert {exhibit.name for exhibit in drawn if exhibit.figure} >= {"bytes", "ladder", "ttt", "training", "artifact"}
    for exhibit in drawn:
        if exhibit.figure is not None:
            assert_legible(exhibit.figure)


def test_figures_of_studies_are_legible(tmp_path: Path) -> None:
    """Fault: labels on each other, a study set against itself, a baseline left out."""
    entries = [*made_study("s", [42, 1337, 2025], 2), *made_study("base", [42, 7, 8], split="int5-mlp")]
    drawn = {exhibit.name: exhibit for exhibit in exhibits(tmp_path, entries, "s", "base")}
    for exhibit in drawn.values():
        assert exhibit.figure is not None
        assert_legible(exhibit.figure)
    seeds, stream = drawn["seeds"].figure, drawn["ttt"].figure
    assert seeds is not None
    assert stream is not None
    words = [text for text, _ in texts_of(seeds)]
    assert "s" in words
    assert "base" in words
    # Seed 42 ran on both sides; the difference is of these two, whatever else is better.
    assert any(text.startswith("baseline, seed 42 ") for text, _ in texts_of(stream))


def test_crowded_labels_are_legible() -> None:
    """Fault: caps, marks, long names and far outliers that the ordinary case does not have."""
    dice = random.Random(0)
    sized = [Sized(15_000_000 + dice.randrange(10**6), 1.2 + dice.random() / 100, "finished") for _ in range(50)]
    sized += [Sized(15_100_000, 9.5, "finished"), Sized(17_000_000, None, "over the cap"), Sized(1, None, "w" * 90)]
    assert_legible(draw_sizes(sized, [16_000_000, 16_777_216], True))
    values = [1.12, 1.13, 1.121]
    rows = [SeedRow("n" * 300, values, [1.125], summarise(values)), SeedRow("one", [1.2], [], summarise([1.2]))]
    assert_legible(draw_seeds(rows, [Mark(1.12, "baseline " + "b" * 30), Mark(1.1201, "less the margin")]))
    far = [
        Ladder("Best", "word " * 90, {"live": 1.0, "ema": 1.01}),
        Ladder("Baseline", "x", {"live": 3.0, "ema": 2.99}),
    ]
    assert_legible(draw_ladders(far))
    assert_legible(draw_bytes([GroupBytes("g" * 99, 3.0, 2.0)], 60_000, 15_900_000))
    assert_legible(draw_bytes([GroupBytes("mlp", 9e6, 8e6), GroupBytes("header", 600, 0)], 60_000, -1_000_000))
    parallel_lines = [ParallelLine({"w" * 50: "v" * 50, "x": n, "$y$": n % 3}, 1.0 + n, "finished") for n in range(30)]
    assert_legible(draw_parallel_lines(parallel_lines, ["w" * 50, "x", "$y$"]))
    steps = np.arange(20_000.0)
    loss = 3 + 7 * np.exp(-steps / 500) + np.random.default_rng(0).normal(size=20_000) / 50
    runs = [Training(label, steps, loss, [(9000.0, 1.2), (19_000.0, 1.1)], 14_000) for label in ("best", "runner-up")]
    assert_legible(draw_trainings(runs))


def test_figures_show_their_values(tmp_path: Path) -> None:
    """Fault: a figure of other trials, other rungs or other bytes than the ledger's."""
    entries = made_sweep("s", 40, MIXED)
    shown = {e.name: [t for t, _ in texts_of(e.figure)] for e in exhibits(tmp_path, entries, "s") if e.figure}
    done = sorted((e for e in entries if e["status"] == "done"), key=lambda e: e["metrics"]["bpb"])
    best, second = done[0]["metrics"], done[1]["metrics"]
    assert any(text.endswith(f": {best['bpb']:.4f}") for text in shown["bytes"])
    assert "cap 430,000 bytes" in shown["bytes"]
    assert f"screened out ({sum(e['status'] == 'screened' for e in entries)})" in shown["bytes"]
    for metrics in (best, second):
        assert {f"{metrics['bpb_live']:.4f}", f"{metrics['bpb']:.4f}"} <= set(shown["ladder"])
        assert signed(metrics["bpb_quantised"] - metrics["bpb_ema"]) in shown["ladder"]
    assert f"{signed(second['bpb'] - best['bpb'])} BPB" in shown["ttt"]
    room = 430_000 - best["artifact_bytes"]
    assert {f"{room:,}", f"{best['code_bytes']:,}"} <= set(shown["artifact"])
    assert any(text.endswith("+6.0 %") for text in shown["artifact"])
    assert {"over the cap", "failed", "pure-int6", "0.01", "ttt.lr"} <= set(shown["search"])


def test_an_svg_is_xml_of_text(tmp_path: Path) -> None:
    """Fault: text as outlines, a date, an address that a viewer would open, settings left changed."""
    before = dict(mpl.rcParams)
    for exhibit in exhibits(tmp_path, made_sweep("s", 25, MIXED), "s"):
        if exhibit.figure is None:
            continue
        svg = exhibit.svg
        assert svg is not None
        root = ElementTree.fromstring(svg_file(svg))
        words = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
        assert len(words) > 5
        assert set(re.findall(r"https?://[^\"' <]*", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert svg == svg_of(exhibit.figure)
    assert dict(mpl.rcParams) == before


def test_clean_text() -> None:
    """Fault: text that no XML can hold, or that is cut to more than was asked for."""
    assert clean("a\x00b\ud800c\nd") == "a\ufffdb\ufffdc d"
    assert len(clean("x" * 500, 20)) == 20
    assert clean("short", 20) == "short"
    low, high = limits([1.0, 1.0])
    assert low < 1.0 < high

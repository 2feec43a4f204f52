"""What a sweep will cost, against counts that know no tree, and the picture of the tree."""

import itertools
import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.presets import PRESETS
from golf.config.schedule import make_plan
from tests.tune.entries import entry_of
from tune.planning.forecast import Amount, Costs, Forecast, Piece, Work, forecast, to_compute, wall_clock_seconds
from tune.planning.plan_plot import MAX_LABELS, draw_tree, label_of
from tune.planning.stage_timings import StageTimings
from tune.planning.text import dollars, format_forecast, format_forecast_vs_actual
from tune.records.entries import Device, TrialEntry, WorldShape
from tune.search.search import Search, SearchConfig
from tune.search.space import Space, Trial, points_of
from tune.search.successive_halving import Chunks, SuccessiveHalving, screening_rank
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.stages import training_trees
from tune.workloads.gepa.workload import GepaWorkload

pytestmark = pytest.mark.long

WORLD = WorldShape(ranks=2, cpus=1.0, device="cpu", threads=1)
CHUNKS = 100
SPACE: Space = {
    "schedule.steps": [12, 20],
    "schedule.warmdown_start": [4, 8],
    "split": ["pure-int6", "int8"],
    "ttt.epochs": [1, 2],
}
SECONDS = {"pack": 3.0, "live": 1.0, "ema": 1.0, "quantised": 1.0, "sliding": 2.0, "ttt": 7.0}


def workload_of(preset: str = "demo", world: WorldShape = WORLD, data: str = "ab" * 32) -> GepaWorkload:
    """The workload of a preset; its stream has a hundred chunks."""
    base = PRESETS[preset]
    targets = CHUNKS * base.score.chunk_tokens
    return GepaWorkload(
        base=base, preset=preset, data_directory=Path("nowhere"), data=data, num_targets=targets, world=world
    )


def trials_of(space: Space) -> list[Trial]:
    """Every valid point of the demo's space."""
    trials = []
    for point in points_of(space):
        try:
            trials.append(workload_of().trial(point))
        except ValueError:
            continue
    return trials


def planned(
    trials: Sequence[Trial],
    stored: Iterable[str] = (),
    entries: Sequence[TrialEntry] = (),
    seconds: dict[str, float] | None = None,
    workload: GepaWorkload | None = None,
) -> Forecast:
    """The forecast when the keys in `stored` are in the store."""
    workload = (workload or workload_of()).for_trials(trials)
    timings = StageTimings(workload, entries, seconds or {})
    return forecast(workload, trials, timings, set(stored).__contains__, workload.screening_odds(len(trials)))


def known(trials: Sequence[Trial], stored: Iterable[str] = (), workload: GepaWorkload | None = None) -> Forecast:
    """The forecast with seconds for every stage."""
    return planned(trials, stored, seconds={"train": 0.5, **SECONDS}, workload=workload)


def rows_of(trial: Trial) -> tuple[Any, ...]:
    """The rows of a trial's schedule."""
    return make_plan(config_of(trial).schedule)


def training_of(work: Work) -> list[Piece]:
    """The states and the weights."""
    return [piece for piece in work.pieces if piece.output.steps]


def others_of(work: Work) -> list[Piece]:
    """The artifact and the rungs."""
    return [piece for piece in work.pieces if not piece.output.steps]


def entry(trial: Trial, seconds: dict[str, float], count: int = 2, name: str = "Some CPU", **fields: Any) -> TrialEntry:
    """A finished trial's ledger entry."""
    device = Device(count=count, name=name, kind="cuda" if "NVIDIA" in name else "cpu")
    return entry_of(trial, data=workload_of().data, device=device, seconds=seconds, computed=seconds, **fields)


TRIALS = trials_of(SPACE)
KEYS = sorted({piece.output.key for work in known(TRIALS).works for piece in work.pieces})


def test_counts_against_distinct_tuples() -> None:
    """Fault: results that are equal counted twice, or different ones once. The reference knows rows, not trees."""
    found = known(TRIALS)
    trainings = {rows_of(trial) for trial in TRIALS}
    artifacts = {(rows_of(trial), config_of(trial).quant) for trial in TRIALS}
    adapted = {(*pair, ttt) for pair, ttt in itertools.product(artifacts, {config_of(t).ttt for t in TRIALS})}
    distinct = {"train": trainings, "live": trainings, "ema": trainings, "pack": artifacts, "ttt": adapted}
    distinct |= {"quantised": artifacts, "sliding": artifacts}
    counted = {stage.stage: stage for stage in found.stages}
    assert counted.keys() == distinct.keys() | {"prefix"}
    for name, members in distinct.items():
        stage = counted[name]
        assert (stage.alone, stage.distinct, stage.stored, stage.compute) == (16, len(members), 0, len(members)), name
    prefixes = {rows[:length] for rows in trainings for length in range(1, 21) if length <= len(rows)}
    assert found.steps == Amount(16 * 16, len(prefixes), len(prefixes))
    assert counted["prefix"].alone == 0


@settings(max_examples=20)
@given(st.data())
def test_stored_results_are_not_computed(data: st.DataObject) -> None:
    """Fault: a training begun at the first instead of the last stored state; a stored result computed; a missing
    state computed that nobody starts from. The reference marks steps of trainings one by one."""
    stored = set(data.draw(st.lists(st.sampled_from(KEYS), unique=True)))
    found = known(TRIALS, stored)
    steps, keys = set(), set()
    for trial, work in zip(TRIALS, found.works, strict=True):
        ends = list(itertools.accumulate(piece.steps for piece in training_of(work)))
        begin = max(
            (end for end, piece in zip(ends, training_of(work), strict=True) if piece.output.key in stored), default=0
        )
        steps |= {rows_of(trial)[:length] for length in range(begin + 1, ends[-1] + 1)}
        keys |= {piece.output.key for end, piece in zip(ends, training_of(work), strict=True) if end > begin}
        keys |= {piece.output.key for piece in others_of(work)} - stored
    assert found.steps.now == len(steps)
    pieces = to_compute(found.works, stored)
    assert sorted(piece.output.key for piece in pieces) == sorted(keys)
    assert sum(stage.compute for stage in found.stages) == len(keys)
    assert sum(stage.stored for stage in found.stages) == len(stored)
    assert found.seconds is not None
    assert found.seconds.now == pytest.approx(
        0.5 * len(steps) + sum(SECONDS[piece.stage] for piece in pieces if piece.stage in SECONDS)
    )
    assert found.seconds.alone == pytest.approx(sum(0.5 * len(rows_of(t)) + 15.0 for t in TRIALS))
    for total, by_stage in (("now", "now"), ("alone", "alone"), ("shared", "shared")):
        parts = [getattr(stage.seconds, by_stage) for stage in found.stages]
        assert math.fsum(parts) == pytest.approx(getattr(found.seconds, total))


def test_all_stored_is_nothing_to_do() -> None:
    """Fault: work, or a wall clock, left when everything is there."""
    found = known(TRIALS, KEYS)
    assert found.steps.now == 0
    assert found.seconds is not None
    assert found.seconds.now == 0.0
    walls = wall_clock_seconds(found, 3)
    assert walls is not None
    assert walls.now == 0.0
    assert format_forecast(found, 3)


def paths(found: Forecast, stored: frozenset[str]) -> list[float]:
    """By trial the seconds on the longest way through what it needs and nobody has."""
    lengths = []
    for work in found.works:
        last = max((n for n, piece in enumerate(training_of(work)) if piece.output.key in stored), default=-1)
        way = sum(piece.seconds or 0.0 for piece in training_of(work)[last + 1 :])
        after = [0.0 if piece.output.key in stored else piece.seconds or 0.0 for piece in others_of(work)]
        lengths.append(way + after[0] + max(after[1:]))
    return lengths


@settings(max_examples=20)
@given(st.data())
def test_wall_clock_between_its_bounds(data: st.DataObject) -> None:
    """Fault: a state used before it is there; two results at once in one slot; more slots that take longer."""
    stored = data.draw(st.lists(st.sampled_from(KEYS), unique=True))
    found = known(data.draw(st.permutations(TRIALS)), stored)
    assert found.seconds is not None
    walls = []
    for slots in range(1, len(TRIALS) + 3):
        wall = wall_clock_seconds(found, slots)
        assert wall is not None
        walls.append(wall)
        for name, there in (("alone", frozenset()), ("shared", frozenset()), ("now", found.stored)):
            work = getattr(found.seconds, name) / slots
            assert getattr(wall, name) >= max(work, *paths(found, there)) - 1e-9
            assert getattr(wall, name) <= getattr(found.seconds, name) + 1e-9
    for fewer, more in itertools.pairwise(walls):
        assert more.alone <= fewer.alone
        assert more.shared <= fewer.shared
        assert more.now <= fewer.now
    # One at a time there is nothing to wait for; with a slot for each, alone is the longest trial.
    assert (walls[0].alone, walls[0].now) == pytest.approx((found.seconds.alone, found.seconds.now))
    assert walls[-1].alone == pytest.approx(25.0)


def test_waiting_for_a_prefix() -> None:
    """Fault: the second of two trainings does not wait for the state that both start from. By hand: both share 5 of 12
    and 20 steps; the first reaches step 5 after 2.5 s and ends after 6 + 15 s; the second has 7.5 + 15 s from there."""
    found = known(trials_of({"schedule.steps": [12, 20], "schedule.warmdown_start": [4]}))
    wall = wall_clock_seconds(found, 2)
    assert wall == Amount(25.0, 25.0, 25.0)
    assert found.seconds is not None
    assert found.seconds.shared == 0.5 * (12 + 15) + 2 * 15.0


def test_waiting_for_shared_rungs() -> None:
    """Fault: a trial leaves its slot before the rungs that another measures are there. By hand: the training takes 6 s,
    packing 3, the shared rungs 5, TTT 7. The second trial has its own TTT after 16 s and the others' rungs after 21;
    the third starts then."""
    found = known(trials_of({"schedule.steps": [12], "schedule.warmdown_start": [4], "ttt.epochs": [1, 2, 3]}))
    assert wall_clock_seconds(found, 2) == Amount(42.0, 28.0, 28.0)


def test_seconds_from_trials_alike() -> None:
    """Fault: seconds of another model, other data, another number of workers or a GPU taken for this one's."""
    trial = TRIALS[0]
    others = [t for t in TRIALS if config_of(t).ttt != config_of(trial).ttt]
    wide = workload_of().trial({"model.mlp_hidden": 192})
    slow = {"train": 1e6, "pack": 1e6, "ttt": 1e6}
    entries = [
        entry(trial, {"train": 12.0, "pack": 2.0, "ttt": 5.0}),
        entry(others[0], {"train": 24.0, "ttt": 9.0}),
        entry(others[1], {"train": 36.0, "ttt": 9.0}),
        entry(wide, slow),
        entry(trial, slow, count=1),
        entry(trial, slow, name="NVIDIA A100"),
        entry(trial, slow, world_history="2, 1 from step 7"),
        msgspec.structs.replace(entry(trial, {"ttt": 1e6}), data="cd" * 32),
        msgspec.structs.replace(entry(trial, slow), workload="script"),
        entry_of(trial, "failed"),
    ]
    found = planned([trial, others[0]], entries=entries)
    first, second = found.works
    steps = [config_of(t).schedule.steps for t in (trial, *others[:2])]
    rate = sorted(seconds / num for seconds, num in zip((12, 24, 36), steps, strict=True))[1]
    assert training_of(first)[-1].seconds == pytest.approx(rate * training_of(first)[-1].steps)
    assert others_of(first)[-1].seconds == 5.0
    assert others_of(second)[-1].seconds == 9.0
    assert others_of(first)[0].seconds == others_of(second)[0].seconds == 2.0
    assert found.seconds is None
    assert {s.stage for s in found.stages if s.seconds is None} == {"live", "ema", "quantised", "sliding"}
    given_rate = planned([trial], entries=entries, seconds={"train": 2.0, **SECONDS})
    assert training_of(given_rate.works[0])[-1].seconds == 2.0 * 12


@pytest.mark.parametrize(("num", "top"), [(1, 0.5), (7, 0.5), (72, 0.25), (10, 1.0)])
def test_screening_against_its_own_rule(num: int, top: float) -> None:
    """Fault: an expectation that is not that of the rule by which trials are let through."""
    trials = trials_of({"seed": list(range(num))})
    full = known(trials)
    screening = SuccessiveHalving(fraction=0.2, top=top)
    found = known(trials, workload=replace(workload_of(), screening=screening))
    draw, spent, rounds = random.Random(1), 0.0, 400
    for _ in range(rounds):
        order = draw.sample(range(num), num)
        seen: dict[str, dict[str, Chunks]] = {"sliding": {}, "ttt": {}}
        for trial in order:
            spent += num_steps_seconds(trials[trial])
            for rung, chunks in seen.items():
                spent += 0.2 * SECONDS[rung]
                chunks[str(trial)] = [(float(trial), 1, 1)] * 2
                if not screening_rank(str(trial), chunks, screening).promoted:
                    break
            else:
                spent += 3.0 + 0.8 * (SECONDS["sliding"] + SECONDS["ttt"])
    assert found.seconds is not None
    assert full.seconds is not None
    assert found.seconds.now == pytest.approx(spent / rounds, rel=0.03)
    assert (found.seconds.alone, found.seconds.shared) == (full.seconds.alone, full.seconds.shared)
    assert found.steps == full.steps


def num_steps_seconds(trial: Trial) -> float:
    """Of training and packing."""
    return 0.5 * config_of(trial).schedule.steps + SECONDS["pack"]


def test_unknown_seconds() -> None:
    """Fault: an unknown time shown as nought, a division by it, a price for it."""
    found = planned(TRIALS)
    assert found.seconds is None
    assert found.training_seconds is None
    assert found.hours(found.seconds) is None
    assert wall_clock_seconds(found, 2) is None
    assert "--step-seconds" in format_forecast(found, 2, 3.0)
    assert format_forecast_vs_actual(found, [])
    partly = planned(TRIALS, seconds={"train": 1.0})
    assert partly.seconds is None
    assert partly.training_seconds is not None
    assert partly.training_seconds.alone == partly.steps.alone
    assert "--step-seconds" not in format_forecast(partly, 2)


@pytest.mark.parametrize("seconds", [{"train": -1.0}, {"train": math.nan}, {"ttt": math.inf}])
def test_refuses_impossible_seconds(seconds: dict[str, float]) -> None:
    """Fault: a wall clock of minus one second or of nan."""
    with pytest.raises(ValueError, match="finite"):
        planned(TRIALS, seconds=seconds)


def test_hours_and_dollars() -> None:
    """Fault: workers or CPUs of a worker forgotten, or counted on top of GPUs."""
    hours = {}
    for device in ("cpu", "cuda"):
        world = WorldShape(ranks=4, cpus=3.0, device=device, threads=3)
        found = known(TRIALS, workload=workload_of(world=world))
        assert found.seconds is not None
        amount = found.hours(found.seconds)
        assert amount is not None
        hours[device] = amount.alone / found.seconds.alone * 3600
        assert ("dollars" in format_forecast(found, 1, 2.0)) == (device == "cuda")
    assert hours == {"cpu": pytest.approx(12.0), "cuda": pytest.approx(4.0)}
    assert dollars(12.0, 2.5) == 30.0
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            dollars(1.0, wrong)
    with pytest.raises(ValueError, match="at least 1"):
        wall_clock_seconds(found, 0)


def test_nothing_to_run() -> None:
    """Fault: a sweep whose trials are all finished stops its plan with an error."""
    found = planned([])
    assert found.steps == Amount(0, 0, 0)
    assert wall_clock_seconds(found, 4) == Amount(0, 0, 0)
    assert format_forecast(found)
    assert format_forecast_vs_actual(found, [])


def test_tables_fit_the_screen() -> None:
    """Fault: lines that wrap at the record's scale, columns that run into each other."""
    workload = workload_of("pr598", WorldShape(ranks=8, cpus=1.0, device="cuda", threads=1))
    trials = [workload.trial({"schedule.warmdown_start": 3500})] * 20
    found = planned(trials, seconds={"train": 5000.0, **SECONDS}, workload=workload)
    for text in (
        format_forecast(found, 64, 12.75),
        format_forecast_vs_actual(found, []),
        format_forecast(known(TRIALS)),
    ):
        assert max(map(len, text.splitlines())) <= 120


def test_beside_counts_what_was_spent() -> None:
    """Fault: seconds of other sweeps' trials counted, a shared trial counted as if alone."""
    shared = msgspec.structs.replace(
        entry(TRIALS[0], {"train": 1000.0, "ttt": 300.0}), computed={"train": 411.0, "ttt": 300.0}
    )
    other = entry(workload_of().trial({"seed": 5}), {"train": 1e6})
    entries = [shared, entry(TRIALS[1], {"train": 2000.0}, reason="over"), other]
    lines = format_forecast_vs_actual(known(TRIALS), entries).splitlines()
    figures = {line.split()[0]: [word.replace(",", "") for word in line.split()[1:]] for line in lines[2:]}
    assert (figures["train"][1], figures["train"][3]) == ("3000", "2411")
    assert (figures["ttt"][1], figures["ttt"][3]) == ("300", "300")
    assert (figures["all"][1], figures["all"][3]) == ("3300", "2711")
    assert figures["train"][0] == f"{0.5 * 16 * 16:.0f}"
    assert "others that the search chose: 1" in lines[0]


def costs_of(trials: Sequence[Trial]) -> Costs:
    """What trials cost when nothing is computed, nothing seen."""
    workload = workload_of().for_trials(trials)
    return Costs(workload.stages, StageTimings(workload), lambda key: False)


def test_what_is_shared_costs_nothing() -> None:
    """Fault: a prefix, the weights or the artifact paid for twice, or not at all."""
    points = [{"schedule.steps": steps, "schedule.warmdown_start": 4, "split": split} for steps, split in COSTED]
    short, long, other = trials = [workload_of().trial(point) for point in points]
    costs = costs_of(trials)
    assert (costs.seconds(long), costs.seconds(short)) == (40, 8)
    costs.take(short)
    assert costs.seconds(long) == 35  # the first 5 steps are the short one's
    costs.learn(entry(short, {"train": 16.0, "pack": 1.0, "live": 2.0, "ttt": 5.0}))
    assert costs.seconds(long) == 35 * 2 + 1 + 2 + 5
    costs.take(long)
    assert costs.seconds(long) == 0
    assert costs.seconds(other) == 1 + 5  # the weights and their float rungs are there


COSTED = ((8, "pure-int6"), (40, "pure-int6"), (40, "int8"))


def test_tpe_takes_the_cheaper_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a search that pays for steps although as good a candidate is nearly free."""
    monkeypatch.setattr("tune.search.search._RANDOM_FIRST", 0)
    space: Space = {"schedule.steps": [8, 40], "schedule.warmdown_start": [4], "split": ["pure-int6", "int8"]}
    chosen = {}
    for priced in (False, True):
        search = Search(SearchConfig(spaces=(space,), num_trials=4, seed=1), workload_of().trial)
        if priced:
            search.price(costs_of(search.candidates()))
        chosen[priced] = [config_of(trial).schedule.steps for trial in iter(search.ask, None)]
    assert sorted(chosen[True]) == sorted(chosen[False]) == [8, 8, 40, 40]
    assert chosen[True] == [8, 8, 40, 40]


def labels_in(path: Path) -> list[str]:
    """The text of all leaf labels of an SVG."""
    groups = (item for item in ET.parse(path).iter() if item.get("id", "").startswith("leaf-"))
    return ["".join(group.itertext()).strip() for group in groups]


def test_picture_names_every_training(tmp_path: Path) -> None:
    """Fault: a leaf without a label, a name changed by markup, a picture that differs from one time to the next."""
    trials = trials_of({**SPACE, "schedule.warmdown_start": [4, 8, 11]})
    assert rows_of(trials[8]) == rows_of(trials[-1])[:12], "one training has to end inside another"
    trees = training_trees({trial.trial: config_of(trial) for trial in trials})
    names = {trial.trial: f"$x_1$ <&> {trial.name}" for trial in trials}
    draw_tree(trees, names, tmp_path / "tree.svg")
    shown = labels_in(tmp_path / "tree.svg")
    assert len(shown) == len({rows_of(trial) for trial in trials}) == 6
    assert all(label.startswith("$x_1$ <&> schedule.steps=") and label.endswith("(4 trials)") for label in shown)
    draw_tree(trees, names, tmp_path / "again.svg")
    assert (tmp_path / "tree.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    draw_tree(trees, names, tmp_path / "tree.png")
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="pdf"):
        draw_tree(trees, names, tmp_path / "tree.pdf")


def test_picture_of_many_trainings(tmp_path: Path) -> None:
    """Fault: hundreds of labels on top of each other; matplotlib's settings left changed."""
    before = dict(mpl.rcParams)
    trials = trials_of({"schedule.steps": list(range(10, 110)), "seed": [0, 1]})
    trees = training_trees({trial.trial: config_of(trial) for trial in trials})
    draw_tree(trees, {trial.trial: trial.name for trial in trials}, tmp_path / "tree.svg")
    shown = labels_in(tmp_path / "tree.svg")
    assert len(set(shown)) == len(shown) == MAX_LABELS
    assert dict(mpl.rcParams) == before


def test_labels_of_several_trials() -> None:
    """Fault: a training named after one of its trials, or words that its trials do not share."""
    assert label_of(["steps=7 int8"]) == "steps=7 int8"
    assert label_of(["steps=7 int8 lr=1", "steps=7 int6 lr=1"]) == "steps=7 lr=1 (2 trials)"
    assert label_of(["a", "b", "c"]) == "a, 2 more"

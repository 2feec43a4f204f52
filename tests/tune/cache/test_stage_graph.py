"""Names of outputs, and which of them a trial still needs."""

import pytest

from tune.cache.prefix_tree import Training, branch_steps, build_trees, unshared_steps
from tune.cache.stage_graph import StageGraph, StageName, StageOutput


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (StageName("train"), "train"),
        (StageName("prefix", 120), "prefix-120"),
        (StageName("sliding", 4, first_chunks=True), "sliding-4-screen"),
    ],
)
def test_names_of_outputs(name: StageName, text: str) -> None:
    """Fault: a directory or file name that stored results do not have."""
    assert str(name) == text


def output(kind: str, *parents: str, steps: int | None = None, first_chunks: bool = False) -> StageOutput:
    """An output whose key is its name."""
    name = StageName(kind, steps, first_chunks)
    return StageOutput(name, str(name), (f"{name}.json",), parents)


GRAPH = StageGraph(
    (
        output("prefix", steps=2),
        output("prefix", "prefix-2", steps=4),
        output("train", "prefix-4"),
        output("pack", "train"),
        output("ttt", "pack", first_chunks=True),
        output("ttt", "pack"),
    )
)
FINAL = ["train", "pack", "ttt-screen", "ttt"]


@pytest.mark.parametrize(
    ("stored", "needed"),
    [
        (set(), ["prefix-2", "prefix-4", *FINAL]),
        ({"prefix-4"}, ["prefix-2", "prefix-4", *FINAL]),
        ({"train"}, FINAL),
        ({"train", "ttt", "pack"}, FINAL),
        ({"pack", "ttt"}, ["prefix-2", "prefix-4", *FINAL]),
    ],
)
def test_states_on_the_way_are_needed_until_the_end_is_stored(stored: set[str], needed: list[str]) -> None:
    """Fault: a pinned state that nothing will read, or one dropped while its training has still to go on."""
    assert GRAPH.needed(stored.__contains__) == needed


@pytest.mark.parametrize(
    ("stored", "missing"),
    [
        (set(), ["prefix-2", "prefix-4", "train", "pack", "ttt"]),
        ({"prefix-4"}, ["train", "pack", "ttt"]),
        ({"prefix-2", "pack"}, ["prefix-4", "train", "ttt"]),
        ({"train", "pack", "ttt"}, []),
    ],
)
def test_what_a_trial_computes(stored: set[str], missing: list[str]) -> None:
    """Fault: a state computed that nothing needs any more, or a training that does not go on from the last state."""
    assert [output.key for output in GRAPH.missing(stored)] == missing


def test_an_opaque_workload_has_one_output() -> None:
    """Fault: a graph that needs more than the one output that a plain script leaves."""
    graph = StageGraph((output("script"),))
    assert graph.keys == graph.needed(lambda key: True) == ["script"]


def test_the_tree_of_shared_steps() -> None:
    """Fault: steps counted twice or forgotten, a branch at the wrong step, bases mixed."""
    trees = build_trees(
        {
            "short": Training("base", "aab"),
            "long": Training("base", "aabb"),
            "other": Training("base", "aacc"),
            "apart": Training("another base", "aabb"),
        }
    )
    assert sum(tree.steps for tree in trees) == 2 + 1 + 1 + 2 + 4
    assert unshared_steps(trees) == 3 + 4 + 4 + 4
    assert branch_steps(trees) == {"short": [2, 3], "long": [2, 3], "other": [2], "apart": []}

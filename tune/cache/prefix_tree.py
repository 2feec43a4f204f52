"""The tree of a sweep's trainings: which steps they share, and what that saves.

Configurations enter; the steps at which each parts from another, and the steps to compute with and without sharing,
leave. Two trainings share a prefix exactly when every number that it consumed is equal, whatever field made them
differ later. Source of the idea: stage trees, Jeon et al., Hippo (VLDB 2020), there for hyper-parameter sequences.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from golf.config.config import RunConfig, to_plain
from golf.config.schedule import Row, make_plan
from golf.runtime.results import digest


@dataclass
class Node:
    """A run of steps that the same trainings go through."""

    begin: int
    """First step."""
    end: int
    """The step after the last."""
    trials: list[str] = field(default_factory=list)
    """Who goes through it."""
    children: list["Node"] = field(default_factory=list)
    """Where they part."""

    @property
    def steps(self) -> int:
        """Optimiser steps of this node and all below it."""
        return self.end - self.begin + sum(child.steps for child in self.children)


def training_arguments(config: RunConfig) -> dict[str, Any]:
    """All that a training depends on but the data and its plan's rows, as plain values."""
    plain = to_plain(config)
    base = {part: plain[part] for part in ("model", "batch", "optimizer", "seed", "validate_every", "compile")}
    if config.validate_every is not None:  # the curve's windows
        base["windows"] = [plain["score"][field] for field in ("sequence_length", "batch_windows", "chunk_tokens")]
    return base


def training_base(config: RunConfig) -> str:
    """Digest of `training_arguments`."""
    return digest(training_arguments(config))


def grow(configs: Mapping[str, RunConfig]) -> list[Node]:
    """The trees of the configurations (by the trial's name), one per training base."""
    by_base: dict[str, list[tuple[str, tuple[Row, ...]]]] = {}
    for name, config in configs.items():
        by_base.setdefault(training_base(config), []).append((name, make_plan(config.schedule)))
    return [_node(members, 0) for members in by_base.values()]


def _node(members: Sequence[tuple[str, Sequence[Hashable]]], begin: int) -> Node:
    """The node that all `members` enter at step `begin`."""
    end = begin
    shortest = min(len(rows) for _, rows in members)
    first = members[0][1]
    while end < shortest and all(rows[end] == first[end] for _, rows in members):
        end += 1
    node = Node(begin, end, [name for name, _ in members])
    going_on = [(name, rows) for name, rows in members if len(rows) > end]
    by_row: dict[Hashable, list[tuple[str, Sequence[Hashable]]]] = {}
    for name, rows in going_on:
        by_row.setdefault(rows[end], []).append((name, rows))
    node.children = [_node(group, end) for group in by_row.values()]
    return node


def training_key(config: RunConfig) -> str:
    """Names a training: configurations with the same one train alike from the first step to the last."""
    return digest(training_base(config), to_plain(config.schedule))


def branch_points(configs: Iterable[RunConfig]) -> dict[str, list[int]]:
    """For every training (by `training_key`) the steps, ascending, at which another one parts from it."""
    trainings = {training_key(config): config for config in configs}
    points: dict[str, list[int]] = {key: [] for key in trainings}
    waiting = grow(trainings)
    while waiting:
        node = waiting.pop(0)
        for key in node.trials:
            if node.children and node.end > 0:
                points[key].append(node.end)
        waiting += node.children
    return points


def naive_steps(trees: Iterable[Node]) -> int:
    """Optimiser steps when every trial trains alone."""

    def below(node: Node) -> int:
        return len(node.trials) * (node.end - node.begin) + sum(below(child) for child in node.children)

    return sum(below(tree) for tree in trees)


def draw(trees: Sequence[Node], names: Mapping[str, str]) -> str:
    """The trees in words: steps from and to, and who ends where."""
    lines: list[str] = []

    def walk(node: Node, indent: str, last: bool, top: bool) -> None:
        ends = [name for name in node.trials if all(name not in child.trials for child in node.children)]
        count = f"{len(node.trials)} trial" + ("s" if len(node.trials) != 1 else "")
        branch = "" if top else ("`-- " if last else "|-- ")
        lines.append(f"{indent}{branch}steps {node.begin:,} to {node.end:,}: {count}")
        inner = indent if top else indent + ("    " if last else "|   ")
        lines.extend(f"{inner}    = {names[name]}" for name in ends)
        for position, child in enumerate(node.children):
            walk(child, inner, position == len(node.children) - 1, False)

    for tree in trees:
        walk(tree, "", True, True)
    return "\n".join(lines)

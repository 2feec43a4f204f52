"""The tree of trainings that share their first steps: where they part, and how many steps sharing saves.

A training has a base (all that it depends on but the numbers of single steps) and one row of numbers per step. Two
trainings share a prefix exactly when their bases and all rows of the prefix are equal, whatever made them differ later.
Source of the idea: stage trees, Jeon et al., Hippo (VLDB 2020), there for sequences of hyper-parameters.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Training:
    """What two trainings must have in common to share steps."""

    base: Hashable
    """All that every step depends on."""
    rows: Sequence[Hashable]
    """What each step consumes, in order."""


@dataclass
class Node:
    """A run of steps that the same trainings go through."""

    begin: int
    """First step."""
    end: int
    """The step after the last."""
    trials: list[str] = field(default_factory=list)
    """Names of the trainings that go through it."""
    children: list["Node"] = field(default_factory=list)
    """The nodes that follow, where the trainings part."""

    @property
    def steps(self) -> int:
        """Optimiser steps of this node and all below it."""
        return self.end - self.begin + sum(child.steps for child in self.children)


def build_trees(trainings: Mapping[str, Training]) -> list[Node]:
    """Returns the trees of the trainings (by name), one per base, in order of their first training."""
    by_base: dict[Hashable, dict[str, Sequence[Hashable]]] = {}
    for name, training in trainings.items():
        by_base.setdefault(training.base, {})[name] = training.rows
    return [_node(members, 0) for members in by_base.values()]


def _node(members: Mapping[str, Sequence[Hashable]], begin: int) -> Node:
    """Returns the node that all `members` (rows by name) go through from step `begin`."""
    end, shortest, first = begin, min(map(len, members.values())), next(iter(members.values()))
    while end < shortest and all(rows[end] == first[end] for rows in members.values()):
        end += 1
    by_row: dict[Hashable, dict[str, Sequence[Hashable]]] = {}
    for name, rows in members.items():
        if len(rows) > end:
            by_row.setdefault(rows[end], {})[name] = rows
    return Node(begin, end, list(members), [_node(group, end) for group in by_row.values()])


def branch_steps(trees: Iterable[Node]) -> dict[str, list[int]]:
    """Returns, by training, the steps at which another training parts from it, ascending."""
    steps: dict[str, list[int]] = {}
    waiting = list(trees)
    for node in waiting:
        for name in node.trials:
            steps.setdefault(name, []).extend([node.end] if node.children and node.end > 0 else [])
        waiting += node.children
    return steps


def unshared_steps(trees: Iterable[Node]) -> int:
    """Returns the optimiser steps when every training runs alone."""
    return sum(len(tree.trials) * (tree.end - tree.begin) + unshared_steps(tree.children) for tree in trees)


def format_trees(trees: Sequence[Node], names: Mapping[str, str]) -> str:
    """Returns the trees as lines of text: the steps of each node, and the trainings that end there.

    Args: names: what to show for each training.
    """
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

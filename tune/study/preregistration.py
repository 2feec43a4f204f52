"""The plan of a seed study, written into the ledger before its first value is seen.

The plan shows what was planned and never came. A sequential test is valid for the plan that it began with only, so that
a changed one is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from tune.records.entries import SequentialPlan, StudyPlan, TrialEntry
from tune.study.conditions import same_configuration_key

SEEDS = (42, 1337, 2025)
"""Seeds of a study by default, those that most published results show."""
_FURTHER = (7, 314, 2718, 1618, 1729, 8128, 65537)
_NEW_NAME = "give another --name for another plan"


def fixed_seeds(given: Sequence[int], num: int, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """Returns `given` continued to `num` seeds, always by the same ones but those to avoid.

    Raises: ValueError for a seed that comes twice or is negative, or more of them than `num`.
    """
    if len(set(given)) < len(given) or min(given, default=0) < 0:
        raise ValueError(f"seeds must be different whole numbers from 0 on, got {' '.join(map(str, given))}")
    if len(given) > num:
        raise ValueError(f"{len(given)} seeds are given, more than --max-seeds {num}; raise it or give fewer")
    further = (*SEEDS, *_FURTHER, *range(1, num + len(given) + len(avoid) + 1))
    return tuple(dict.fromkeys((*given, *(seed for seed in further if seed not in avoid))))[:num]


def fresh_seeds(
    given: Sequence[int] | None, num: int, known: Mapping[int, str], earlier: StudyPlan | None
) -> tuple[int, ...]:
    """Returns the seeds of a sequential plan: none whose value was in the ledger before the plan was.

    Args: given: the first ones; None: the usual ones that are not known; num: the maximum; known: where a seed's value
        under this configuration is known from, other studies only; earlier: the study's own plan.
    Raises: ValueError naming a known seed; as `fixed_seeds`.
    """
    first = () if given is None else tuple(given)
    if earlier is not None and earlier.sequential is not None and earlier.seeds[: len(first)] == first:
        return fixed_seeds(earlier.seeds[:num], num, known)
    seen = [f'{seed} (in "{known[seed]}")' for seed in first if seed in known]
    if seen:
        raise ValueError(
            f"the ledger has the values of seeds {', '.join(seen)} already, and a plan made after values were seen "
            f"does not keep its error rate; give fresh ones, e.g. --seeds {_list(fixed_seeds((), 3, known))}"
        )
    return fixed_seeds(first, num, known)


def known_seeds(configuration: str, study: str, trials: Sequence[TrialEntry]) -> dict[int, str]:
    """Returns the seeds whose result under a configuration other studies and sweeps hold, and which one does.

    Args: configuration: its `tune.study.conditions.configuration_key`; study: whose own runs do not count; trials: all
        trials of the ledger.
    """
    return {
        entry.seed: entry.sweep
        for entry in trials
        if entry.sweep != study
        and entry.done
        and entry.seed is not None
        and same_configuration_key(entry) == configuration
    }


def agreed_plan(study: str, earlier: StudyPlan | None, wanted: StudyPlan, num_runs: int) -> StudyPlan:
    """Returns the plan that holds when `wanted` is asked for.

    A study of a fixed number of seeds may get more of them (its verdict then says that values were seen before); a
    sequential one, and what the seeds have in common, must stay as it was.

    Args: study: its name; earlier: its plan in the ledger; wanted: the plan that the command asks for; num_runs: runs
        of the study that the ledger holds.
    Raises: ValueError naming what would change, from what to what.
    """
    if earlier is None or not num_runs:
        if num_runs and wanted.sequential is not None:
            raise ValueError(
                f'study "{study}" has {num_runs} runs without a sequential plan, and a plan made after values were '
                f"seen does not keep its error rate; {_NEW_NAME}"
            )
        must_stay = ["cold"] if earlier is not None else []
    else:
        must_stay = ["configuration", "data", "cold", "sequential"]
        must_stay += ["seeds", "repeats"] if earlier.sequential is not None else []
    for field in must_stay:
        old, new = getattr(earlier, field), getattr(wanted, field)
        if old != new:
            raise ValueError(f'study "{study}" was planned with {_change(field, old, new)}; {_NEW_NAME}')
    if earlier is None or earlier.sequential is not None or not num_runs:
        return wanted
    seeds = tuple(dict.fromkeys((*earlier.seeds, *wanted.seeds)))
    return msgspec.structs.replace(wanted, seeds=seeds, repeats=max(earlier.repeats, wanted.repeats))


def _change(field: str, old: Any, new: Any) -> str:
    """Returns the first difference for a message."""
    if isinstance(old, SequentialPlan) and isinstance(new, SequentialPlan):
        field = next(name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name))
        old, new = getattr(old, field), getattr(new, field)
    if field == "sequential":
        old, new = ("looks" if value is not None else "a fixed number of seeds" for value in (old, new))
        return f"{old}, this command asks for {new} (--until-decided)"
    shown = [str(value)[:12] if field in ("configuration", "data") else _list(value) for value in (old, new)]
    return f"{field.replace('_', ' ')} {shown[0]}, this command asks for {shown[1]}"


def _list(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

"""The plan of a seed study, kept in the ledger before its first value is seen.

A plan enters, the plan that holds leaves. What was planned and never came is seen by it. A sequential test is valid for
the plan that it began with only, so that a changed one is refused here. Nothing here runs a seed.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from golf.config.config import RunConfig
from golf.config.rules import MARGIN_NATS, P_CLAIM
from tune.records.queries import trials_of
from tune.study.runs import Entry, config_key, configuration_of, run_of, seed_of

PLAN = "plan"
"""Kind of a plan's entry in the ledger."""
SEEDS = (42, 1337, 2025)
"""Seeds of a study by default, those that most published results show."""
_FURTHER = (7, 314, 2718, 1618, 1729, 8128, 65537)
_NEW_NAME = "give another --name for another plan"


@dataclass(frozen=True)
class Sequential:
    """A test with repeated looks; nothing of it may change once a value was seen."""

    looks: tuple[int, ...]
    """Numbers of seeds at which to look; the last is the maximum."""
    baseline: str
    """As it was named."""
    baseline_bpb: tuple[float, ...]
    published: bool
    """Whether the baseline is one published mean."""
    margin_nats: float = MARGIN_NATS
    alpha: float = P_CLAIM
    no_gain_alpha: float = 0.05


@dataclass(frozen=True)
class Plan:
    """What a study is to run."""

    configuration: str
    """Digest of all fields but the seed."""
    data: str
    """Digest of the dataset."""
    seeds: tuple[int, ...]
    """In the order in which they are run."""
    repeats: int = 0
    """Further runs of the first seed."""
    cold: bool = False
    """Whether nothing is taken from the store."""
    sequential: Sequential | None = None


def fixed_seeds(given: Sequence[int], num: int, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """`given` continued to `num` seeds, always by the same ones but those to avoid.

    Raises: ValueError for a seed that comes twice or is negative, or more of them than `num`.
    """
    if len(set(given)) < len(given) or min(given, default=0) < 0:
        raise ValueError(f"seeds must be different whole numbers from 0 on, got {' '.join(map(str, given))}")
    if len(given) > num:
        raise ValueError(f"{len(given)} seeds are given, more than --max-seeds {num}; raise it or give fewer")
    further = (*SEEDS, *_FURTHER, *range(1, num + len(given) + len(avoid) + 1))
    return tuple(dict.fromkeys((*given, *(seed for seed in further if seed not in avoid))))[:num]


def fresh_seeds(
    given: Sequence[int] | None, num: int, known: Mapping[int, str], earlier: Plan | None
) -> tuple[int, ...]:
    """The seeds of a sequential plan: none whose value was in the ledger before the plan was.

    Args: given: the first ones, None: the usual ones that are not known; num: the maximum; known: where a seed's value
        under this configuration is known from, other studies only; earlier: the study's own plan.
    Raises: ValueError naming a known seed; as `fixed_seeds`.
    """
    first = () if given is None else tuple(given)
    if earlier is not None and earlier.sequential is not None and earlier.seeds[: len(first)] == first:
        return fixed_seeds(earlier.seeds[:num], num, known)
    told = [f'{seed} (in "{known[seed]}")' for seed in first if seed in known]
    if told:
        raise ValueError(
            f"the ledger has the values of seeds {', '.join(told)} already, and a plan made after values were seen "
            f"does not keep its error rate; give fresh ones, e.g. --seeds {_list(fixed_seeds((), 3, known))}"
        )
    return fixed_seeds(first, num, known)


def known_seeds(config: RunConfig, study: str, entries: Sequence[Entry]) -> dict[int, str]:
    """Seeds whose result under this configuration other studies and sweeps hold, and which one does."""
    key = config_key(config)
    return {
        seed_of(entry): str(entry.get("sweep"))
        for entry in trials_of(entries)
        if entry.get("sweep") != study and configuration_of(entry) == key and run_of(entry).bpb is not None
    }


def entry_of(study: str, plan: Plan) -> dict[str, Any]:
    """The plan as a ledger entry."""
    return {"kind": PLAN, "study": study, "plan": json.loads(json.dumps(asdict(plan)))}


def plan_in(study: str, entries: Sequence[Mapping[str, Any]]) -> Plan | None:
    """The plan that the ledger's entries hold for the study, the last one."""
    found = [entry["plan"] for entry in entries if entry.get("kind") == PLAN and entry.get("study") == study]
    if not found:
        return None
    plain = dict(found[-1])
    sequential = plain["sequential"]
    if sequential is not None:
        lists = {name: tuple(sequential[name]) for name in ("looks", "baseline_bpb")}
        plain["sequential"] = Sequential(**{**sequential, **lists})
    return Plan(**{**plain, "seeds": tuple(plain["seeds"])})


def agreed(study: str, earlier: Plan | None, wanted: Plan, seen: int) -> Plan:
    """The plan that holds when `wanted` is asked for.

    A study of a fixed number of seeds may get more of them (its verdict then says that values were seen before); a
    sequential one, and what the seeds have in common, must stay as it was.

    Args: seen: runs of the study that the ledger holds.
    Raises: ValueError naming what would change, from what to what.
    """
    if earlier is None or not seen:
        if seen and wanted.sequential is not None:
            raise ValueError(
                f'study "{study}" has {seen} runs without a sequential plan, and a plan made after values were seen '
                f"does not keep its error rate; {_NEW_NAME}"
            )
        changed = ["cold"] if earlier is not None and earlier.cold != wanted.cold else []
    else:
        changed = ["configuration", "data", "cold", "sequential"]
        changed += ["seeds", "repeats"] if earlier.sequential is not None else []
    for name in changed:
        old, new = getattr(earlier, name), getattr(wanted, name)
        if old != new:
            raise ValueError(f'study "{study}" was planned with {_change(name, old, new)}; {_NEW_NAME}')
    if earlier is None or earlier.sequential is not None or not seen:
        return wanted
    return replace(
        wanted,
        seeds=tuple(dict.fromkeys((*earlier.seeds, *wanted.seeds))),
        repeats=max(earlier.repeats, wanted.repeats),
    )


def _change(name: str, old: Any, new: Any) -> str:
    """The first difference in words."""
    if isinstance(old, Sequential) and isinstance(new, Sequential):
        before, after = asdict(old), asdict(new)
        name = next(field for field in before if before[field] != after[field])
        old, new = before[name], after[name]
    if name == "sequential":
        old, new = ("looks" if value is not None else "a fixed number of seeds" for value in (old, new))
        return f"{old}, this command asks for {new} (--until-decided)"
    shown = [str(value)[:12] if name in ("configuration", "data") else _list(value) for value in (old, new)]
    return f"{name.replace('_', ' ')} {shown[0]}, this command asks for {shown[1]}"


def _list(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

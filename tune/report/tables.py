"""From results to tables: every figure as the ledger holds it, or as `tune.study.stats` computes it from that.

Results enter, tables of texts leave. Texts are as users wrote them: whoever prints them makes them harmless.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from golf.config.rules import P_CLAIM, P_LOOSE
from golf.runtime.results import LADDER
from tune.records.ledger import STAMPS, DamagedLine
from tune.records.text import flat
from tune.report.canvas import signed
from tune.report.data import (
    STATUSES,
    Entry,
    Group,
    Results,
    cap_of,
    ending_of,
    finished_bpb,
    groups_of,
    mean_bpb,
    metric,
    name_of,
    parameters,
    seed_of,
    trial_of,
)
from tune.report.run_figures import RUNG_NAMES
from tune.report.search_figures import front_of
from tune.study.stats import cap_probability, summarise
from tune.study.verdict import TEXT

NONE = "\u2013"
"""Where there is no figure."""
_DIGITS = 12
"""Of a digest."""


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    """Columns that are aligned to the right."""
    words: str = ""
    """Below the table."""
    folded: bool = False
    """Whether a page shows it only when asked."""


@dataclass(frozen=True)
class Text:
    """Lines as they were printed."""

    title: str
    text: str


def tables_of(results: Results) -> list[Table]:
    """All tables below the figures, in reading order; the empty ones left out."""
    tables = [
        trials_table(results),
        causes_table(results.trials),
        *best_tables(results),
        environment_table(results.trials),
    ]
    return [table for table in tables if table.rows]


def overview_table(results: Results) -> Table:
    """A sweep or study in a few lines."""
    best = results.ranked[0] if results.ranked else None
    known = [entry for entry in results.trials if entry.get("status") in STATUSES]
    endings = [
        f"{results.count(status)} {ending_of({'status': status})}" for status in STATUSES if results.count(status)
    ]
    endings += [f"{len(results.trials) - len(known)} otherwise"] if len(known) < len(results.trials) else []
    rows = [("trials", f"{len(results.trials)}: {', '.join(endings)}" if results.trials else "none")]
    if best is not None and not results.is_study:
        rows += [("best", f"{finished_bpb(best):.4f} BPB, trial {trial_of(best)}, {name_of(best)}")]
    if best is not None and (size := metric(best, "artifact_bytes")) is not None and not results.is_study:
        rows += [("its artifact", f"{size:,.0f} bytes, {_room(best)} to the cap")]
    rows += [("cap", ", ".join(f"{cap:,} bytes" for cap in results.caps))] if results.caps else []
    rows += _seconds_rows(results.trials)
    begun = [entry["started"] for entry in results.trials if isinstance(entry.get("started"), (int, float))]
    ended = [entry["ended"] for entry in results.trials if isinstance(entry.get("ended"), (int, float))]
    rows += [("from", _moment(min(begun)))] if begun else []
    rows += [("to", _moment(max(ended)))] if ended else []
    return Table("", ("", ""), tuple(rows))


def _seconds_rows(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What the trials cost, alone and as it was."""
    alone = [value for value in (metric(entry, "seconds") for entry in entries) if value is not None]
    now = [value for value in (metric(entry, "seconds_now") for entry in entries) if value is not None]
    rows = [("seconds alone", f"{sum(alone):,.0f}, each trial computed by itself")] if alone else []
    return rows + ([("seconds now", f"{sum(now):,.0f}, with shared stages computed once")] if now else [])


def front_table(results: Results) -> Table:
    """The Pareto front, numbered as in its figure."""
    done = [entry for entry in results.trials if finished_bpb(entry) is not None]
    done = [entry for entry in done if metric(entry, "artifact_bytes") is not None]
    points = [(float(metric(entry, "artifact_bytes") or 0.0), float(finished_bpb(entry) or 0.0)) for entry in done]
    rows = [
        (
            str(number),
            f"{points[place][1]:.4f}",
            f"{points[place][0]:,.0f}",
            _room(done[place]),
            trial_of(done[place]),
            name_of(done[place]),
        )
        for number, place in enumerate(front_of(points), start=1)
    ]
    columns = ("number", "BPB", "bytes", "to the cap", "trial", "name")
    return Table("The Pareto front", columns, tuple(rows), frozenset({0, 1, 2, 3}))


def seeds_table(results: Results) -> Table:
    """Mean, spread and interval of every configuration with several seeds, and its bytes against the cap."""
    groups = [group for group in groups_of(results) if len(group.seeds) > 1 or (group.seeds and results.is_study)]
    words = (
        "Recomputed from the trials' entries. Interval: t, of the mean, for independent normal values. Bytes: of all "
        "artifacts, those over the cap too. P(over), that a further seed exceeds the cap: by the normal prediction "
        "interval, which knows no heavy tail."
    )
    columns = (
        "configuration",
        "seeds",
        "without a result",
        "mean BPB",
        "sd",
        "95 % interval",
        "mean nats/token",
        "largest bytes",
        "to the cap",
        "P(over)",
    )
    return Table("Seeds in figures", columns, tuple(map(_seeds_row, groups)), frozenset(range(3, 10)), words)


def _seeds_row(group: Group) -> tuple[str, ...]:
    summary = summarise([float(finished_bpb(entry) or 0.0) for entry in group.seeds])
    nats = [value for value in (metric(entry, "nats") for entry in group.seeds) if value is not None]
    sizes, cap = group.sizes, cap_of(group.seeds[0])
    risk = cap_probability(sizes, cap) if sizes and cap is not None else None
    return (
        group.name,
        ", ".join(str(seed_of(entry)) for entry in group.seeds),
        ", ".join(f"{seed_of(entry)} ({ending_of(entry)})" for entry in group.lacking) or "none",
        f"{summary.mean:.5f}",
        NONE if summary.standard_deviation is None else f"{summary.standard_deviation:.5f}",
        NONE if summary.interval is None else f"{summary.interval[0]:.5f} to {summary.interval[1]:.5f}",
        f"{summarise(nats).mean:.5f}" if len(nats) == len(group.seeds) else NONE,
        f"{max(sizes):,}" if sizes else NONE,
        NONE if risk is None else signed(risk.margin_bytes, 0),
        NONE if risk is None or risk.probability is None else f"{risk.probability:.2g}",
    )


def verdict_parts(verdict: Entry | None) -> list[Text | Table]:
    """The study's verdict as the ledger holds it: its text, its fields, and a table for every list in it."""
    if verdict is None:
        return []
    fields = {name: value for name, value in verdict.items() if name not in (*STAMPS, "kind", TEXT)}
    lists = {name: value for name, value in fields.items() if _is_table(value)}
    rest = {name: value for name, value in fields.items() if name not in lists}
    words = (
        f"As it was written to the ledger at {verdict.get('time', 'an unknown time')}. Gains are baseline minus "
        f"candidate; p is one-sided, that a gain exceeds its margin; claim: p < {P_CLAIM}, loose: p < {P_LOOSE}."
    )
    tables: list[Text | Table] = [Text("The verdict", str(verdict[TEXT]))] if verdict.get(TEXT) else []
    tables.append(Table("The verdict in fields", ("field", "value"), _field_rows(rest), words=words, folded=True))
    for name, items in lists.items():
        flats = [flat(item) for item in items]
        columns = tuple(dict.fromkeys(column for item in flats for column in item))
        body = tuple(tuple(_text(item.get(column)) for column in columns) for item in flats)
        tables.append(Table(f"The verdict: {name}", columns, body, folded=True))
    return tables


def _field_rows(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The fields that say something."""
    return tuple((name, _text(value)) for name, value in flat(fields).items() if value is not None and value != [])


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def trials_table(results: Results) -> Table:
    """Every trial, none left out."""
    rungs = [rung for rung in LADDER if any(metric(entry, f"bpb_{rung}") is not None for entry in results.trials)]
    columns: list[tuple[str, Callable[[Entry], str]]] = [
        ("trial", trial_of),
        ("name", name_of),
        ("status", ending_of),
        ("BPB", lambda entry: _figure(finished_bpb(entry), ".4f")),
        *((RUNG_NAMES[rung], _metric_of(f"bpb_{rung}", ".4f")) for rung in rungs),
        ("bytes", _metric_of("artifact_bytes", ",.0f")),
        ("to the cap", _room),
        ("alone s", _metric_of("seconds", ",.0f")),
        ("now s", _metric_of("seconds_now", ",.0f")),
        ("cause", lambda entry: str(entry.get("cause") or "")),
    ]
    rows = tuple(tuple(show(entry) for _, show in columns) for entry in results.ordered)
    words = (
        "Best first. BPB is the last rung. Seconds alone: what the trial costs by itself; now: what it cost beside the "
        "others, of which it took what they had computed."
    )
    titles = tuple(title for title, _ in columns)
    return Table("All trials", titles, rows, frozenset(range(3, len(columns) - 1)), words)


def causes_table(entries: Sequence[Entry]) -> Table:
    """Why trials have no result, like causes together: those that differ in their numbers or their details only."""
    causes: dict[tuple[str, str], list[str]] = {}
    for entry in sorted(entries, key=lambda entry: (ending_of(entry), str(entry.get("cause")))):
        if finished_bpb(entry) is None:
            cause = re.sub(r"\d[\d,.]*", "\u2026", str(entry.get("cause") or "unknown").partition(": ")[0])
            causes.setdefault((ending_of(entry), cause), []).append(trial_of(entry))
    rows = tuple((status, cause, str(len(ids)), ", ".join(ids)) for (status, cause), ids in causes.items())
    return Table("Why trials have no result", ("status", "cause", "trials", "which"), rows, frozenset({2}))


def best_tables(results: Results) -> list[Table]:
    """The best trial's searched fields, and its whole configuration; a study's one configuration."""
    if not results.ranked:
        return []
    best = results.ranked[0]
    searched = tuple((field, _text(value)) for field, value in parameters(best).items())
    config = tuple((field, _text(value)) for field, value in flat(best.get("config") or {}).items())
    whose = f"{name_of(best)} ({trial_of(best)})"
    if results.is_study:
        return [Table("The whole configuration", ("field", "value"), config, words=f"Of {whose}.", folded=True)]
    return [
        Table("The best trial's searched fields", ("field", "value"), searched, words=f"Of {whose}."),
        Table("The best trial's whole configuration", ("field", "value"), config, words=f"Of {whose}.", folded=True),
    ]


def environment_table(entries: Sequence[Entry]) -> Table:
    """What computed the numbers: every different value, and in how many trials."""
    seen: dict[tuple[str, str], int] = {}
    for entry in entries:
        tags = entry.get("tags") or {}
        facts = {"preset": entry.get("preset"), "code digest": entry.get("code"), "data digest": entry.get("data")}
        facts |= {f"version of {package}": version for package, version in (entry.get("environment") or {}).items()}
        facts |= {name: tags.get(name) for name in ("device", "host", "git_commit")}
        for fact, value in facts.items():
            where = (fact, "unknown" if value is None else str(value))
            seen[where] = seen.get(where, 0) + 1
    rows = sorted((fact, value, str(count)) for (fact, value), count in seen.items())
    return Table("Environment", ("what", "value", "trials"), tuple(rows), frozenset({2}))


def mixtures(entries: Sequence[Entry]) -> list[str]:
    """Warnings of what must be the same for BPB to be comparable, and is not."""
    found = []
    for field, what in (("data", "datasets"), ("code", "versions of the code")):
        values = {str(entry[field]) for entry in entries if entry.get(field) is not None}
        if len(values) > 1:
            shown = ", ".join(sorted(value[:_DIGITS] for value in values))
            found.append(f"These trials ran on {len(values)} different {what} ({shown}): compare their BPB with care.")
    return found


def outdated(results: Results) -> list[str]:
    """A warning where the verdict judged other runs than the ledger now holds under this name."""
    judged = ((results.verdict or {}).get("bpb") or {}).get("mean")
    groups = [group for group in groups_of(results) if group.seeds]
    if not isinstance(judged, float) or not groups:
        return []
    means = [mean_bpb(group.seeds) for group in groups]
    if any(math.isclose(mean, judged, abs_tol=1e-9) for mean in means):
        return []
    return [f"The verdict is of other runs than those shown here: its mean is {judged:.5f} BPB, theirs {means[0]:.5f}."]


def damage_table(damaged: Sequence[DamagedLine]) -> Table:
    """Lines of the ledger that could not be read."""
    rows = tuple((str(line.line_number), line.reason, line.text[:80]) for line in damaged)
    return Table("Damaged lines of the ledger", ("line", "what is wrong", "beginning"), rows, frozenset({0}))


def _metric_of(name: str, form: str) -> Callable[[Entry], str]:
    return lambda entry: _figure(metric(entry, name), form)


def _figure(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _room(entry: Entry) -> str:
    size, cap = metric(entry, "artifact_bytes"), cap_of(entry)
    return NONE if size is None or cap is None else signed(cap - size, 0)


def _text(value: Any) -> str:
    """A plain value in words; a figure with seven digits."""
    if isinstance(value, list) and value and not any(isinstance(item, (list, Mapping)) for item in value):
        return ("; " if any(isinstance(item, str) for item in value) else ", ").join(map(_text, value))
    if value is None or value == []:
        return NONE
    if isinstance(value, float):
        return f"{value:.7g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Tables of a report: every number as the ledger holds it, or as `tune.study.stats` computes it from that.

Cells are texts as users wrote them; the page that shows them makes them harmless.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from golf.config.rules import P_CLAIM, P_LOOSE
from tune.records.entries import TrialEntry, VerdictEntry
from tune.records.lines import DamagedLine
from tune.records.text import flat
from tune.report.data import STATE_NAMES, Group, Results, groups_of, loss_of, name_of, score_of, searched_fields
from tune.report.run_figures import RUNG_NAMES
from tune.report.text import signed
from tune.report.trial_figures import front_of
from tune.study.stats import cap_probability, summarise

_NUM_BEST = 10
"""Trials in the short table, at most."""
NONE = "\u2013"
"""Cell of a value that is not there."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts."""

    title: str = ""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    number_columns: range = range(0)
    """Columns that are aligned to the right."""
    note: str = ""
    """What a reader has to know, below the table."""
    folded: bool = False
    """Whether a page shows it only on request."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """Lines as they were printed."""

    title: str
    text: str


def tables_of(results: Results) -> list[Table]:
    """Returns all tables below the figures, in reading order; the empty ones left out."""
    tables = [
        trials_table(results),
        seeds_table(results),
        *([] if results.is_study else [front_table(results)]),
        causes_table(results.ordered),
        *best_tables(results),
        environment_table(results.trials),
    ]
    return [table for table in tables if table.rows]


def overview_table(results: Results) -> Table:
    """Returns a sweep or study in a few lines."""
    counts = Counter(entry.state for entry in results.trials)
    endings = ", ".join(f"{counts[state]} {name}" for state, name in STATE_NAMES.items() if counts[state])
    rows = [("trials", f"{len(results.trials)}: {endings}" if results.trials else "none")]
    if results.caps:
        rows += [("cap", ", ".join(f"{cap:,} bytes" for cap in results.caps))]
    if any(entry.seconds for entry in results.trials):
        alone = sum(entry.total_seconds for entry in results.trials)
        computed = sum(entry.computed_seconds for entry in results.trials)
        rows += [("seconds alone", f"{alone:,.0f}, each trial computed by itself")]
        rows += [("seconds computed", f"{computed:,.0f}, with shared stages computed once")]
    if results.trials:
        rows += [("from", _moment(min(entry.started for entry in results.trials)))]
        rows += [("to", _moment(max(entry.ended for entry in results.trials)))]
    return Table(title="In short", columns=("", ""), rows=tuple(rows))


def front_table(results: Results) -> Table:
    """Returns the Pareto front of score and bytes, from left to right as in its figure."""
    sized = [(entry.artifact_bytes, entry) for entry in results.trials if entry.done and entry.artifact_bytes]
    front = [sized[index][1] for index in front_of([(size, loss_of(entry)) for size, entry in sized])]
    return _table(
        front, [_score(results.unit), _BYTES, _ROOM, _TRIAL, _NAME], title="The Pareto front", number_columns=range(3)
    )


def seeds_table(results: Results) -> Table:
    """Returns mean, spread and interval of every configuration with several seeds, and its bytes against the cap."""

    def row_of(group: Group) -> tuple[str, ...]:
        summary = summarise([score_of(entry) for entry in group.seeds])
        nats = [entry.nats_per_token for entry in group.seeds if entry.nats_per_token is not None]
        sizes, cap = group.sizes, group.seeds[0].cap_bytes
        risk = cap_probability(sizes, cap) if sizes and cap is not None else None
        unfinished = ", ".join(f"{entry.seed} ({STATE_NAMES[entry.state]})" for entry in group.unfinished)
        return (
            group.name,
            ", ".join(str(entry.seed) for entry in group.seeds),
            unfinished or "none",
            f"{summary.mean:.5f}",
            _number(summary.standard_deviation, ".5f"),
            NONE if summary.interval is None else f"{summary.interval[0]:.5f} to {summary.interval[1]:.5f}",
            f"{summarise(nats).mean:.5f}" if len(nats) == len(group.seeds) else NONE,
            _number(max(sizes, default=None), ",d"),
            NONE if risk is None else signed(risk.margin_bytes, 0),
            _number(None if risk is None else risk.probability, ".2g"),
        )

    groups = [group for group in groups_of(results) if len(group.seeds) > 1 or (group.seeds and results.is_study)]
    return Table(
        title="Seeds in numbers",
        columns=(
            *(
                "configuration",
                "seeds",
                "without a result",
                f"mean {results.unit}",
                "sd",
                "95 % interval",
                "mean nats/token",
            ),
            *("largest bytes", "to the cap", "P(over)"),
        ),
        rows=tuple(map(row_of, groups)),
        number_columns=range(3, 10),
        note="Computed from the trials' entries. Interval: t interval of the mean, for independent normal values. "
        "Bytes: of all artifacts, those over the cap too. P(over): probability that a further seed exceeds the cap, by "
        "the normal prediction interval, which knows no heavy tail.",
    )


def verdict_parts(entry: VerdictEntry | None) -> list[Text | Table]:
    """Returns the study's verdict as the ledger holds it: its text, its fields, and a table for every list in it."""
    if entry is None:
        return []
    fields = {name: value for name, value in flat(msgspec.to_builtins(entry.verdict)).items() if name != "text"}
    fields["holds"] = entry.verdict.holds
    lists = {name: value for name, value in fields.items() if _is_table(value)}
    rows = ((name, _text(value)) for name, value in fields.items() if name not in lists and value not in (None, [], ()))
    note = (
        f"As it was written to the ledger at {entry.time}. Gains are baseline minus candidate; p is one-sided, that a "
        f"gain exceeds its margin; claim: p < {P_CLAIM}, loose: p < {P_LOOSE}."
    )
    columns: tuple[str, ...] = ("field", "value")
    parts: list[Text | Table] = [Text(title="The verdict", text=entry.verdict.text)] if entry.verdict.text else []
    parts.append(Table(title="The verdict in fields", columns=columns, rows=tuple(rows), note=note, folded=True))
    for name, items in lists.items():
        flat_items = [flat(item) for item in items]
        columns = tuple(dict.fromkeys(column for item in flat_items for column in item))
        body = tuple(tuple(_text(item.get(column)) for column in columns) for item in flat_items)
        parts.append(Table(title=f"The verdict: {name}", columns=columns, rows=body, folded=True))
    return parts


def _is_table(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, Mapping) for item in value)


def trials_table(results: Results) -> Table:
    """Returns every trial, none left out; without columns of what no trial has."""
    rungs = dict.fromkeys(rung.name for entry in results.trials for rung in entry.rungs)
    first, last = _point_columns(results), _size_columns(results)
    columns = [
        *first,
        _score(results.unit),
        *map(_rung, rungs),
        *([_partial(results)] if results.partial else []),
        *last,
    ]
    columns += [
        Column("alone s", lambda entry: _number(entry.total_seconds if entry.seconds else None, ",.0f")),
        Column("computed s", lambda entry: _number(entry.computed_seconds if entry.seconds else None, ",.0f")),
        Column("why not, and notes", lambda entry: entry.reason or "; ".join(entry.notes)),
    ]
    note = (
        f"Best first. {results.unit} is the score that counts. Seconds alone: what the trial costs by itself; "
        "computed: what was computed for it, without what other trials had computed before."
    )
    if results.partial:
        note += f" First part: {results.partial[0].name}, by which trials are screened; it compares with its like only."
    number_columns = range(len(first), len(columns) - 1)
    return _table(results.ordered, columns, title="All trials", number_columns=number_columns, note=note)


def best_trials_table(results: Results) -> Table:
    """Returns the best trials: what was searched, the score and the bytes."""
    shown, first = results.ordered[:_NUM_BEST], _point_columns(results)
    columns = [*first, _score(results.unit), *_size_columns(results)]
    rest = len(results.trials) - len(shown)
    note = f"Best first; {rest} further trials are in report.html and in the ledger." if rest else ""
    number_columns = range(len(first), len(columns))
    return _table(shown, columns, title="The best trials", number_columns=number_columns, note=note)


def _point_columns(results: Results) -> list["Column"]:
    """Returns columns of the trial and of every searched field; its name where a trial has no searched field."""
    fields = searched_fields(results.trials)
    named = not all(entry.parameters for entry in results.trials)
    return [_TRIAL, _ENDED, *([_NAME] if named else map(_parameter, fields))]


def _size_columns(results: Results) -> list["Column"]:
    return [_BYTES, _ROOM] if any(entry.size for entry in results.trials) else []


class Column(NamedTuple):
    """A column of a table of trials."""

    title: str
    cell_of: Callable[[TrialEntry], str]


def _table(entries: Sequence[TrialEntry], columns: Sequence[Column], **fields: Any) -> Table:
    """Returns a table with a row for every trial; fields: further ones of `Table`."""
    rows = tuple(tuple(column.cell_of(entry) for column in columns) for entry in entries)
    return Table(columns=tuple(column.title for column in columns), rows=rows, **fields)


def _rung(name: str) -> Column:
    def cell_of(entry: TrialEntry) -> str:
        rung = entry.rung(name)
        return NONE if rung is None else f"{rung.bpb:.4f}"

    return Column(RUNG_NAMES.get(name, name), cell_of)


def _parameter(field: str) -> Column:
    return Column(field, lambda entry: _text(entry.parameters.get(field)))


def _partial(results: Results) -> Column:
    values = {score.entry.identity: score.value for score in results.partial}
    return Column("first part", lambda entry: _number(values.get(entry.identity), ".4f"))


def _score(unit: str) -> Column:
    return Column(unit, lambda entry: f"{score_of(entry):.4f}" if entry.done else NONE)


def _room(entry: TrialEntry) -> str:
    if entry.artifact_bytes is None or entry.cap_bytes is None:
        return NONE
    return signed(entry.cap_bytes - entry.artifact_bytes, 0)


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


_TRIAL, _NAME = Column("trial", lambda entry: entry.trial), Column("name", name_of)
_ENDED = Column("ended", lambda entry: STATE_NAMES[entry.state])
_BYTES = Column("bytes", lambda entry: _number(entry.artifact_bytes, ",d"))
_ROOM = Column("to the cap", _room)


def causes_table(entries: Sequence[TrialEntry]) -> Table:
    """Returns why trials have no result, counted by cause; causes that differ in their numbers only are one."""
    causes: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if not entry.done:
            reason = re.sub(r"\d[\d,.]*", "\u2026", (entry.reason or "unknown").partition(": ")[0])
            cause = entry.failure.kind if entry.failure else reason
            causes.setdefault((STATE_NAMES[entry.state], cause), []).append(entry.trial)
    rows = tuple((*key, str(len(trials)), ", ".join(trials)) for key, trials in sorted(causes.items()))
    columns = ("ended", "cause", "trials", "which")
    return Table(title="Why trials have no result", columns=columns, rows=rows, number_columns=range(2, 3))


def best_tables(results: Results) -> list[Table]:
    """Returns the best trial's searched fields and its whole configuration; only the latter of a study."""
    tables = []
    for best in results.ranked[:1]:
        titles = {"The whole configuration": best.config}
        if not results.is_study:
            titles = {
                "The best trial's searched fields": best.parameters,
                "The best trial's whole configuration": best.config,
            }
        for title, values in titles.items():
            rows = tuple((field, _text(value)) for field, value in flat(values).items())
            note = f"Trial {best.trial}, {name_of(best)}."
            folded = values is best.config
            tables.append(Table(title=title, columns=("field", "value"), rows=rows, note=note, folded=folded))
    return tables


def environment_table(entries: Sequence[TrialEntry]) -> Table:
    """Returns what computed the numbers: every different value, and in how many trials."""
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        facts = {"workload": entry.workload, "preset": entry.preset, "dataset": entry.dataset}
        facts |= {"code digest": entry.code, "data digest": entry.data}
        facts |= {f"version of {package}": version for package, version in entry.environment.items()}
        facts |= {"device": "unknown" if entry.device is None else str(entry.device)}
        facts |= {name: entry.tags.get(name, "unknown") for name in ("host", "git_commit")}
        counts.update(facts.items())
    rows = tuple(sorted((name, value, str(count)) for (name, value), count in counts.items()))
    columns = ("what", "value", "trials")
    return Table(title="Environment", columns=columns, rows=rows, number_columns=range(2, 3))


def damage_table(damaged: Sequence[DamagedLine]) -> Table:
    """Returns the lines of the ledger that could not be read."""
    rows = tuple((str(line.line_number), line.reason, line.text[:80]) for line in damaged)
    columns = ("line", "what is wrong", "beginning")
    return Table(title="Damaged lines of the ledger", columns=columns, rows=rows, number_columns=range(1))


def _text(value: Any) -> str:
    """Returns a JSON value as a cell; a float with seven digits."""
    if value is None or value in ([], ()):
        return NONE
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple, Mapping)) for item in value):
        return ("; " if any(isinstance(item, str) for item in value) else ", ").join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.7g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Studies made of ledger entries: nothing mixed, nothing left out."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.config import RunConfig, override_all, to_plain
from golf.runtime.results import digest
from tune.study.runs import best_trial, check_unmixed, configuration_of, find_trial, named, run_of, stream_of, study_of

CHUNKS = tuple((100 + 7 * (n % 3), 240 + 11 * (n % 5)) for n in range(24))
"""(tokens, bytes) of a made-up stream."""
TOKENS, BYTES = (sum(chunk[part] for chunk in CHUNKS) for part in (0, 1))
NATS_PER_BPB = math.log(2) * BYTES / TOKENS


def entry(sweep: str, seed: int, bpb: float | None, **changes: Any) -> dict[str, Any]:
    """A ledger entry as a sweep writes it.

    Args: bpb: None: not done; changes: fields of the entry; "set" are fields of the configuration, "repeat" a number.
    """
    repeat = changes.pop("repeat", 0)
    config = to_plain(override_all(RunConfig(), {"seed": seed, "cap_bytes": 1000, **changes.pop("set", {})}))
    done = bpb is not None
    status = changes.get("status", "done" if done else "failed")
    noise = [0.1 * ((seed * 7 + n * 13) % 11 - 5) for n in range(len(CHUNKS))]
    noise = [value - sum(noise) / len(noise) for value in noise]
    per_token = (bpb if bpb is not None else 0.0) * NATS_PER_BPB
    each = [[per_token * tokens + e, tokens, num] for (tokens, num), e in zip(CHUNKS, noise, strict=True)]
    metrics: dict[str, Any] = {"artifact_bytes": 900 + seed % 10, "train_seconds": 500.0, "ttt_seconds": 300.0}
    metrics |= {"seconds": 800.0, "seconds_now": 800.0}
    metrics |= {"bpb": bpb, "nats": bpb * NATS_PER_BPB} if bpb is not None else {}
    return {
        "kind": "trial",
        "sweep": sweep,
        "trial": digest(config, *([repeat] if repeat else []))[:12],
        "preset": "tiny",
        "parameters": {"seed": seed} | ({"repeat": repeat} if repeat else {}),
        "config": config,
        "data": "d" * 64,
        "code": "c" * 64,
        "environment": {"torch": "2", "numpy": "3"},
        "status": status,
        "cause": None if done else "killed: its process died",
        "metrics": {} if status == "failed" else metrics,
        "chunks": {"sliding": each, "ttt": each} if done else {},
        "tags": {} if status == "failed" else {"device": "8 x H100"},
        "keys": ["k"],
        **changes,
    }


def study_entries(sweep: str, values: list[float], **changes: Any) -> list[dict[str, Any]]:
    """Entries of seeds 0, 1, 2, ..."""
    return [entry(sweep, seed, value, **changes) for seed, value in enumerate(values)]


MIXTURES: list[tuple[str, Callable[[dict[str, Any]], Any], str, str]] = [
    ("code", lambda e: e.update(code="other"), "c" * 64, "other"),
    ("data", lambda e: e.update(data="other"), "d" * 64, "other"),
    ("device", lambda e: e.update(tags={"device": "1 x H100"}), "8 x H100", "1 x H100"),
    ("environment.torch", lambda e: e.update(environment={"torch": "9", "numpy": "3"}), "2", "9"),
    ("environment.numpy", lambda e: e.update(environment={"torch": "2"}), "3", "unknown"),
    ("code", lambda e: e.pop("code"), "c" * 64, "unknown"),
    ("environment.torch", lambda e: e.pop("environment"), "2", "unknown"),
    ("schedule.steps", lambda e: e["config"]["schedule"].update(steps=8000), "7000", "8000"),
    ("ttt.lr", lambda e: e["config"]["ttt"].update(lr=0.25), "0.002", "0.25"),
    ("ttt", lambda e: e["config"].update(ttt=None), "given", "null"),
    ("cap_bytes", lambda e: e["config"].update(cap_bytes=7), "1000", "7"),
]


@pytest.mark.parametrize(("field", "change", "usual", "other"), MIXTURES)
def test_a_mixture_is_refused(field: str, change: Callable[[dict[str, Any]], Any], usual: str, other: str) -> None:
    """Fault: seeds of different code, data, machines or configurations averaged as one result."""
    entries = study_entries("s", [1.2, 1.21, 1.22])
    entries[1]["config"] = json.loads(json.dumps(entries[1]["config"]))
    change(entries[1])
    with pytest.raises(ValueError, match="differ in") as refused:
        study_of("s", entries)
    words = str(refused.value)
    assert f"differ in {field}: " in words
    assert f"{usual} (seeds 0, 2)" in words
    assert f"{other} (seed 1)" in words


def test_a_mixture_with_what_is_to_come_is_refused() -> None:
    """Fault: GPU hours spent on seeds that cannot be put to those that are there."""
    entries = study_entries("s", [1.2, 1.21])
    coming = entry("", 0, None, code="new")
    with pytest.raises(ValueError, match=r"code: c+ \(seeds 0, 1\), new \(this command\)"):
        check_unmixed("s", entries, coming)
    check_unmixed("s", entries, entry("", 0, None))


def test_old_entries_without_facts_are_one_study_of_unknown_code() -> None:
    """Fault: a ledger of an earlier version crashes, or its runs count as known to be equal."""
    entries = study_entries("s", [1.2, 1.21])
    for one in entries:
        for field in ("code", "data", "environment", "tags", "keys", "preset", "parameters"):
            del one[field]
    facts = study_of("s", entries).facts
    assert facts == {"code": None, "data": None, "device": None}


def test_only_the_seed_may_differ_from_defaults_left_out() -> None:
    """Fault: a field that came later makes an old run of the same configuration another one, and so unlisted."""
    old, new = entry("a", 1, 1.2), entry("b", 1, 1.2)
    del old["config"]["quant"]["float_elements"]
    assert configuration_of(old) == configuration_of(new)
    assert configuration_of(old) != configuration_of(entry("b", 1, 1.2, set={"quant.float_elements": 3}))


STATUSES = st.sampled_from(["done", "failed", "infeasible", "screened"])
RUNS = st.lists(
    st.tuples(st.sampled_from(["s", "t", "u"]), st.integers(0, 4), st.integers(0, 2), STATUSES, st.sampled_from("cx")),
    min_size=1,
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(runs=RUNS)
def test_nothing_is_left_out(runs: list[tuple[str, int, int, str, str]]) -> None:
    """Fault: a failed, earlier, foreign or repeated run of the configuration that no listing shows."""
    entries = []
    for sweep, seed, repeat, status, code in runs:
        made = entry(sweep, seed, 1.2 if status == "done" else None, status=status, repeat=repeat)
        entries.append(made | {"code": "c" if sweep == "s" else code})
    entries = [entry("s", 9, 1.3, code="c"), *entries, entry("t", 0, 1.2, set={"schedule.steps": 8000})]
    study = study_of("s", entries)
    shown = [*study.rows, *study.repeats, *(other.run for other in study.others)]
    assert sorted(map(repr, shown)) == sorted(repr(run_of(one)) for one in entries[:-1])
    latest = {(one["trial"]): one["status"] for one in entries if one["sweep"] == "s"}
    assert {run.trial: run.status for run in (*study.rows, *study.repeats)} == latest
    assert all((row.bpb is not None) == (row.status == "done") for row in study.rows)
    foreign = [(repr(run_of(one)), one["code"] != "c") for one in entries[:-1] if one["sweep"] != "s"]
    told = [(repr(other.run), "other code" in other.why) for other in study.others if other.run.sweep != "s"]
    assert sorted(told) == sorted(foreign)


def test_the_streams_unit() -> None:
    """Fault: bits per token for bits per byte, or the sums of one chunk for those of all."""
    run = entry("s", 3, 1.25)
    stream = stream_of(run)
    assert stream is not None
    nats = math.fsum(chunk[0] for chunk in run["chunks"]["ttt"])
    assert nats / math.log(2) / BYTES == pytest.approx(1.25, rel=1e-12)
    assert nats / TOKENS == pytest.approx(1.25 * stream.nats_per_bpb, rel=1e-12)


def test_what_is_computed_is_told_from_what_is_shared() -> None:
    """Fault: a run that took results from the store passes for one that computed all itself."""
    alone = run_of({name: value for name, value in entry("s", 0, 1.2).items() if name != "keys"})
    own, shared = entry("s", 0, 1.2), entry("s", 0, 1.2)
    shared["metrics"]["seconds_now"] = 300.0
    assert (alone.cold, run_of(own).cold, run_of(shared).cold) == (True, True, False)
    assert run_of(entry("s", 0, None)).cold is None


def test_names() -> None:
    """Fault: a name that stands for other runs than the reader thinks, or a wrong one that is taken."""
    other = {"schedule.steps": 8000}
    entries = [*study_entries("s", [1.2, 1.1]), entry("t", 0, 1.3), entry("t", 1, 1.0, set=other)]
    entries.append(entry("t", 5, 1.4, set=other))
    trial = entries[3]["trial"]
    assert named("s", entries) == entries[:2]
    assert named(f"t:{trial[:5]}", entries) == entries[3:]
    assert named(trial[:6], entries) == [entries[3]]
    assert find_trial(trial[:6], entries) == entries[3]
    assert best_trial("t", entries) == entries[3]
    for wrong in ("x", "t:zzzz", "0000", trial[:3]):
        with pytest.raises(ValueError, match="has no"):
            named(wrong, entries)
    with pytest.raises(ValueError, match="differ in schedule"):
        study_of("t", entries)

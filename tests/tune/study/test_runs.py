"""Studies made of ledger entries: nothing mixed, nothing left out."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.config import RunConfig, override_all, to_plain
from tests.tune.made_ledger import Made
from tests.tune.study.made_runs import BYTES, TOKENS, InLedger, changed, made_run, made_runs
from tune.records.entries import Device, Series
from tune.study.conditions import check_unmixed, configuration_key
from tune.study.runs import best_trial, find_trial, named, stream_of, study_of

OTHER_DEVICE = Device(count=1, name="H100", kind="cuda")


def with_field(made: Made, field: str, value: Any) -> Made:
    """Returns a run whose configuration has another value of a dotted field, or of a whole section."""
    config = msgspec.to_builtins(made[0].config)
    *parts, last = field.split(".")
    section = config
    for part in parts:
        section = section[part]
    section[last] = value
    return changed(made, config=msgspec.json.decode(msgspec.json.encode(config)))


def run(seed: int = 1) -> Made:
    """Returns a run of the study."""
    return made_run("s", seed, 1.21)


MIXTURES: list[tuple[str, Made, str, str]] = [
    ("code", changed(run(), code="other"), "c" * 64, "other"),
    ("data", changed(run(), data="other"), "d" * 64, "other"),
    ("device", changed(run(), device=OTHER_DEVICE), "8 x H100", "1 x H100"),
    ("environment.torch", changed(run(), environment={"torch": "9", "numpy": "3"}), "2", "9"),
    ("environment.numpy", changed(run(), environment={"torch": "2"}), "3", "unknown"),
    ("environment.torch", changed(run(), environment={}), "2", "unknown"),
    ("schedule.steps", with_field(run(), "schedule.steps", 8000), "7000", "8000"),
    ("ttt.lr", with_field(run(), "ttt.lr", 0.25), "0.002", "0.25"),
    ("ttt", with_field(run(), "ttt", None), "given", "null"),
    ("cap_bytes", with_field(run(), "cap_bytes", 7), "1000", "7"),
]


@pytest.mark.parametrize(("field", "other", "usual", "value"), MIXTURES)
def test_a_mixture_is_refused(field: str, other: Made, usual: str, value: str, in_ledger: InLedger) -> None:
    """Fault: seeds of different code, data, machines or configurations averaged as one result."""
    with pytest.raises(ValueError, match="differ in") as refused:
        study_of("s", in_ledger([run(0), other, run(2)]))
    message = str(refused.value)
    assert f"differ in {field}: " in message
    assert f"{usual} (seeds 0, 2)" in message
    assert f"{value} (seed 1)" in message


def test_a_mixture_with_what_is_to_come_is_refused() -> None:
    """Fault: GPU hours spent on seeds that cannot be put to those that are there."""
    entries = [run(0)[0], run(1)[0]]
    with pytest.raises(ValueError, match=r"code: c+ \(seeds 0, 1\), new \(this command\)"):
        check_unmixed("s", entries, made_run("", 0, None, code="new")[0])
    check_unmixed("s", entries, made_run("", 0, None)[0])


def test_facts_that_no_run_says_are_unknown(in_ledger: InLedger) -> None:
    """Fault: runs of unknown machines count as known to be equal."""
    facts = study_of("s", in_ledger(made_runs("s", [1.2, 1.21], device=None, environment={}))).facts
    assert facts == {"code": "c" * 64, "data": "d" * 64, "device": None}


def test_only_the_seed_may_differ_from_defaults_left_out() -> None:
    """Fault: a field that came later makes an old run of the same configuration another one, and so unlisted."""
    config = to_plain(override_all(RunConfig(), {"seed": 5}))
    old = to_plain(RunConfig())
    del old["quant"]["float_elements"]
    key = configuration_key(config, "gepa")
    assert configuration_key(old, "gepa") == key
    assert configuration_key(to_plain(override_all(RunConfig(), {"quant.float_elements": 3})), "gepa") != key
    unknown = {**config, "later": 1}
    assert configuration_key(unknown, "gepa") == configuration_key({**unknown, "seed": 6}, "gepa") != key


def test_the_configuration_of_another_workload_is_taken_as_it_is() -> None:
    """Fault: GEPA's fields filled into a script's configuration, or its seeds taken for other configurations."""
    keys = [configuration_key(config, "script") for config in ({"lr": 1, "seed": 1}, {"seed": 2, "lr": 1}, {"lr": 2})]
    assert keys[0] == keys[1] == '{"lr":1}'
    assert keys[2] != keys[0]


STATES = st.sampled_from(["done", "failed", "infeasible", "screened"])
RUNS = st.lists(
    st.tuples(st.sampled_from(["s", "t", "u"]), st.integers(0, 4), st.integers(0, 2), STATES, st.sampled_from("cx")),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60)
@given(runs=RUNS)
def test_nothing_is_left_out(runs: list[tuple[str, int, int, str, str]], in_ledger: InLedger) -> None:
    """Fault: a failed, earlier, foreign or repeated run of the configuration that no listing shows."""
    entries = []
    for sweep, seed, repeat, state, code in runs:
        of_sweep: dict[str, Any] = {"code": "c" if sweep == "s" else code, "state": state, "repeat": repeat}
        entries.append(made_run(sweep, seed, 1.2 if state == "done" else None, **of_sweep))
    foreign = made_run("t", 0, 1.2, fields={"schedule.steps": 8000})
    ledger = in_ledger([made_run("s", 9, 1.3, code="c"), *entries, foreign])
    *trials, _ = ledger.trials()
    study = study_of("s", ledger)
    shown = [*study.entries, *(other.entry for other in study.others)]
    assert sorted(shown, key=lambda entry: entry.started) == sorted(trials, key=lambda entry: entry.started)
    assert {run.trial: run for run in study.entries} == {e.trial: e for e in trials if e.sweep == "s"}
    assert all((row in study.counted) == (row.state == "done") for row in study.rows)
    for other in study.others:
        if other.entry.sweep == "s":
            assert "earlier attempt" in other.why
        else:
            assert ("other code" in other.why) == (other.entry.code != "c")


def test_an_earlier_attempt_stays_listed(in_ledger: InLedger) -> None:
    """Fault: the failure, or the better value, that a second attempt replaced is shown nowhere."""
    attempts = [made_run("s", 0, None), made_run("s", 0, 1.19), made_run("s", 0, 1.2)]
    study = study_of("s", in_ledger(attempts))
    assert [row.bpb for row in study.rows] == [1.2]
    assert [other.entry.bpb for other in study.others] == [None, 1.19]


def test_the_streams_unit() -> None:
    """Fault: bits per token for bits per byte, or the sums of one chunk for those of all."""
    entry, series = made_run("s", 3, 1.25)
    stream = stream_of(entry, series)
    assert stream is not None
    assert stream.size == (TOKENS, BYTES)
    nats = math.fsum(series.chunks["ttt"][:, 0])
    assert nats / math.log(2) / BYTES == pytest.approx(1.25, rel=1e-12)
    assert nats / TOKENS == pytest.approx(1.25 * stream.nats_per_bpb, rel=1e-12)
    assert stream_of(entry, Series()) is None


def test_a_workload_without_seeds_has_no_study(in_ledger: InLedger) -> None:
    """Fault: runs of a script without a seed averaged as if they were seeds."""
    script = changed(made_run("s", 0, 1.2), workload="script", config={"lr": 1}, parameters={"lr": 1})
    with pytest.raises(ValueError, match="no seed: workload script"):
        study_of("s", in_ledger([script]))


def test_names() -> None:
    """Fault: a name that stands for other runs than the reader thinks, or a wrong one that is taken."""
    other = {"schedule.steps": 8000}
    runs = [*made_runs("s", [1.2, 1.1]), made_run("t", 0, 1.3), made_run("t", 1, 1.0, fields=other)]
    runs.append(made_run("t", 5, 1.4, fields=other))
    trials = [entry for entry, _ in runs]
    trial = trials[3].trial
    assert named("s", trials) == trials[:2]
    assert named(f"t:{trial[:5]}", trials) == trials[3:]
    assert named(trial[:6], trials) == [trials[3]]
    assert find_trial(trial[:6], trials) == trials[3]
    assert best_trial("t", trials) == trials[3]
    for wrong in ("x", "t:zzzz", "0000", trial[:3]):
        with pytest.raises(ValueError, match="has no"):
            named(wrong, trials)
    with pytest.raises(ValueError, match="differ in schedule"):
        check_unmixed("t", named("t", trials))


def test_a_study_reads_its_own_chunk_sums_only(in_ledger: InLedger) -> None:
    """Fault: the files of a thousand trials read to look at three, or a study that another sweep's lost file stops."""
    foreign = [made_run("sweep", 1, 1.3, fields={"schedule.steps": 8000}), made_run("other", 1, 1.25)]
    ledger = in_ledger([*foreign, *made_runs("s", [1.2, 1.21, 1.22])])
    for entry in ledger.trials()[:2]:
        assert entry.series is not None
        ledger.series_path(entry.series).unlink()
    study = study_of("s", ledger)
    assert study.stream is not None
    assert [other.entry.sweep for other in study.others] == ["other"]

"""The command itself: a real study, then again; decisions, comparisons and power without running anything."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.config.rules import MARGIN_NATS, P_CLAIM
from golf.data.dataset import open_dataset
from golf.runtime.files import write_json
from golf.runtime.results import digest
from golf.submission.study_file import read_study
from tests.commands import start
from tests.tune.made_ledger import Made, write_ledger
from tests.tune.study.made_runs import changed, made_run, made_runs
from tune.cli.main import seeds as main
from tune.records.entries import PlanEntry, SequentialPlan, StudyPlan
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.provenance import versions
from tune.study.conditions import GEPA, configuration_key
from tune.study.preregistration import SEEDS, fixed_seeds
from tune.study.sequential_test import NO_GAIN_ALPHA
from tune.workloads.gepa.stages import code_digest

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's tables


@pytest.mark.long
def test_a_study_and_the_same_again(
    cluster: str, tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a seed lost, run twice or shared where it must not be; a verdict of other numbers than the ledger's."""
    storage = Storage(tmp_path / "storage")
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    places = ["--data", str(data), "--storage", str(storage.root)]
    arguments = [str(tmp_path / "tiny.json"), "--set", "ttt=null", "validate_every=null", "--seeds", "1", "2"]
    arguments += ["--repeat", "2", "--name", "study", "--baseline", "9.0", *places]
    study = start("run_seeds.py", [*arguments, "--concurrent", "2", "--address", cluster])
    said = study.communicate(timeout=500)[0]
    assert study.returncode == 0, said
    assert "Traceback" not in said
    ledger = Ledger(storage.ledger)
    entries = {(entry.seed, entry.repeat): entry for entry in ledger.latest("study")}
    assert sorted(entries) == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert len({entry.trial for entry in entries.values()}) == 4
    for (_, repeat), entry in entries.items():
        assert entry.done, entry.reason
        assert entry.tags["study"] == "study"
        # On one CPU a seed run again gives the same bits, and must have been computed to be worth anything.
        assert bool(entry.keys) == (repeat == 0)
        assert entry.seconds["train"] > 0
    assert entries[1, 0].bpb == entries[1, 1].bpb
    assert entries[1, 0].files["artifact"] != entries[1, 1].files["artifact"]
    (verdict,) = [entry.verdict for entry in ledger.verdicts("study")]
    assert verdict.comparison is not None
    assert (verdict.comparison.claim, verdict.holds) == (True, False)  # two seeds are no claim
    assert verdict.noise_bpb is not None
    assert verdict.noise_bpb.repeat_sd == 0.0
    assert verdict.check is not None
    exported = read_study(storage.study("study"))
    assert [(run.seed, run.last.bpb) for run in exported.seeds] == [(n, entries[n, 0].bpb) for n in (1, 2)]
    assert [run.repeat for run in exported.verdict.others] == [1, 2]
    assert all(run.artifact is not None and run.code_sha256 is not None for run in exported.seeds)
    lines = storage.ledger.read_text()

    assert main(arguments) == 0  # no Ray is up in this process: nothing may be run
    assert storage.ledger.read_text() == lines
    again = capsys.readouterr().out
    assert said.split("\nstudy study of tiny")[1].split("every number")[0] in again

    trial = entries[2, 0].trial
    assert main([trial[:8], "--storage", str(storage.root), "--seeds", "2", "--dry-run", "--data", str(data)]) == 0
    assert re.search(rf"\b{trial}\b", capsys.readouterr().out)
    assert main([trial[:8], "--storage", str(storage.root), "--dry-run"]) == 2
    assert "give it with --data" in capsys.readouterr().err
    assert main([*arguments, "--split", "int4"]) == 2
    assert "differ in" in capsys.readouterr().err
    assert main([*arguments, "--cold"]) == 2
    assert "cold False, this command asks for True" in capsys.readouterr().err
    assert storage.ledger.read_text() == lines


def planted(tiny: RunConfig, data: Path, values: Sequence[float], num_looks: int) -> list[Made]:
    """Returns runs of the first seeds of a study of `tiny`, as this program and machine would write them."""
    runs, dataset = [], open_dataset(data)
    for seed, value in zip(fixed_seeds(SEEDS, num_looks), values, strict=False):
        config = to_plain(override_all(tiny, {"seed": seed}))
        facts: dict[str, Any] = {"data": dataset.digest, "code": code_digest(), "environment": versions()}
        made = made_run("tiny-seeds", seed, value, config=config, trial=digest(config, dataset.digest)[:12], **facts)
        runs.append(made)
    return runs


@pytest.mark.parametrize(
    ("values", "decision"),
    [([2.0, 2.001, 2.0005], "is shown by the planned test"), ([2.1, 2.101, 2.1004], "is denied by the planned")],
)
def test_until_decided_by_what_is_there(
    values: list[float], decision: str, tiny: RunConfig, data: Path, tmp_path: Path, capsys: Any
) -> None:
    """Fault: seeds run after the decision, a decision by other values than the plan's, a plan that may change."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    ledger = Ledger(tmp_path / "storage" / "ledger.jsonl")
    arguments = [str(tmp_path / "tiny.json"), "--data", str(data), "--storage", str(tmp_path / "storage")]
    arguments += ["--until-decided", "--max-seeds", "6", "--baseline", "2.05", "2.0504", "2.0497"]
    assert main([*arguments, "--dry-run"]) == 0
    assert not ledger.path.exists()
    test = SequentialPlan(
        looks=(3, 4, 5, 6),
        baseline="2.05 2.0504 2.0497 BPB",
        baseline_bpb=(2.05, 2.0504, 2.0497),
        published=False,
        margin_nats=MARGIN_NATS,
        alpha=P_CLAIM,
        no_gain_alpha=NO_GAIN_ALPHA,
    )
    plan = StudyPlan(
        configuration=digest(configuration_key(to_plain(tiny), GEPA)),
        data=open_dataset(data).digest,
        seeds=fixed_seeds(SEEDS, 6),
        sequential=test,
    )
    ledger.append(PlanEntry(study="tiny-seeds", plan=plan))
    for entry, series in planted(tiny, data, values, 6):
        ledger.append(entry, series)
    capsys.readouterr()
    assert main(arguments) == 0
    assert decision in capsys.readouterr().out
    (verdict,) = [entry.verdict for entry in ledger.verdicts("tiny-seeds")]
    assert verdict.comparison is not None
    assert verdict.comparison.sequential is not None
    assert len(verdict.comparison.sequential.looks) == 1
    assert verdict.missing == ()
    for change in (["--max-seeds", "7"], ["--margin-nats", "0"], ["--baseline", "2.05", "2.04"], ["--seeds", "5"]):
        assert main([*arguments, *change]) == 2
        assert "this command asks for" in capsys.readouterr().err
    assert len(ledger.plans("tiny-seeds")) == 1


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder whose ledger holds studies and a sweep."""
    root = tmp_path_factory.mktemp("filled")
    runs = made_runs("one", [1.21, 1.2103, 1.2096])
    runs += made_runs("two", [1.2051, 1.2049, 1.2058], fields={"schedule.steps": 6000})
    runs += [made_run("sweep", seed, 1.2, fields={"schedule.steps": steps}) for seed, steps in ((5, 5000), (6, 8000))]
    write_ledger(root / "ledger.jsonl", [changed(run, preset="demo") for run in runs])
    return root


def test_power_and_comparison_run_nothing(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: Ray or a dataset made for a question; the ledger's noise not used; a gain in the wrong unit."""
    places = ["--storage", str(filled)]
    before = sorted(filled.rglob("*"))
    assert main(["demo", "--power", "--gain-nats", "0.01", "--baseline", "one", *places]) == 0
    output = capsys.readouterr().out
    assert "4 degrees of freedom" in output
    assert len(re.findall(r"^ *0\.0100 ", output, re.MULTILINE)) == 2
    assert main(["--compare", "one", "two", "sweep:" + trial_of(filled, 6), *places]) == 0
    output = capsys.readouterr().out
    assert "mean of 3" in output
    assert "noise of training" in output
    assert sorted(filled.rglob("*")) == before


def trial_of(root: Path, seed: int) -> str:
    """Returns the beginning of the id of the sweep's trial of a seed."""
    (entry,) = [entry for entry in Ledger(root / "ledger.jsonl").trials("sweep") if entry.seed == seed]
    return entry.trial[:6]


WRONG = [
    (["dmeo"], 'did you mean "demo"'),
    ([], "exactly one of them"),
    (["demo", "--from-sweep", "sweep", "--best"], "exactly one of them"),
    (["--from-sweep", "sweep"], "go together"),
    (["--from-sweep", "swepe", "--best"], 'did you mean "sweep"'),
    (["--from-sweep", "sweep", "--best"], "give it with --data"),
    (["abcdef012345"], "has no trial"),
    (["demo", "--seeds", "1", "1"], "different whole numbers"),
    (["demo", "--set", "seed=3"], "--seeds"),
    (["demo", "--set", "schedule.stesp=3"], 'did you mean "steps"'),
    (["demo", "--split", "int9"], "did you mean"),
    (["demo", "--repeat", "1"], "2 or more"),
    (["demo", "--until-decided"], "needs a --baseline"),
    (["demo", "--until-decided", "--baseline", "1.2", "--max-seeds", "2"], "at least 3"),
    (["demo", "--baseline", "onee"], 'did you mean "one"'),
    (["demo", "--baseline", "sweep"], "differ in schedule.steps"),
    (["demo", "--baseline", "one"], "not scored on the same validation stream"),
    (["demo", "--baseline", "1.2", "one"], "one name or some values"),
    (["demo", "--name", "a/b"], "letters"),
    (["demo", "--margin-nats", "nan"], "finite"),
    (["demo", "--power", "--gain-nats", "0.004"], "not above the margin"),
    (["demo", "--power", "--noise-bpb", "0"], "above 0"),
    (["--compare", "one"], "two or more"),
    (["--compare", "one", "tow"], 'did you mean "two"'),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, filled: Path, data: Path, tiny: RunConfig, tmp_path: Path, capsys: Any
) -> None:
    """Fault: a traceback, or Ray started for what cannot run."""
    write_json(tmp_path / "demo.json", to_plain(tiny))
    runs = "--power" not in arguments and "--compare" not in arguments
    given = [argument.replace("TRIAL", trial_of(filled, 6)) for argument in arguments]
    if runs and given[:1] == ["demo"] and "--from-sweep" not in given:
        given = [str(tmp_path / "demo.json"), *given[1:], "--data", str(data), "--dry-run"]
    assert main([*given, "--storage", str(filled)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]


def test_what_argparse_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a page of usage around the one word that was wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--seeds", "x"])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

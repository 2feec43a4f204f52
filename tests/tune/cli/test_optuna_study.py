"""Optuna's view of the ledger: read back by Optuna itself."""

from pathlib import Path

import optuna
import pytest

from golf.config.presets import PRESETS
from tests.commands import tool
from tests.tune.entries import entry_of, over_cap, scored
from tune.records.entries import Objective, Series
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.space import Trial
from tune.workloads.gepa.space import make_trial

write = tool("optuna")
POINTS = (
    {"ttt.lr": 0.001, "split": "int4", "ttt.epochs": 1, "model.value_layers": [2, 3]},
    {"ttt.lr": 0.05, "split": "int8", "ttt.epochs": 3, "model.value_layers": [3]},
    {"ttt.lr": 0.01, "split": "int8", "ttt.epochs": 2, "model.value_layers": [3]},
    {"ttt.lr": 0.02, "split": "int8", "ttt.epochs": 2, "model.value_layers": [3]},
)


def test_optuna_opens_what_the_ledger_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: another best trial than the ledger's, a failed trial with a value, a file that grows with each call."""
    storage = Storage(tmp_path)
    trials = [make_trial(PRESETS["demo"], point, "d") for point in POINTS]
    entries = [scored(trials[0], 2.5), scored(trials[1], 2.25), over_cap(trials[2], 10), entry_of(trials[3], "failed")]
    ledger = Ledger(storage.ledger)
    ledger.append(entries[0], Series({"validation_bpb": [[10, 0.0, 3.0], [20, 1.0, 2.75]]}))
    for entry in entries[1:]:
        ledger.append(entry)
    of_a_script = Trial(trial="f" * 12, parameters={"LR": 1}, name="LR=1", config={})
    best = entry_of(of_a_script, sweep="acc", objective=Objective(name="acc", maximize=True), metrics={"acc": 0.5})
    ledger.append(best)
    for _ in range(2):
        assert write(["--storage", str(tmp_path)]) == 0
    uri = f"sqlite:///{storage.optuna}"
    assert uri in capsys.readouterr().out
    assert sorted(optuna.get_all_study_names(uri)) == ["acc", "s"]
    study = optuna.load_study(study_name="s", storage=uri)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert study.best_trial.user_attrs["trial"] == trials[1].trial
    assert study.best_trial.params == {**POINTS[1], "model.value_layers": "[3]"}
    assert study.trials[0].intermediate_values == {10: 3.0, 20: 2.75}
    assert study.trials[0].distributions["ttt.lr"] == optuna.distributions.FloatDistribution(0.001, 0.05, log=True)
    assert study.trials[2].value is None
    assert optuna.load_study(study_name="acc", storage=uri).best_value == 0.5
    assert [path.name for path in tmp_path.glob(".optuna-*")] == []


def test_only_one_and_not_over_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a file of somebody else replaced, a misspelt sweep written as an empty study."""
    Ledger(Storage(tmp_path).ledger).append(scored(make_trial(PRESETS["demo"], POINTS[0], "d"), 2.0))
    (tmp_path / "mine.db").write_text("mine")
    assert write(["s", "--storage", str(tmp_path), "--to", str(tmp_path / "mine.db")]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "mine.db").read_text() == "mine"
    assert write(["t", "--storage", str(tmp_path)]) == 2
    assert 'there is no sweep "t"' in capsys.readouterr().err

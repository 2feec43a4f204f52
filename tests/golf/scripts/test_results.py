"""What a run came to, by logs in the published forms with the traps that published logs have."""

import math
import re
from pathlib import Path

import pytest

from golf.scripts.metrics import parse_metric
from golf.scripts.results import ScriptResults, results_of, runs_of
from tests.golf.scripts.made import LOG, SCRIPT

LINES = LOG.splitlines()


def changed(pattern: str, by: str) -> list[str]:
    """The log with lines changed."""
    text, number = re.subn(pattern, by, LOG, flags=re.MULTILINE)
    assert number
    return text.splitlines()


def test_all_numbers_of_a_log() -> None:
    """Fault: the unpacked total, the diagnostic's better score or the curve's last point counts."""
    results = results_of(LINES)
    assert dict(results.metrics) == {
        "val_bpb": 1.2004,
        "val_loss": 2.02682549,
        "artifact_bytes": 15_050_000,
        "model_bytes": 15_000_000,
        "code_bytes": 50_000,
        "steps": 7101,
        "train_seconds": 600.038,
        "eval_seconds": 70.0,
        "parameters": 17_059_912,
        "peak_memory_mib": 21472,
    }
    assert (results.label, results.seed) == ("final_int8_zlib_roundtrip_exact", 42)
    assert results.settings["iterations"] == "20000"
    assert (results.notes, results.unfinished) == ((), None)


@pytest.mark.parametrize(
    ("lines", "name", "value"),
    [
        (["pre val_bpb:1.1", "quantized_ttt val_loss:2.5 val_bpb:1.3"], "val_bpb", 1.3),
        (["final val_loss:2.5 val_bpb:1.3"], "val_loss", 2.5),
        (["a val_bpb:1.3", "Total submission size: 66000000 bytes"], "artifact_bytes", 66_000_000),
        (["Total submission size: 9 bytes", "Total submission size brotli: 7 bytes"], "artifact_bytes", 7),
        (["Total submission size quantized+brotli: 15,994,512 bytes"], "artifact_bytes", 15_994_512),
        (["artifact ok budget:15990006/16000000"], "artifact_bytes", 15_990_006),
        (["Model 15.9 MB | Total submission: 15990007 bytes"], "artifact_bytes", 15_990_007),
        (["stopping_early: wallclock_cap train_time: 588000ms step: 4900/20000"], "train_seconds", 588.0),
        (["stopping_early: wallclock_cap train_time: 588000ms step: 4900/20000"], "steps", 4900),
        (["seed:7", "a val_bpb:1.3", "model_params:27,137,223"], "parameters", 27_137_223),
        (["a val_bpb:1.3", "peak memory allocated: 13119 MiB reserved: 2 MiB"], "peak_memory_mib", 13119),
        (["a val_bpb:1.3 eval_time:81000ms"], "eval_seconds", 81.0),
        (["step:1770/1770 val_loss:3.2781 train_time:80000ms step_avg:45ms"], "val_loss", 3.2781),
        (["step:10/20 val_loss:3", "step:20/20 val_loss:2.5 val_bpb:1.5"], "val_bpb", 1.5),
        (["1764600000.5 # final val_loss:2.5 val_bpb:1.3"], "val_bpb", 1.3),
        (["final val_loss:3.28"], "val_loss", 3.28),
    ],
)
def test_one_line_of_every_published_form(lines: list[str], name: str, value: float) -> None:
    """Fault: a published form is not read."""
    assert results_of(lines).metrics[name] == pytest.approx(value)


def test_seed_in_every_form() -> None:
    """Fault: a seed is missed, or a setting that ends in seed passes for it."""
    assert results_of(["seed:7", "a val_bpb:1.3"]).seed == 7
    assert results_of(["  seed: 7", "a val_bpb:1.3"]).seed == 7
    assert results_of(["data_seed:7", "a val_bpb:1.3"]).seed is None
    ((_, named),) = runs_of("train_seed9.log", ["a val_bpb:1.3"])
    assert (named.seed, named.log.any_seed) == (None, 9)


def test_settings_are_those_before_the_first_step() -> None:
    """Fault: settings are missed, or figures of the result are among them."""
    dump = [f"  key_{number}: {number}" for number in range(40)]
    results = results_of(["Hyperparameters:", *dump, *LINES])
    assert {f"key_{number}": str(number) for number in range(40)}.items() <= results.settings.items()
    assert "Code size" not in results.settings


def test_nan_is_kept() -> None:
    """Fault: a diverged run is scored by an earlier line."""
    results = results_of(changed(r"_exact val_loss:\S+ val_bpb:\S+", "_exact val_loss:nan val_bpb:nan"))
    assert math.isnan(results.metrics["val_bpb"])
    assert math.isnan(results_of(["step:9/9 val_loss:nan"]).metrics["val_loss"])


def test_a_curve_that_stops_early_is_no_result() -> None:
    """Fault: the validation of a killed run at half its steps passes for its score."""
    lines = ["step:500/1000 val_loss:3.0", "step:600/1000 train_loss:3.0"]
    assert results_of(lines).unfinished == "step 500 of 1000"
    ended = [*lines, "stopping_early: wallclock_cap train_time:600000ms step:600/1000", "step:600/1000 val_loss:2.9"]
    assert results_of(ended).unfinished is None
    assert results_of(ended).metrics["val_loss"] == 2.9
    assert results_of(["step:1000/1000 val_loss:3.0"]).unfinished is None


def test_the_source_in_a_log_is_no_output() -> None:
    """Fault: a number in the code that a log begins with passes for the run's."""
    code = SCRIPT.decode() + "\nEXAMPLE = '''\nfinal val_bpb:0.5\nmodel_params:3\n'''\n"
    bar = "=" * 100
    results = results_of([*code.splitlines(), bar, *LINES[:-2], "done"])
    assert results.metrics["val_bpb"] == 1.0661
    assert results.metrics["parameters"] == 17_059_912
    assert results.log.source is not None


def test_two_runs() -> None:
    """Fault: numbers of one run are told of the other."""
    second = changed("seed:42", "seed:43")
    second = [line for line in second if "model_params" not in line and "peak" not in line]
    runs = list(runs_of("two.log", [*LINES, *second]))
    assert [results.seed for _, results in runs] == [42, 43]
    assert [results.log.part for _, results in runs] == [1, 2]
    assert ["parameters" in results.metrics for _, results in runs] == [True, False]
    assert results_of([*LINES, *second]).seed == 43


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        (changed("int6.zstd: 15050000", "int6+zstd: 15050001"), "15,050,001 bytes in all, but 15,000,000"),
        (changed("roundtrip val_loss:2.0268 val_bpb:1.2004", "roundtrip val_loss:2.1 val_bpb:1.25"), "is 1.25"),
        (LINES, "seed 42, the name of its file 41"),
    ],
)
def test_what_a_log_says_twice_and_differently_is_noted(lines: list[str], note: str) -> None:
    """Fault: one of two numbers is taken in silence."""
    ((_, results),) = runs_of("train_seed41.log", lines)
    assert any(note in text for text in results.notes)


def test_own_metrics() -> None:
    """Fault: a named metric is not found, or does not replace the score of that name."""
    lines = ["iter 3", "CORE metric: 0.21", '{"eval": 1.1}']
    metrics = [parse_metric(r"core=CORE metric: ([\d.]+)"), parse_metric("val_bpb=json:eval")]
    results = results_of(lines, metrics=metrics)
    assert dict(results.metrics) == {"core": 0.21, "val_bpb": 1.1}
    assert results.label == "val_bpb"
    assert "val_bpb" not in results_of(LINES, metrics=[parse_metric("val_bpb=json:gone")]).metrics


def test_files_of_the_run_beside_its_output(tmp_path: Path) -> None:
    """Fault: bytes of the log that the file does not have are believed."""

    def results(size: int) -> ScriptResults:
        (tmp_path / "final_model.int6.ptz").write_bytes(bytes(size))
        return results_of(["Serialized model int6+zstd: 100 bytes", "Total submission size: 120 bytes"], tmp_path, 20)

    assert results(100).notes == ()
    assert results(100).metrics["artifact_bytes_on_disk"] == 120
    notes = results(90).notes
    assert "100 bytes of model, final_model.int6.ptz has 90" in notes[0]
    assert "120 bytes in all, final_model.int6.ptz and the script have 110" in notes[1]


@pytest.mark.parametrize("lines", [[], [""], ["nothing"], ["Traceback (most recent call last):", "RuntimeError: no"]])
def test_output_without_a_run(lines: list[str]) -> None:
    """Fault: an empty or broken output ends the reader with an error."""
    assert results_of(lines).label is None
    assert dict(results_of(lines).metrics) == {}

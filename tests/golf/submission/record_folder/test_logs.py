"""Lines of logs in the forms that are in use, one by one."""

import time
from dataclasses import replace
from typing import Any

import pytest

from golf.submission.record_folder.devices import Device
from golf.submission.record_folder.logs import RunLog, read_run
from golf.submission.record_folder.numbers import ParsedNumber, parse_number
from golf.submission.record_folder.text import decoded, plain_line


def only_run(name: str, text: str) -> RunLog:
    """The facts in a log of one run."""
    return read_run(name, [plain_line(line) for line in decoded(text.encode()).lines()])


LINES: dict[str, dict[str, Any]] = {
    "seed:1337": {"seed": 1337},
    "  seed: 42": {"seed": 42},
    "torch_seed:5 data_seed:6": {"seed": None},
    "Code size: 47642 bytes": {"code_bytes": (47_642,)},
    "Code size (compressed): 16,594 bytes": {"code_bytes": (16_594,)},
    "code_bytes: 84732": {"code_bytes": (84_732,)},
    "Serialized model int8+zlib: 15815847 bytes (payload:17178912 payload_ratio:3.91x)": {
        "model_bytes": ParsedNumber(15_815_847, 1)
    },
    "Serialized model quantized+brotli: 15,976,325 bytes": {"model_bytes": ParsedNumber(15_976_325, 1)},
    "Serialized model: 304809 bytes": {"model_bytes": ParsedNumber(304_809, 1)},
    "Total submission size int6+zstd: 15891234 bytes": {"total_bytes": ParsedNumber(15_891_234, 1)},
    "Total submission size: 389541 bytes": {"total_bytes": ParsedNumber(389_541, 1)},
    "stopping_early: wallclock_cap train_time:599987ms step:7101/20000": {
        "train_seconds": ParsedNumber(599.987, 0.001),
        "steps": 7101,
    },
    "stopping_early: wallclock_cap train_time: 596160ms step: 4841/20000": {
        "train_seconds": ParsedNumber(596.16, 0.001),
        "steps": 4841,
    },
    "4000/20000 train_loss: 2.9178 train_time: 8.5m tok/s: 6500000": {
        "train_seconds": ParsedNumber(510.0, 6.0),
        "steps": 4000,
    },
    "step:500/9000 train_loss:2.1 train_time:301234ms step_avg:602.5ms": {"step_seconds": 0.6025, "steps": 500},
    "train          599.1 s": {"train_seconds": ParsedNumber(599.1, 0.1)},
    "total_eval_time:453.8s": {"eval_seconds": 453.8},
    "ttt            410.0 s  1.120000 BPB  1.891000 nats/token": {"eval_seconds": 410.0},
    "GPTQ:collected 67 hessians in 12.9s": {"calibration_seconds": 12.9},
    "gptq:reserving 12s, effective=588000ms": {"calibration_seconds": None},
    "world_size:8 grad_accum_steps:1": {"world_size": 8},
    'device: "4 x NVIDIA H200"': {"world_size": 4, "devices": (Device("H200", 4),)},
    "|   0  NVIDIA H100 80GB HBM3          On  |": {"devices": (Device("H100"),)},
    "train_loader:dataset:fineweb10B_sp1024 train_shards:80": {
        "train_shards": 80,
        "tokenizer": "sp1024",
        "dataset": "fineweb10B_sp1024",
    },
    "tokenizer_path=./data/tokenizers/fineweb_4096_bpe.model": {"tokenizer": "sp4096"},
    "val_tokens: 40540160": {"validation_tokens": 40_540_160},
    "val_loader:shards pattern=./fineweb_val_*.bin tokens:62021632": {"validation_tokens": 62_021_632},
    "train_loader:shards pattern=./fineweb_val_*.bin": {"trains_on_validation": True},
    "code_sha256: " + 64 * "a": {"code_sha256": 64 * "a"},
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_tells_what_it_says(line: str) -> None:
    """Fault: a number read from the wrong place, in the wrong unit, or not at all."""
    log = only_run("train.log", f"something\n{line}\nsomething else\n")
    assert {name: getattr(log, name) for name in LINES[line]} == LINES[line]
    untold = replace(log, **{name: getattr(RunLog(""), name) for name in LINES[line]})
    related = {
        "steps",
        "train_seconds",
        "step_seconds",
        "devices",
        "tokenizer",
        "settings",
        "file",
        "dataset",
        "validation_files",
    }
    blank = RunLog("train.log")
    assert {name for name in vars(blank) if getattr(untold, name) != getattr(blank, name)} <= related


SCORES = {
    "final_int6_sliding_window_exact val_loss:1.96 val_bpb:1.16070000": (
        "final_int6_sliding_window_exact",
        1.1607,
        None,
    ),
    "legal_ttt val_loss:1.9 val_bpb:1.12 eval_time:277646ms": ("legal_ttt", 1.12, 277.646),
    "ttt_sliding:done val_loss=1.948100 val_bpb=1.153778 elapsed=429.3s": ("ttt_sliding:done", 1.153778, 429.3),
    "pre-quantization post-ema val_loss:2.3 val_bpb:1.07 eval_time:18334ms": (
        "pre-quantization post-ema",
        1.07,
        18.334,
    ),
    '{"val_bpb": 1.082, "val_loss": 2.796}': ("score", 1.082, None),
    "step:7101/20000 val_loss:1.99 val_bpb:1.18 train_time:1ms": None,
    "4000/20000 val_loss: 2.9178 val_bpb: 1.1296": None,
    "ttt_chunk 12 val_bpb: 1.13": None,
    "val_bpb:enabled tokenizer_kind=sentencepiece": None,
}


@pytest.mark.parametrize("line", SCORES)
def test_final_scores_are_not_taken_for_curves(line: str) -> None:
    """Fault: a point of a curve passes for the result, or a result for a point."""
    scores = only_run("a.log", line).scores
    found = [(score.name, score.bpb.value, score.seconds) for score in scores]
    assert found == ([] if SCORES[line] is None else [SCORES[line]])


def test_the_last_line_of_a_kind_counts() -> None:
    """Fault: sizes of a first, larger packing, or the size before packing, pass for those of the artifact."""
    text = """Serialized model: 106027446 bytes
Total submission size: 106077497 bytes
Serialized model int8+zlib: 17000000 bytes
Serialized model int6+zstd: 15000000 bytes
Total submission size int6+zstd: 15050051 bytes
sliding val_loss:2 val_bpb:1.3
roundtrip val_loss:2 val_bpb:1.2
sliding val_loss:2 val_bpb:1.1
"""
    log = only_run("train_seed7.log", text)
    assert (log.model_bytes, log.total_bytes, log.seed_of_name) == (
        ParsedNumber(15_000_000, 1),
        ParsedNumber(15_050_051, 1),
        7,
    )
    assert [(score.name, score.bpb.value) for score in log.scores] == [("roundtrip", 1.2), ("sliding", 1.1)]


def test_numbers_keep_their_decimals() -> None:
    """Fault: a rounded figure is compared as an exact one; what is no number passes for one."""
    assert parse_number("1.1207") == ParsedNumber(1.1207, 1e-4)
    assert parse_number("15,891,234") == ParsedNumber(15_891_234.0, 1.0)
    assert parse_number("1.5e-3") == ParsedNumber(0.0015, 1e-4)
    assert all(
        number is not None and number.value != number.value
        for number in map(parse_number, ("nan", "inf", "1e999", "9" * 40))
    )
    assert [parse_number(text) for text in ("", "1.2.3", "x", "1e9999", "0x10", "<16")] == [None] * 6


def test_settings_of_a_run_are_left_out() -> None:
    """Fault: what differs from run to run by its nature passes for another configuration."""
    text = """logs/1f2e.txt
Running PyTorch 2.9.1+cu128
train_batch_tokens:524288 max_wallclock_seconds:600.000 sdp_backends:cudnn=False flash=True
  qk_gain_init: 5.25
run_id: abc seed:7
  logfile: logs/1f2e.txt
compile_time:35s
config: {"seed": 7, "quant": {"mlp": {"bits": 6}}}
step:1/9 train_loss:6.9
late: yes
"""
    wanted = {"pytorch": "2.9.1+cu128", "train_batch_tokens": "524288", "max_wallclock_seconds": "600.000"}
    wanted |= {"sdp_backends": "cudnn=False", "flash": "True", "qk_gain_init": "5.25", "config.quant.mlp.bits": "6"}
    assert only_run("a.log", text).settings == wanted


@pytest.mark.parametrize("unit", ["gptq ", "val_loader ", "a:b ", "1/", "x: {", " ", "code size (", "val_bpb:1 "])
def test_lines_made_to_be_slow_are_read_in_time(unit: str) -> None:
    """Fault: a pattern that looks back again and again: minutes for a small log."""
    line = (unit * 8000)[:7990]
    started = time.process_time()
    only_run("a.log", "\n".join([line] * 25))
    assert time.process_time() - started < 3.0

"""Record folders that somebody else made: what is right passes, each fault fails its own points, hostility ends well."""

import ast
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf.artifact.pack import pack
from golf.check.folder import check_folder, track_of
from golf.check.points import FAILED, NOT_APPLICABLE, PASSED, Finding, failures, rows_of, table_lines, to_json
from golf.config import RunConfig
from golf.model.gepa import GEPA
from tests.golf.check.made import CODE, RUNS, Run, early_log, late_log, make, whole, whole_claims

SP8192 = 0.6931471805599453 * 151_080_891 / 40_540_418
"""val_loss by val_bpb under another tokenizer."""


def found(folder: Path, **arguments: Any) -> dict[int, Finding]:
    """The findings by point; each has a row and can be told."""
    rows = rows_of(check_folder(folder, **arguments))
    json.dumps(to_json(rows), allow_nan=False)
    "\n".join(table_lines(rows)).encode()
    assert all(row.why or row.evidence for row in rows)
    return {row.point: row for row in rows}


def failed(folder: Path, **arguments: Any) -> list[int]:
    """The points that fail."""
    return failures(found(folder, **arguments).values())


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    """Fault: a form that is in use is misread, so that a right folder fails."""
    rows = found(whole(tmp_path), previous_nats=[1.93, 1.931, 1.929])
    assert failures(rows.values()) == []
    assert [point for point, row in rows.items() if row.state == PASSED] == [1, 2, 3, 5, 6, 7, 8, 9, 10, 13, 24, 25]
    assert rows[6].evidence["result"] == "final_int6_sliding_window_exact"
    assert rows[6].evidence["bytes_per_token"] == pytest.approx(151_080_891 / 62_021_846, abs=1e-6)
    assert rows[3].evidence["margin_bytes"] == 16_000_000 - 15_800_000 - len(CODE)
    assert rows[8].evidence["train_seconds"] == {"42": 600.038, "314": 600.038, "999": 600.038}
    assert rows[9].evidence["eval_seconds"]["42"] == 81.0
    assert rows[12].evidence["training_shards"] == [80]


def late(root: Path, runs: tuple[Run, ...], **changed: Any) -> Path:
    """A folder of the late form: packed code, few fields, logs as text files in a folder."""
    claims = {name: value for name, value in whole_claims(runs).items() if not name.startswith(("bytes", "val_loss"))}
    results = {str(run.seed): {"val_bpb": round(run.bpb, 5), "artifact_bytes": run.model_bytes} for run in runs}
    claims |= {"seed_results": results, "val_bpb": round(sum(run.bpb for run in runs) / len(runs), 4)} | changed
    code = "import lzma as L,base64 as B\nexec(L.decompress(B.b85decode('" + 16_000 * "x" + "')))\n"
    right = [replace(run, code_bytes=len(code), ratio=SP8192) for run in runs]
    return make(root, claims, {f"logs/train_s{run.seed}.txt": late_log(run) for run in right}, code)


def test_the_late_form_passes(tmp_path: Path) -> None:
    """Fault: spaces after colons, commas in numbers, one setting a line or sizes without the code are misread."""
    rows = found(late(tmp_path, RUNS), previous_bpb=[1.1301, 1.1302, 1.1299])
    assert failures(rows.values()) == []
    assert rows[2].evidence["code_packed"] is True
    assert rows[3].evidence["bytes_counted"]["42"] == rows[3].evidence["bytes_told"]["42"]
    assert rows[6].evidence["result"] == "quantized_ttt"
    assert rows[7].evidence["settings_compared"] >= 6
    assert rows[8].evidence["train_seconds"]["42"] == 600.038
    assert rows[13].state == NOT_APPLICABLE
    assert rows[24].evidence["gain_nats"] == pytest.approx((1.130067 - 1.1202) * SP8192, abs=1e-4)


def own_log(run: Run, digest: str) -> str:
    """As this project writes it: facts as JSON, the ladder, exact lines."""
    config = json.dumps({"seed": run.seed, "schedule": {"steps": 200, "warmdown_start": 30}})
    return f"""code_sha256: "{digest}"
code_bytes: {run.code_bytes}
seed: {run.seed}
data: "{64 * "a"}"
device: "8 x NVIDIA H100 80GB HBM3"
versions: {json.dumps({"python": "3.11.9", "torch": "2.13.0"})}
config: {config}
train_loss          6/200 5.1234
validation_bpb    200/200 1.2345
artifact {run.model_bytes + run.code_bytes:,} bytes = model {run.model_bytes:,} + code {run.code_bytes:,} (fits)
train          599.1 s
quantised       16.0 s  {run.bpb + 0.03:.6f} BPB  {run.nats + 0.05:.6f} nats/token
ttt            410.0 s  {run.bpb:.6f} BPB  {run.nats:.6f} nats/token
Serialized model: {run.model_bytes} bytes
Code size: {run.code_bytes} bytes
Total submission size: {run.model_bytes + run.code_bytes} bytes
final_quantised_exact val_loss:{run.nats + 0.05!r} val_bpb:{run.bpb + 0.03!r}
final_ttt_exact val_loss:{run.nats!r} val_bpb:{run.bpb!r}
"""


def test_our_own_logs_pass(tmp_path: Path) -> None:
    """Fault: what this project submits is not read by its own check, or a seed in its configuration passes for another."""
    right, other = (hashlib.sha256(text.encode()).hexdigest() for text in (CODE, CODE + "#"))
    folder = make(tmp_path, whole_claims(), {f"train_seed{run.seed}.log": own_log(run, right) for run in RUNS})
    rows = found(folder)
    assert failures(rows.values()) == []
    assert rows[5].evidence["logs_with_hash_or_code"] == 3
    assert rows[8].evidence["train_seconds"]["42"] == 599.1
    assert rows[9].evidence["eval_seconds"]["42"] == 410.0
    assert rows[7].evidence["settings_compared"] >= 8
    log = folder / "train_seed42.log"
    log.write_text(own_log(RUNS[0], other))
    assert failed(folder) == [5, 7]
    log.write_text(own_log(RUNS[0], right).replace('"warmdown_start": 30', '"warmdown_start": 40'))
    assert failed(folder) == [7]


Change = Callable[[Path], object]


def edit(name: str, old: str, new: str) -> Change:
    """A change of text in files whose name begins so."""

    def change(folder: Path) -> None:
        paths = list(folder.glob(f"{name}*"))
        assert paths
        for path in paths:
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))

    return change


def fields(**changed: Any) -> Change:
    """A change of fields of submission.json; None takes one out."""

    def change(folder: Path) -> None:
        path = folder / "submission.json"
        claims = {name: value for name, value in (json.loads(path.read_text()) | changed).items() if value is not None}
        path.write_text(json.dumps(claims))

    return change


def runs(*changed: Run) -> Change:
    """Other runs' logs in place of theirs, and a submission.json that agrees with them."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.log"):
            path.unlink()
        for run in changed:
            (folder / f"train_seed{run.seed}.log").write_text(early_log(run))
        (folder / "submission.json").write_text(json.dumps(whole_claims(changed)))

    return change


def with_code(code: str, requirements: str = "") -> Change:
    """Another train_gpt.py, whose size the logs tell."""

    def change(folder: Path) -> None:
        runs(*(replace(run, code_bytes=len(code.encode())) for run in RUNS))(folder)
        (folder / "train_gpt.py").write_text(code)
        (folder / "requirements.txt").write_text(requirements)

    return change


def moved(name: str) -> Change:
    """The folder elsewhere, beside it."""
    return lambda folder: folder.rename(folder.parent / name)


EACH = {run.seed: run for run in RUNS}
FAULTS: dict[str, tuple[Change, list[int]]] = {
    "a log that says another seed than its name": (edit("train_seed42.log", "seed:42\n", "seed:43\n"), [2, 6, 7, 25]),
    "no README": (lambda f: (f / "README.md").unlink(), [2]),
    "an empty README": (lambda f: (f / "README.md").write_text(""), [2]),
    "no submission.json": (lambda f: (f / "submission.json").unlink(), [2, 6, 10, 25]),
    "no code": (lambda f: (f / "train_gpt.py").unlink(), [2, 5]),
    "no logs": (lambda f: [path.unlink() for path in f.glob("*.log")], [2, 5, 6, 7, 8, 9, 25]),
    "a seed without a log": (lambda f: (f / "train_seed42.log").unlink(), [2, 6, 7]),
    "no author": (fields(author=None), [2]),
    "a number as author": (fields(author=5), [2]),
    "bytes as text": (fields(bytes_total="15,800,351 bytes"), [2]),
    "megabytes": (fields(bytes_total=15.8), [2]),
    "code that is no Python": (with_code("def main(:\n"), [2]),
    "a package that nothing brings": (with_code("import brotli\n"), [2]),
    "a file that is not there": (with_code("t = open('tokens.bin', 'rb').read()\n"), [2]),
    "another track": (fields(track="non-record-unlimited-compute-16mb"), [1]),
    "an artifact over the cap": (runs(*RUNS[:2], replace(RUNS[2], model_bytes=17_000_000)), [3]),
    "an artifact of 16 MiB": (runs(*RUNS[:2], replace(RUNS[2], model_bytes=(16 << 20) - len(CODE))), [3]),
    "a total over the cap": (fields(bytes_total=16_000_001), [3, 6]),
    "other code than that of the logs": (edit("train_gpt.py", "import zlib", "import  zlib"), [5]),
    "one log of other code": (edit("train_seed42.log", f"Code size: {len(CODE)}", "Code size: 48000"), [5, 7]),
    "no sizes at all": (
        lambda f: (
            [edit("train_seed", "Code size", "size")(f), edit("train_seed", "Serialized", "")(f)]
            + [
                edit("train_seed", "Total submission", "")(f),
                fields(bytes_total=None, bytes_code=None, seed_results=None)(f),
            ]
        ),
        [3, 5],
    ),
    "a better mean": (fields(val_bpb=1.1192), [6]),
    "the best seed for the mean": (fields(val_bpb=1.1198), [6]),
    "another deviation": (fields(val_bpb_std=0.00021), [6]),
    "another loss": (fields(val_loss=1.8813), [6]),
    "other total bytes": (fields(bytes_total=15_700_000), [6]),
    "other code bytes": (fields(bytes_code=len(CODE) + 1), [6]),
    "a seed's figure of another": (edit("submission.json", '"val_bpb": 1.1201', '"val_bpb": 1.1151'), [6]),
    "not a number": (edit("train_seed42.log", f"val_bpb:{EACH[42].bpb:.8f}", "val_bpb:nan"), [6]),
    "a space counted twice": (runs(*(replace(run, ratio=run.ratio * 1.18) for run in RUNS)), [6]),
    "one log of other bytes per token": (runs(*RUNS[:2], replace(RUNS[2], ratio=RUNS[2].ratio * 0.99)), [6]),
    "two seeds": (runs(*RUNS[:2]), [7]),
    "other settings": (runs(*RUNS[:2], replace(RUNS[2], settings={"iterations": "9000"})), [7]),
    "other shards": (runs(*RUNS[:2], replace(RUNS[2], shards=25)), [7, 12]),
    "training on the validation split": (edit("train_s", "dataset:fineweb10B", "shards:fineweb_val_0 dataset:x"), [12]),
    "11 minutes of training": (runs(*RUNS[:2], replace(RUNS[2], train_ms=660_000)), [8]),
    "more than a step too long": (runs(*RUNS[:2], replace(RUNS[2], train_ms=600_200)), [8]),
    "calibration above the budget": (edit("train_seed42.log", "peak memory", "gptq:66 layers in 12.5s\npeak"), [8]),
    "11 minutes of evaluation": (runs(*RUNS[:2], replace(RUNS[2], eval_ms=660_000)), [9]),
    "no times": (edit("train_seed", "_time:", "_clock:"), [8, 9]),
    "other GPUs": (fields(hardware="8xA100"), [10]),
    "fewer GPUs": (runs(*(replace(run, world=4) for run in RUNS)), [10]),
    "a part of the validation split": (runs(*(replace(run, tokens=1_000_000) for run in RUNS)), [13]),
    "a seed that is not listed": (lambda f: (f / "run_7.log").write_text(early_log(Run(7, 1.13))), [25]),
    "no seeds listed": (fields(seeds=None, seed_results=None, val_bpb_std=None), [25]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_points_and_no_others(tmp_path: Path, fault: str) -> None:
    """Fault: what goes wrong in record folders is not seen, or blamed on something else."""
    change, points = FAULTS[fault]
    folder = whole(tmp_path)
    change(folder)
    rows = found(folder)
    assert failures(rows.values()) == points, [rows[point].why for point in failures(rows.values())]
    assert all(rows[point].why for point in points)

"""Record folders of others: what is right passes, and each fault fails its own points."""

import ast
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golf.artifact.pack import pack
from golf.compliance.points import FAILED, NOT_APPLICABLE, PASSED, failures
from golf.config.config import RunConfig
from golf.model.gepa import GEPA
from golf.submission.record_folder.files import track_of
from golf.submission.record_folder.folder import check_folder
from tests.golf.submission.record_folder.made import (
    CODE,
    RUNS,
    Change,
    Run,
    check,
    early_log,
    edit,
    failing,
    fields,
    late_log,
    make,
    runs,
    whole,
    whole_claims,
    with_code,
    without,
    without_lines,
)

SP8192 = 0.6931471805599453 * 151_080_891 / 40_540_418
"""val_loss by val_bpb under another tokenizer."""


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    """Fault: a form that is in use is misread, so that a right folder fails."""
    rows = check(whole(tmp_path), previous_nats=[1.93, 1.931, 1.929])
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
    rows = check(late(tmp_path, RUNS), previous_bpb=[1.1301, 1.1302, 1.1299])
    assert failures(rows.values()) == []
    assert rows[2].evidence["code_packed"] is True
    assert rows[3].evidence["bytes_counted"]["42"] == rows[3].evidence["bytes_stated"]["42"]
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
    """Fault: what this project submits is not read by its own check, or the seed passes for another configuration."""
    right, other = (hashlib.sha256(text.encode()).hexdigest() for text in (CODE, CODE + "#"))
    folder = make(tmp_path, whole_claims(), {f"train_seed{run.seed}.log": own_log(run, right) for run in RUNS})
    rows = check(folder)
    assert failures(rows.values()) == []
    assert rows[5].evidence["logs_with_hash_or_code"] == 3
    assert rows[8].evidence["train_seconds"]["42"] == 599.1
    assert rows[9].evidence["eval_seconds"]["42"] == 410.0
    assert rows[7].evidence["settings_compared"] >= 8
    log = folder / "train_seed42.log"
    log.write_text(own_log(RUNS[0], other))
    assert failing(folder) == [5, 7]
    log.write_text(own_log(RUNS[0], right).replace('"warmdown_start": 30', '"warmdown_start": 40'))
    assert failing(folder) == [7]


EACH = {run.seed: run for run in RUNS}
FAULTS: dict[str, tuple[Change, list[int]]] = {
    "a log that says another seed than its name": (edit("train_seed42.log", "seed:42\n", "seed:43\n"), [7]),
    "no README": (without("README.md"), [2]),
    "an empty README": (lambda f: (f / "README.md").write_text(""), [2]),
    "no submission.json": (without("submission.json"), [2, 10]),
    "no code": (without("train_gpt.py"), [2, 5]),
    "no logs": (without("*.log"), [2, 6, 7]),
    "a seed without a log": (without("train_seed42.log"), [2, 6, 7]),
    "no author": (fields(author=None), [2]),
    "a number as author": (fields(author=5), [2]),
    "code that is no Python": (with_code("def main(:\n"), [2]),
    "a package that nothing brings": (with_code("import brotli\n"), [2]),
    "a file that is not there": (with_code("t = open('tokens.bin', 'rb').read()\n"), [2]),
    "another track": (fields(track="non-record-unlimited-compute-16mb"), [1]),
    "an artifact over the cap": (runs(*RUNS[:2], replace(RUNS[2], model_bytes=17_000_000)), [3]),
    "an artifact of 16 MiB": (runs(*RUNS[:2], replace(RUNS[2], model_bytes=(16 << 20) - len(CODE))), [3]),
    "a total over the cap": (fields(bytes_total=16_000_001), [3, 6]),
    "other code than that of the logs": (edit("train_gpt.py", "import zlib", "import bz2, zlib"), [5]),
    "one log of other code": (edit("train_seed42.log", f"Code size: {len(CODE)}", "Code size: 48000"), [5, 7]),
    "no sizes at all": (
        lambda f: [
            *(edit("train_seed", old, "")(f) for old in ("Code size", "Serialized", "Total submission")),
            fields(bytes_total=None, bytes_code=None, bytes_model=None, seed_results=None)(f),
        ],
        [3],
    ),
    "a better mean": (fields(val_bpb=1.1192), [6]),
    "the best seed for the mean": (fields(val_bpb=1.1198), [6]),
    "a figure of one decimal": (fields(val_bpb=1.1), [6]),
    "other total bytes, which no log tells": (
        lambda f: [edit("train_seed", "Total submission", "")(f), fields(bytes_total=15_700_000)(f)],
        [6],
    ),
    "another deviation": (fields(val_bpb_std=0.00021), [6]),
    "another loss": (fields(val_loss=1.8813), [6]),
    "other total bytes": (fields(bytes_total=15_700_000), [6]),
    "other code bytes": (fields(bytes_code=len(CODE) + 1), [6]),
    "a seed's figure of another": (edit("submission.json", '"val_bpb": 1.1201', '"val_bpb": 1.1151'), [6]),
    "not a number": (edit("train_seed42.log", f"val_bpb:{EACH[42].bpb:.8f}", "val_bpb:nan"), [6]),
    "a space counted twice": (runs(*(replace(run, ratio=run.ratio * 1.18) for run in RUNS)), [15]),
    "one log of other bytes per token": (runs(*RUNS[:2], replace(RUNS[2], ratio=RUNS[2].ratio * 0.99)), [15]),
    "the best of the seeds, which are not listed": (
        fields(seeds=None, seed_results=None, val_bpb=1.1198, val_loss=None, val_bpb_std=None),
        [6],
    ),
    "two seeds": (runs(*RUNS[:2]), [7]),
    "other settings": (runs(*RUNS[:2], replace(RUNS[2], settings={"iterations": "9000"})), [7]),
    "other shards": (runs(*RUNS[:2], replace(RUNS[2], shards=25)), [7, 12]),
    "training on the validation split": (edit("train_s", "dataset:fineweb10B", "shards:fineweb_val_0 dataset:x"), [12]),
    "11 minutes of training": (runs(*RUNS[:2], replace(RUNS[2], train_ms=660_000)), [8]),
    "more than a step too long": (runs(*RUNS[:2], replace(RUNS[2], train_ms=600_700)), [8]),
    "calibration above the budget": (
        edit("train_seed42.log", "peak memory", "GPTQ:collected 66 Hessians in 12.5s\npeak"),
        [8],
    ),
    "11 minutes of evaluation": (runs(*RUNS[:2], replace(RUNS[2], eval_ms=660_000)), [9]),
    "other GPUs": (fields(hardware="8xA100"), [10]),
    "fewer GPUs": (runs(*(replace(run, world=4) for run in RUNS)), [10]),
    "a part of the validation split": (runs(*(replace(run, tokens=1_000_000) for run in RUNS)), [13]),
    "a seed that is not listed": (lambda f: (f / "run_7.log").write_text(early_log(Run(7, 1.13))), [25]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_points_and_no_others(tmp_path: Path, fault: str) -> None:
    """Fault: what goes wrong in record folders is not seen, or blamed on something else."""
    change, points = FAULTS[fault]
    folder = whole(tmp_path)
    change(folder)
    rows = check(folder)
    assert failures(rows.values()) == points, [rows[point].why for point in failures(rows.values())]
    assert all(rows[point].why for point in points)


ALLOWED: dict[str, Change] = {
    "no seeds listed": fields(seeds=None, seed_results=None, val_bpb_std=None),
    "no seeds listed, and the figures of one that is not the best": fields(
        seeds=None, seed_results=None, val_bpb=1.1201, val_loss=None, val_bpb_std=None
    ),
    "a seed that only the log's name tells": edit("train_seed42.log", "seed:42\n", ""),
    "a package of requirements.txt": with_code(
        "import brotli\nfrom flash_attn_interface import f\n", "brotli\n# flash_attn_3\n"
    ),
    "a package whose absence is caught": with_code("try:\n    import brotli\nexcept ImportError:\n    brotli = None\n"),
    "a file that it writes itself": with_code("open('m.pt', 'wb').write(b'')\nopen('m.pt', 'rb').read()\n"),
    "a file that is there": with_code("open('README.md').read()\n"),
    "seed results as a list": fields(seed_results=[{"seed": run.seed, "val_bpb": run.bpb} for run in RUNS]),
    "seed results as numbers": fields(seed_results={f"seed_{run.seed}": run.bpb for run in RUNS}),
    "the model's bytes as artifact_bytes": fields(
        seed_results={str(r.seed): {"artifact_bytes": r.model_bytes} for r in RUNS}
    ),
    "rounded figures": fields(val_bpb=1.1202, val_loss=1.8914, val_bpb_std=0.0005, seed_results=None),
    "exact figures of logs with four decimals": without_lines("window_exact"),
    "the deviation of a population": fields(val_bpb_std=0.00037),
    "the roundtrip, not the last result": fields(
        val_bpb=round(1.1202 + 0.06 / RUNS[0].ratio, 8), val_loss=None, val_bpb_std=None, seed_results=None
    ),
    "logs in a folder": lambda f: [path.rename(f / path.name.replace(".log", ".txt")) for path in f.glob("*.log")],
    "another track's spelling": fields(track="track_10min_16mb"),
    "half a step too long": runs(*(replace(run, train_ms=600_040) for run in RUNS)),
    "calibration within the budget": lambda f: [
        runs(*(replace(run, train_ms=580_000) for run in RUNS))(f),
        edit("train_seed", "peak memory", "GPTQ:collected 66 Hessians in 12.5s\npeak")(f),
        edit("train_seed", "world_size", "gptq:reserving 12s, effective=588000ms\nworld_size")(f),
    ],
    "an evaluation in a log of its own": lambda f: [
        (f / "eval_seed42.log").write_text(
            "seed:42\nfinal_int6_sliding_window_exact val_loss:1.89124202 val_bpb:1.1201\n"
        ),
        edit("train_seed42.log", "final_int6_sliding", "never_mind val_bpb:none ")(f),
    ],
    "the code at the head of each log": lambda f: [
        path.write_text(f"{CODE}\n{'=' * 100}\nRunning Python 3.12.3\n{path.read_text()}") for path in f.glob("*.log")
    ],
}


@pytest.mark.parametrize("form", ALLOWED)
def test_forms_that_are_right(tmp_path: Path, form: str) -> None:
    """Fault: a right folder fails because of its form."""
    folder = whole(tmp_path)
    ALLOWED[form](folder)
    rows = check(folder)
    assert failures(rows.values()) == [], [row.why for row in rows.values() if row.state == FAILED]


def test_the_seed_of_other_bytes_per_token_is_named(tmp_path: Path) -> None:
    """Fault: under a tokenizer whose ratio is not known here, one seed's wrong ratio is blamed on the others."""
    folder = late(tmp_path, RUNS)
    score = "quantized_ttt val_loss:"
    edit("logs/train_s999.txt", score, f"{score}3.1 was:")(folder)
    rows = check(folder)
    assert failures(rows.values()) == [15]
    assert "999 3.99" in rows[15].why


def test_other_code_in_a_log_is_seen(tmp_path: Path) -> None:
    """Fault: a log begins with code of the same size that is not the shipped one."""
    folder = whole(tmp_path)
    for path in folder.glob("*.log"):
        path.write_text(f"{CODE.replace('zlib', 'lzma')}\n{'=' * 100}\n{path.read_text()}")
    assert failing(folder) == [5]


def test_code_in_other_files_counts(tmp_path: Path) -> None:
    """Fault: code is kept out of the count by putting it in a module beside train_gpt.py."""
    folder = whole(tmp_path)
    with_code("import extra\n")(folder)
    (folder / "extra.py").write_text("import deeper.part\n")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "part.py").write_text("x = 1\n" * 50_000)
    (folder / "unused.py").write_text("y = 1\n")
    rows = check(folder)
    shipped = len("import extra\n") + len("import deeper.part\n") + 300_000
    assert rows[3].evidence["code_bytes_shipped"] == shipped
    assert failures(rows.values()) == [3]


def test_the_track_decides_what_is_judged(tmp_path: Path) -> None:
    """Fault: budgets of the record track are applied to others, or a place is asked for where the track is given."""
    folder = whole(tmp_path)
    slow = runs(*(replace(run, train_ms=6_000_000, eval_ms=900_000, world=1) for run in RUNS))
    slow(folder)
    assert failing(folder) == [8, 9, 10]
    elsewhere = folder.rename(tmp_path / folder.name)
    assert failing(elsewhere) == [1, 8, 9, 10]
    assert failing(elsewhere, track="record") == [8, 9, 10]
    rows = check(elsewhere, track="non-record")
    assert failures(rows.values()) == []
    assert rows[8].evidence["train_seconds"]["42"] == 6000.0
    fields(track=None)(elsewhere)
    assert failing(elsewhere) == [1]
    with pytest.raises(ValueError, match="track"):
        check_folder(elsewhere, track="fast")
    with pytest.raises(NotADirectoryError, match="README"):
        check_folder(elsewhere / "README.md")
    spellings = {
        "10min_16mb": "record",
        "non_record_16mb": "non-record",
        "non-record-unlimited": "non-record",
        "x": None,
    }
    assert {text: track_of(text) for text in spellings} == spellings
    for name in ("Int6_Sliding", "2026-13-45_Int6", "2026-03-25", "2026-03-25_a b"):
        elsewhere = elsewhere.rename(tmp_path / name)
        assert 1 in failing(elsewhere, track="record")


def test_a_gain_that_is_not_shown_fails(tmp_path: Path) -> None:
    """Fault: a gain within the noise, or below the margin, passes; both levels are told."""
    folder = whole(tmp_path)
    nats = [run.nats for run in RUNS]
    close = [value + 0.0053 for value in nats]
    rows = check(folder, previous_nats=close)
    assert failures(rows.values()) == [24]
    assert rows[24].evidence["p_below_0.25"] is False
    rows = check(folder, previous_nats=[sum(nats) / 3 + 0.0058])
    assert (rows[24].evidence["p_below_0.01"], rows[24].evidence["p_below_0.25"]) == (False, True)
    assert rows[24].evidence["test"] == "one-sample t"
    assert failing(folder, previous_nats=[value + 0.02 for value in nats]) == []
    by_bpb = check(folder, previous_bpb=[run.bpb + 0.02 / run.ratio for run in RUNS])[24]
    assert by_bpb.evidence["gain_nats"] == pytest.approx(0.02)


def test_an_artifact_of_ours_is_read_back(tmp_path: Path, tiny: RunConfig) -> None:
    """Fault: a damaged artifact, or one of another size than its log tells, passes."""
    data = pack(dict(GEPA(tiny.model).named_parameters()), tiny.model, replace(tiny.quant, codec="zstd"))
    folder = whole(tmp_path, tuple(replace(run, model_bytes=len(data)) for run in RUNS))
    path = folder / "artifact_seed42.golf"
    path.write_bytes(data)
    rows = check(folder)
    assert failures(rows.values()) == []
    assert rows[4].evidence["parameters"] == sum(parameter.numel() for parameter in GEPA(tiny.model).parameters())
    path.write_bytes(data[:-1])
    assert failing(folder) == [4]
    edit("train_seed", str(len(data)), str(len(data) + 1))(folder)
    path.write_bytes(data)
    assert 4 in failing(folder)


def test_nothing_is_executed(tmp_path: Path) -> None:
    """Fault: somebody else's code runs when their folder is looked at."""
    folder, mark = whole(tmp_path), tmp_path / "exploded"
    code = f"open({str(mark)!r}, 'w').write('x')\n"
    for name in ("train_gpt.py", "conftest.py", "json.py", "setup.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(code)
    check_folder(folder)
    assert not mark.exists()


def test_the_made_code_is_python() -> None:
    """Fault: the tests' own folders are wrong."""
    ast.parse(CODE)

"""The record folder: what it holds agrees, its file gives the same numbers alone, what may not be is not written."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from golf.cli.main import main
from golf.compliance.points import CheckResult, check_to_plain, failed
from golf.config.rules import NON_RECORD, SP1024_BYTES, SP1024_TOKENS
from golf.data.dataset import hash_file
from golf.submission.faults import faults_of
from golf.submission.study_file import read_study
from tests.golf.submission.conftest import SEEDS, Made

pytestmark = pytest.mark.long

WHO = ["--author", "A. Example", "--github-id", "a-example", "--name", "Tiny model", "--date", "2026-01-02"]
FOLDER = "track_non_record_16mb/2026-01-02_Tiny_model"
ALONE = """
import importlib.util, runpy, sys
sys.path.append({packages!r})  # as the environment has it, but without what a .pth file adds: the project
assert importlib.util.find_spec("golf") is None and importlib.util.find_spec("tune") is None
sys.argv = {argv!r}
runpy.run_path("train_gpt.py", run_name="__main__")
assert not [name for name in sys.modules if name.split(".")[0] in ("golf", "tune")]
"""


@pytest.fixture(scope="module")
def record(eligible: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record folder as the command writes it."""
    out = tmp_path_factory.mktemp("records")
    assert main(["submit", str(eligible), *WHO, "--out", str(out)]) == 0
    return out / FOLDER


def submit(study: Path, out: Path, *options: str) -> int:
    """The command's exit code."""
    return main(["submit", str(study), *WHO, "--out", str(out), *options])


def lay_out(data: Path, root: Path) -> None:
    """The dataset as the competition has it below `root`: shards and tokenizer in two folders, no manifest."""
    shards, tokenizers = root / "data" / "datasets" / "fineweb10B_sp300", root / "data" / "tokenizers"
    shards.mkdir(parents=True)
    tokenizers.mkdir()
    for path in data.glob("*.bin"):
        shutil.copy(path, shards)
    shutil.copy(next(data.glob("*.model")), tokenizers / "fineweb_300_bpe.model")


TIMES = re.compile(
    r"(train_time|step_avg|eval_time):[\d.]+ms|allocated: \d+ MiB reserved: \d+|in [\d.]+s$|(?<=^started).*"
    r"|(?<=^versions: ).*"
)
"""What differs from run to run in a log; the file does not load what only other configurations need."""
ELSEWHERE = ("train_loader:", "data_sha256:")
"""Lines that tell the name of a dataset, or of its files."""


def comparable(log: str) -> list[str]:
    """A log without what differs from run to run and from place to place."""
    return [TIMES.sub("", line) for line in log.splitlines() if not line.startswith(ELSEWHERE)]


def test_the_file_alone_gives_the_studys_numbers(made: Made, record: Path, tmp_path: Path) -> None:
    """Fault: the shipped file needs the project or arguments, or computes or logs anything else than the study did."""
    for name in ("train_gpt.py", "requirements.txt"):
        shutil.copy(record / name, tmp_path)
    lay_out(made.data, tmp_path)
    program = ALONE.format(packages=str(Path(pytest.__file__).parents[1]), argv=["train_gpt.py"])
    command = [sys.executable, "-I", "-S", "-c", program]
    environment = {**os.environ, "SEED": "2", "RUN_ID": "again", "MAX_WALLCLOCK_SECONDS": "600"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    study = read_study(made.folder)
    run = next(run for run in study.seeds if run.seed == 2)
    assert run.artifact is not None
    out = tmp_path / "out" / "again"
    assert (out / "artifact.golf").read_bytes() == (made.folder / run.artifact.name).read_bytes()
    record_json = json.loads((out / "record.json").read_text())
    for rung, theirs in zip(run.ladder, record_json["ladder"], strict=True):
        assert (rung.name, rung.bpb, rung.nats_per_token) == (theirs["name"], theirs["bpb"], theirs["nats_per_token"])
        assert not rung.chunks or [list(chunk) for chunk in rung.chunks] == theirs["chunks"]
    message, log = (tmp_path / "logs" / "again.txt").read_text(), (record / "train_seed2.log").read_text()
    assert set(message.splitlines()) <= set(done.stdout.splitlines())
    unread, *own = comparable(message)
    assert unread.startswith("not read: MAX_WALLCLOCK_SECONDS=600;")
    assert own == comparable(log)


FORMS = {
    "score": r"^[a-z_]+ val_loss:\d+\.\d+ val_bpb:\d+\.\d+",
    "total bytes": r"^Total submission size(?: \S+)?: \d+ bytes",
    "validation curve": r"^step:\d+/\d+ val_loss:\d+\.\d+ val_bpb:\d+\.\d+",
    "training curve": r"^step:\d+/\d+ train_loss:\d+\.\d+ train_time:\d+ms step_avg:[\d.]+ms",
    "stop": r"^stopping_early: .*train_time: ?\d+ms step: ?6/6",
    "seed": r"^seed:\d+$",
    "parameters": r"^model_params:\d+$",
    "peak memory": r"^peak memory allocated: \d+ MiB reserved: \d+ MiB",
    "evaluation time": r"eval_time:\d+ms",
    "code": r"^Code size: \d+ bytes",
    "model": r"^Serialized model \S+: \d+ bytes",
    "world": r"^world_size:\d+ grad_accum_steps:\d+",
    "device": r'^device: "1 x .*"',
    "versions": r"^Running PyTorch \d+\.\d+",
    "date": r"^started: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
    "training data": r"^train_loader:dataset:words train_shards:\d+",
    "validation data": r"^val_loader:shards pattern=words_val_\*\.bin tokens:\d+",
}
"""The forms of the field's logs that their readers look for."""


@pytest.mark.parametrize("fact", FORMS)
def test_logs_are_read_by_the_fields_readers(record: Path, fact: str) -> None:
    """Fault: a fact in a form of our own, which nobody's reader finds."""
    for seed in SEEDS:
        assert re.search(FORMS[fact], (record / f"train_seed{seed}.log").read_text(), re.MULTILINE)


def test_logs_are_those_that_the_runs_wrote(
    made: Made, record: Path, changed: Any, tmp_path: Path, capsys: Any
) -> None:
    """Fault: a log is made up for the folder, is of another run, or has no settings to compare."""
    for seed in SEEDS:
        log = (record / f"train_seed{seed}.log").read_bytes()
        assert log == (made.folder / f"log_seed{seed}.txt").read_bytes()
        assert sum(line.startswith(b"  ") for line in log.splitlines()) >= 30
    study = changed(lambda values: values["seeds"][0].update(log=values["seeds"][1]["log"]))
    assert submit(study, tmp_path / "out", "--draft") == 2
    assert "log_seed2.txt does not say what study.json does" in capsys.readouterr().err
    study = changed(lambda values: values["seeds"][0].update(log=None))
    assert submit(study, tmp_path / "out") == 2
    assert "seed 1: the study does not say its log" in capsys.readouterr().err
    assert submit(study, tmp_path / "out", "--draft") == 0
    assert not (tmp_path / "out" / FOLDER / "train_seed1.log").exists()


def test_everything_in_the_folder_agrees(made: Made, record: Path) -> None:
    """Fault: a figure that was typed or computed twice; a log of other code; a file that nobody asked for."""
    logs = {seed: (record / f"train_seed{seed}.log").read_text() for seed in SEEDS}
    files = {"README.md", "submission.json", "train_gpt.py", "source.md", "requirements.txt"}
    files |= {f"train_seed{seed}.log" for seed in SEEDS}
    assert {path.name for path in record.iterdir()} == files
    values, readme = json.loads((record / "submission.json").read_text()), (record / "README.md").read_text()
    code = (record / "train_gpt.py").read_bytes()
    sha256 = hashlib.sha256(code).hexdigest()
    assert values["code"]["sha256"] == sha256
    assert values["bytes_code"] == len(code)
    assert sha256 in readme
    scores = {}
    for seed, log in logs.items():
        loss, bpb = map(float, re.findall(r"val_loss:(\S+) val_bpb:(\S+)", log)[-1])
        scores[seed] = bpb
        result = values["seed_results"][str(seed)]
        assert (result["val_loss"], result["val_bpb"]) == (loss, bpb)
        assert f"code_sha256:{sha256}" in log
        sizes = [int(size) for size in re.findall(r"(?:model|Code size|submission size)(?: rans)?: (\d+) bytes", log)]
        assert sizes == [len(code), result["bytes_model"], result["bytes_total"]]
        assert sizes[0] + sizes[1] == sizes[2]
        assert sizes[1] == (made.folder / f"artifact_seed{seed}.golf").stat().st_size
        assert log.count("train_loss") == 6
    assert values["val_bpb"] == pytest.approx(statistics.fmean(scores.values()), rel=1e-12)
    assert values["val_bpb_std"] == pytest.approx(statistics.stdev(scores.values()), rel=1e-9)
    assert values["bytes_total"] == max(result["bytes_total"] for result in values["seed_results"].values())
    assert (values["draft"], values["faults"]) == (False, [])
    assert "DRAFT" not in readme
    bounds = dict(line.split(">=") for line in (record / "requirements.txt").read_text().split())
    assert set(bounds) == {"torch", "numpy", "sentencepiece"}
    assert set(values["versions"]) == {"python", *bounds}
    assert (values["dataset"], values["val_tokens"]) == ("fineweb10B_sp300", 99_000_000)


def test_a_folder_is_never_overwritten_or_left_half(eligible: Path, record: Path, tmp_path: Path, capsys: Any) -> None:
    """Fault: somebody's record is replaced unasked, or a failed run leaves a part of one."""
    before = {path.name: hash_file(path) for path in record.iterdir()}
    assert submit(eligible, record.parents[1]) == 2
    assert "is there already" in capsys.readouterr().err
    (record / "mine.txt").write_text("x")
    assert submit(eligible, record.parents[1], "--force") == 0
    assert {path.name: hash_file(path) for path in record.iterdir()} == before
    assert submit(eligible, tmp_path / "a", "--with-artifacts") == 0
    assert hash_file(tmp_path / "a" / FOLDER / "artifact_seed1.golf") == hash_file(eligible / "artifact_seed1.golf")
    (tmp_path / "file").write_text("in the way")
    assert submit(eligible, tmp_path / "file") == 2
    for folder in (record.parent, (tmp_path / "a" / FOLDER).parent):
        assert [path.name for path in folder.iterdir()] == [record.name]


def seed_of(values: dict[str, Any], **fields: Any) -> None:
    """Change fields of the first seed."""
    values["seeds"][0] |= fields


FAULTS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("hash", lambda values: seed_of(values, code_sha256=None), "does not say its code"),
    ("device", lambda values: seed_of(values, device=None), "does not say its device"),
    ("other device", lambda values: seed_of(values, device="1 x H100"), "2 devices"),
    ("version", lambda values: values["seeds"][0]["versions"].pop("sentencepiece"), "version of sentencepiece"),
    ("data", lambda values: values["data"].update(digest=None), "which data"),
    (
        "another text",
        lambda values: values["data"].update(name="cpython-docs", validation_tokens=44_123, validation_bytes=99_000),
        "scored on cpython-docs (44,123 tokens), not on FineWeb's validation split (62,021,846 tokens under sp1024)",
    ),
    ("a part of it", lambda values: values["data"].update(validation_bytes=1_000_000), "not on FineWeb's validation"),
    ("under its name", lambda values: values["data"].update(name="words"), "scored on words"),
    ("no name", lambda values: values["data"].update(name=None), "scored on data without a name"),
    ("verdict", lambda values: values["verdict"].update(faults=["the planned test is not decided"]), "not decided"),
]


@pytest.mark.parametrize(("act", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_allows_a_draft_only(
    act: Callable[[dict[str, Any]], object], message: str, changed: Any, tmp_path: Path, capsys: Any
) -> None:
    """Fault: a study that the rules forbid becomes a record, or a draft that does not say what it is."""
    study = changed(act)
    assert submit(study, tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert submit(study, tmp_path / "out", "--draft") == 0
    folder = tmp_path / "out" / FOLDER
    assert "DRAFT" in (folder / "README.md").read_text()
    values = json.loads((folder / "submission.json").read_text())
    assert values["draft"]
    assert any(message in fault for fault in values["faults"])


def test_both_caps_count(eligible: Path) -> None:
    """Fault: a seed over the configuration's cap, or over the competition's where the other is larger, is let pass."""
    study = read_study(eligible)
    small = replace(study, config=dataclasses.replace(study.config, cap_bytes=20_000))
    assert sum("the cap is 20,000" in fault for fault in faults_of(small, NON_RECORD, ())) == 3
    heavy = replace(study.seeds[0], model_bytes=16_000_000)
    config = dataclasses.replace(study.config, cap_bytes=20_000_000)
    large = replace(study, config=config, seeds=(heavy, *study.seeds[1:]))
    (fault,) = faults_of(large, NON_RECORD, ())
    assert "the cap is 16,000,000" in fault
    assert faults_of(study, NON_RECORD, ()) == ()


def test_the_competitions_text_is_known_by_its_size(eligible: Path) -> None:
    """Fault: a part of the split, or another text in a folder of its name, is compared with others' scores."""
    study = read_study(eligible)
    model = dataclasses.replace(study.config.model, vocab_size=1024)
    small = replace(study, config=dataclasses.replace(study.config, model=model))
    for tokens, size, name, right in (
        (SP1024_TOKENS - 1, SP1024_BYTES, "fineweb10B_sp1024", True),
        (SP1024_TOKENS - 2, SP1024_BYTES, "fineweb10B_sp1024", False),
        (SP1024_TOKENS - 1, SP1024_BYTES + 1, "fineweb10B_sp1024", False),
        (SP1024_TOKENS - 1, SP1024_BYTES, "mine", False),
        (None, None, "fineweb10B_sp1024", False),
    ):
        message = replace(study.data, name=name, validation_tokens=tokens, validation_bytes=size)
        assert (faults_of(replace(small, data=message), NON_RECORD, ()) == ()) is right, (tokens, size, name)


def test_odd_names_stay_text(eligible: Path, tmp_path: Path) -> None:
    """Fault: a name becomes HTML or markup in the README, breaks the JSON, or leads out of the folder."""
    author, title = "A <script>x</script> `b` | [c](d) \\", '../*T* | "q" # $\\sum$ ü'
    who = ["--author", author, "--github-id", "a-1", "--name", title, "--date", "2026-01-02", "--out", str(tmp_path)]
    assert main(["submit", str(eligible), *who]) == 0
    (folder,) = (tmp_path / "track_non_record_16mb").iterdir()
    assert folder.name == "2026-01-02_T_q_sum"
    values = json.loads((folder / "submission.json").read_text())
    assert (values["author"], values["name"]) == (author, title)
    readme = (folder / "README.md").read_text()
    assert "<script>" not in readme
    assert readme.splitlines()[0] == '# ../\\*T\\* \\| "q" \\# \\$\\\\sum\\$ ü'


def last_failed(values: dict[str, Any]) -> None:
    """The last seed has failed, and the verdict is of the others."""
    seed = values["seeds"][-1]
    seed |= {"state": "failed", "reason": "diverged at step 3", "ladder": []}
    seed |= {"log": None, "model_bytes": None, "code_bytes": None, "code_sha256": None, "curves": {}, "byte_groups": {}}
    for name in ("bpb", "nats"):
        field = {"bpb": "bpb", "nats": "nats_per_token"}[name]
        scores = [run["ladder"][-1][field] for run in values["seeds"][:2]]
        values["verdict"][name] |= {"mean": statistics.fmean(scores), "standard_deviation": statistics.stdev(scores)}


def test_a_failed_seed_stays_in_the_folder(changed: Any, tmp_path: Path, capsys: Any) -> None:
    """Fault: a seed without a result is dropped from the table, or two seeds pass for a result."""
    study = changed(last_failed)
    assert submit(study, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "diverged at step 3" in message
    assert "results of 2 seeds" in message
    assert submit(study, tmp_path / "out", "--draft") == 0
    folder = tmp_path / "out" / FOLDER
    assert "diverged at step 3" in (folder / "README.md").read_text()
    assert not (folder / "train_seed3.log").exists()
    assert json.loads((folder / "submission.json").read_text())["seed_results"]["3"]["status"] == "failed"


def test_other_code_is_refused_even_for_a_draft(changed: Any, tmp_path: Path, capsys: Any) -> None:
    """Fault: a folder binds the study's numbers to code that did not give them."""
    for other in ({"code_sha256": "0" * 64}, {"code_sha256": None, "code_bytes": 61_500}):
        study = changed(lambda values, other=other: seed_of(values, **other))
        assert submit(study, tmp_path / "out", "--draft") == 2
        message = capsys.readouterr().err
        assert ("0" * 64 in message) or ("61500" in message)
        assert len(re.findall("[0-9a-f]{64}", message)) >= 1
        assert not (tmp_path / "out").exists()


def test_the_record_track_has_a_clock_and_a_machine(changed: Any, tmp_path: Path, capsys: Any) -> None:
    """Fault: a run of other hardware, or of more than 600 s, goes to the record track."""
    study = changed(lambda values: seed_of(values, train_seconds=600.1, cold=False))
    assert submit(study, tmp_path / "out", "--track", "record") == 2
    message = capsys.readouterr().err
    assert "seed 1 takes 600.1 s for training" in message
    assert "8 x H100" in message
    assert "seed 1 took results from the store" in message
    assert submit(study, tmp_path / "out") == 0


def test_checks_of_the_study_are_shown(changed: Any, tmp_path: Path) -> None:
    """Fault: a failed point of the rules is not in the document."""
    point = failed(18, "7 | scores changed", {"flipped": 12})
    check = CheckResult(passed=20, remarks=0, failed=1, not_applicable=4, points=(point,))
    study = changed(lambda values: seed_of(values, check=check_to_plain(check)))
    assert submit(study, tmp_path / "out", "--draft") == 0
    readme = (tmp_path / "out" / FOLDER / "README.md").read_text()
    assert "7 \\| scores changed" in readme
    assert "flipped=12" in readme
    assert "| 1 | 20 | 0 | 1 | 4 |" in readme

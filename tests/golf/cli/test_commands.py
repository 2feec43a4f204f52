"""The real command line on a tiny dataset: what commands compute, continue and refuse."""

import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golf.artifact.container import encode
from golf.cli.main import main
from golf.cli.options import assignment_of
from golf.config.config import BatchConfig, RunConfig, ScheduleConfig, override_all, to_plain
from golf.data.text import prepare_text
from golf.runtime.files import read_json, write_json
from golf.runtime.tensors import read_stored, read_tensors
from tests.conftest import TINY

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]

CONFIG = replace(
    TINY,
    batch=BatchConfig(tokens_per_step=256, sequence_length=16),
    schedule=ScheduleConfig(steps=4, warmdown_start=2, momentum_steps=3, ema_decay=0.5),
    validate_every=None,
)


@dataclass(frozen=True)
class Setup:
    """A dataset, a configuration file and a finished run, made by the commands themselves."""

    data: Path
    config: Path
    run: Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """What most tests start from; they copy what they change."""
    root = tmp_path_factory.mktemp("setup")
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklm", k=chance.randrange(2, 8))) for _ in range(60)]
    texts = [(f"d{n}", " ".join(chance.choices(words, k=100))) for n in range(40)]
    prepare_text(texts, root / "words", "words", vocab_size=300, log=lambda line: None)
    write_json(root / "tiny.json", to_plain(CONFIG))
    done = Setup(root / "words", root / "tiny.json", root / "run")
    assert main(["run", str(done.config), "--data", str(done.data), "--out", str(done.run)]) == 0
    return done


@pytest.fixture
def run_copy(setup: Setup, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(setup.run, tmp_path / "run"))


@pytest.fixture
def data_copy(setup: Setup, tmp_path: Path) -> Path:
    """A dataset that a test may damage; without the manifest, whose hashes speak of the undamaged files."""
    copy = Path(shutil.copytree(setup.data, tmp_path / "words"))
    (copy / "dataset.json").unlink()
    return copy


def result(folder: Path, stage: str) -> Any:
    """A stage's kept result."""
    return json.loads((folder / f"{stage}.json").read_text())["result"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an error of input."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr()
    assert message.err.startswith("error: ")
    assert message.err.count("\n") == 1
    return message.err


# What the commands compute


def test_stages_one_by_one_are_the_whole_run(setup: Setup, tmp_path: Path) -> None:
    """Fault: train, pack, score and adapt by hand give other weights, bytes or scores than `run`."""
    folder = tmp_path / "steps"
    assert main(["train", str(setup.config), "--data", str(setup.data), "--out", str(folder)]) == 0
    assert main(["pack", str(folder)]) == 0
    assert (folder / "artifact.golf").read_bytes() == (setup.run / "artifact.golf").read_bytes()
    assert main(["score", str(folder)]) == 0
    assert main(["ttt", str(folder)]) == 0
    for rung in ("live", "ema", "quantised", "sliding", "ttt"):
        assert result(folder / "scored", rung)["chunks"] == result(setup.run, rung)["chunks"], rung


def test_a_run_on_a_cpu_imports_no_compiler(setup: Setup, tmp_path: Path) -> None:
    """Fault: a process that compiles nothing waits for PyTorch's compiler; or the results differ without it."""
    words = ["run", str(setup.config), "--data", str(setup.data), "--out", str(tmp_path / "run")]
    source = f"import sys; from golf.cli.main import main; assert main({words}) == 0; "
    source += "assert not {'torch._dynamo', 'sympy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, cwd=ROOT)
    assert result(tmp_path / "run", "ttt")["chunks"] == result(setup.run, "ttt")["chunks"]


def test_an_artifact_alone_scores_like_its_run(setup: Setup, tmp_path: Path) -> None:
    """Fault: scoring a lone artifact needs more than the artifact, or takes the preset's model for its shape."""
    lone = shutil.copy(setup.run / "artifact.golf", tmp_path / "other-name.bin")
    settings = [f"score.{name}={json.dumps(value)}" for name, value in to_plain(CONFIG.score).items()]
    common = ["--artifact", str(lone), "--preset", "demo", "--data", str(setup.data), "--out", str(tmp_path)]
    assert main(["score", *common, "--set", *settings]) == 0
    settings += [f"ttt.{name}={json.dumps(value)}" for name, value in to_plain(CONFIG.ttt).items()]
    assert main(["ttt", *common, "--set", *settings]) == 0
    for rung in ("quantised", "sliding", "ttt"):
        assert result(tmp_path, rung)["chunks"] == result(setup.run, rung)["chunks"], rung
    assert not (tmp_path / "live.json").exists()


def test_other_settings_are_measured_and_not_remembered_as_the_run(run_copy: Path, setup: Setup) -> None:
    """Fault: a kept score answers for other settings, or an experiment overwrites the run's own result."""
    before = (run_copy / "ttt.json").read_bytes()
    assert main(["ttt", str(run_copy)]) == 0
    first = result(run_copy / "scored", "ttt")
    assert main(["ttt", str(run_copy), "--set", "ttt.lr=0.1"]) == 0
    second = result(run_copy / "scored", "ttt")
    assert first["chunks"] == result(setup.run, "ttt")["chunks"]
    assert second["bpb"] != first["bpb"]
    assert second["chunks"][0] == first["chunks"][0], "the first chunk is scored before any training"
    assert (run_copy / "ttt.json").read_bytes() == before


def test_packing_with_another_split_makes_the_folder_that_run(
    run_copy: Path, setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: the artifact is of one split, the configuration and the kept results of another."""
    assert main(["pack", str(run_copy), "--split", "int4"]) == 0
    small = (run_copy / "artifact.golf").read_bytes()
    assert len(small) < (setup.run / "artifact.golf").stat().st_size
    assert "attention.bits is 4" in refused(capsys, "run", setup.config, "--data", setup.data, "--out", run_copy)
    assert main(["run", str(run_copy / "config.json"), "--data", str(setup.data), "--out", str(run_copy)]) == 0
    assert (run_copy / "artifact.golf").read_bytes() == small
    assert result(run_copy, "quantised")["chunks"] != result(setup.run, "quantised")["chunks"]
    assert result(run_copy, "live")["chunks"] == result(setup.run, "live")["chunks"]


def test_packing_by_gptq_reads_the_data_of_the_run(
    run_copy: Path, setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: calibration on the built-in corpus because a folder does not say its data, or other bits than `run`."""
    (run_copy / "settings.json").rename(run_copy / "elsewhere.json")
    split = ["--split", "int5-mlp-gptq", "--set", "quant.calibration_tokens=300"]
    assert "--data" in refused(capsys, "pack", run_copy, *split)
    (run_copy / "elsewhere.json").rename(run_copy / "settings.json")
    assert main(["pack", str(run_copy), *split]) == 0
    packed = (run_copy / "artifact.golf").read_bytes()
    assert main(["run", str(run_copy / "config.json"), "--data", str(setup.data), "--out", str(run_copy)]) == 0
    assert (run_copy / "artifact.golf").read_bytes() == packed != (setup.run / "artifact.golf").read_bytes()


def test_a_folder_is_one_configuration(run_copy: Path, setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a second configuration is mixed into a folder, or the same one is refused or computed again."""
    before = {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()}
    message = refused(capsys, "run", setup.config, "--data", setup.data, "--out", run_copy, "--set", "seed=7")
    assert "seed is 42 there, 7 here" in message
    assert main(["run", str(setup.config), "--data", str(setup.data), "--out", str(run_copy)]) == 0
    assert {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()} == before


def test_a_budget_becomes_a_plan_once(setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: more steps than the time allows, or a continued run that is measured again and so another run."""
    command = ["train", str(setup.config), "--data", str(setup.data), "--out", str(tmp_path / "timed"), "--seconds"]
    assert main([*command, "0.5"]) == 0
    plan = (tmp_path / "timed/config.json").read_bytes()
    schedule = json.loads(plan)["schedule"]
    step_seconds = json.loads((tmp_path / "timed/settings.json").read_text())["step_seconds"]
    assert schedule["steps"] * step_seconds <= 0.5 < (schedule["steps"] + 1) * step_seconds
    assert schedule["steps"] - schedule["warmdown_start"] == min(2, schedule["steps"])
    trained = (tmp_path / "timed/train.json").read_bytes()
    assert main([*command, "0.5"]) == 0
    assert (tmp_path / "timed/config.json").read_bytes() == plan
    assert (tmp_path / "timed/train.json").read_bytes() == trained
    assert "planned for 0.5 s" in refused(capsys, *command, "0.7")
    assert "schedule.steps is" in refused(capsys, *command[:-1])
    assert "no step" in refused(capsys, *command[:4], "--out", tmp_path / "none", "--seconds", "1e-9")
    assert not (tmp_path / "none").exists()


def test_a_signal_is_one_line_and_the_same_command_continues(setup: Setup, tmp_path: Path) -> None:
    """Fault: a traceback, a wrong exit code, or a folder that is unusable afterwards or ends with other bits."""
    longer = ["train", str(setup.config), "--data", str(setup.data), "--set", "schedule.steps=150", "--out"]
    command = [sys.executable, "-m", "golf", *longer, str(tmp_path / "stopped")]
    reached = [0]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert "importing" in process.stdout.readline()
            assert "Ctrl-C" in process.stdout.readline()
            process.stdout.readline()  # it trains
            process.send_signal(number)
            errors = process.communicate(timeout=60)[1]
        assert process.returncode == code
        assert "Traceback" not in errors
        assert len(errors.strip().splitlines()) == 1
        reached.append(read_stored(tmp_path / "stopped" / "state.safetensors")[1]["step"])
    assert reached == sorted(set(reached))
    assert reached[-1] < 150
    assert main([*longer, str(tmp_path / "stopped")]) == 0
    losses = read_json(tmp_path / "stopped" / "curves.json")["train_loss"]
    assert [point[0] for point in losses] == list(range(150))
    assert main([*longer, str(tmp_path / "calm")]) == 0
    calm = (tmp_path / "calm" / "average.safetensors").read_bytes()
    assert (tmp_path / "stopped" / "average.safetensors").read_bytes() == calm


def first_weight(folder: Path) -> torch.Tensor:
    """Some trained weights."""
    weights = read_tensors(folder / "live.safetensors")["token_embedding.weight"]
    assert isinstance(weights, torch.Tensor)
    return weights


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m golf` on two ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "golf"]
    command = [*launcher, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_two_ranks_score_a_folder_like_one(setup: Setup, tmp_path: Path) -> None:
    """Fault: a rank's windows are lost, or two ranks write or print over each other."""
    done = torchrun("score", setup.run, "--rung", "sliding", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = result(setup.run, "sliding"), result(tmp_path, "sliding")
    assert two["bpb"] == pytest.approx(one["bpb"], abs=1e-6)
    assert [chunk[1:] for chunk in two["chunks"]] == [chunk[1:] for chunk in one["chunks"]]
    assert sum(line.startswith("next:") for line in done.stdout.splitlines()) == 1


def test_two_ranks_tell_an_error_once(setup: Setup, tmp_path: Path) -> None:
    """Fault: the same message once per rank, or none at all."""
    done = torchrun("score", setup.run, "--data", tmp_path / "missing")
    assert done.returncode != 0
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1


def test_the_built_in_corpus_is_made_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the very first command of a newcomer ends in an error."""
    small = ["schedule.steps=1", "schedule.warmdown_start=0", "batch.tokens_per_step=128", "batch.sequence_length=16"]
    small += ["model.num_layers=2", "model.value_layers=[]", "model.xsa_layers=0"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", "demo", "--set", *small]) == 0
    assert (tmp_path / "data/cpython-docs/dataset.json").exists()
    assert (tmp_path / "runs/demo/live.safetensors").exists()


def test_every_field_is_listed_described_and_settable(capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a field that `fields` hides, leaves undescribed, or lists under a name that --set refuses."""
    capsys.readouterr()
    assert main(["fields"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines}
    leaves = set(paths_of(to_plain(RunConfig())))
    assert set(listed) == leaves
    for path, rest in listed.items():
        value, end = json.JSONDecoder().raw_decode(rest)
        assert len(rest[end:].split()) >= 1, path
        field, parsed = assignment_of(f"{path}={json.dumps(value)}")
        assert override_all(RunConfig(), {field: parsed}) == RunConfig()


def paths_of(values: dict[str, Any], path: str = "") -> list[str]:
    """Dotted names of all leaves."""
    names = []
    for name, value in values.items():
        names += paths_of(value, f"{path}{name}.") if isinstance(value, dict) else [path + name]
    return names


# Bad input


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "dmeo"], ["dmeo", '"demo"']),
        (["run", "demo", "--split", "int44"], ["int44", '"int4"']),
        (["run", "demo", "--set", "schedule.step=3"], ["schedule.step", '"steps"']),
        (["run", "demo", "--set", "shedule.steps=3"], ["shedule", '"schedule"']),
        (["run", "demo", "--set", "schedule.steps"], ["FIELD=VALUE", "schedule.steps"]),
        (["run", "demo", "--set", "schedule.steps=many"], ["schedule.steps", "'many'"]),
        (["run", "demo", "--set", "optimizer.matrix_lr=NaN"], ["optimizer.matrix_lr", "finite"]),
        (["run", "demo", "--set", "optimizer.matrix_lr=1e999"], ["optimizer.matrix_lr", "finite"]),
        (["run", "demo", "--set", "schedule.steps=60", "schedule.warmdown_start=60"], ["warmdown_start", "60"]),
        (
            ["run", "demo", "--set", "batch.tokens_per_step=8192", "batch.sequence_length=300"],
            ["sequence_length 300", "8192"],
        ),
        (["run", "demo", "--data", "no/such/folder"], ["no/such/folder", "python -m golf data prepare"]),
        (["info", "no/such/config.json"], ["no/such/config.json"]),
        (["fields", "schedul"], ["schedul", '"schedule"']),
        (["score", "no/such/run"], ["no/such/run", "python -m golf run"]),
        (["score"], ["FOLDER", "--artifact"]),
        (["ttt", "--artifact", "x.golf"], ["--preset"]),
        (["score", "--artifact", "no.golf", "--preset", "demo"], ["no.golf"]),
        (["data", "prepare", "--text", "no/such/text"], ["no/such/text"]),
    ],
)
def test_wrong_words_are_named(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Fault: a traceback or a message that does not name what is wrong and what is right."""
    message = refused(capsys, *arguments, *(["--out", tmp_path / "out"] if arguments[0] == "run" else []))
    for part in parts:
        assert part in message
    assert not (tmp_path / "out").exists(), "nothing is left behind by a refused command"


def cut(path: Path) -> None:
    """Half of the file is missing."""
    os.truncate(path, path.stat().st_size // 2)


def word(index: int, value: int) -> Callable[[Path], None]:
    """A header word of a shard becomes `value`."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        struct.pack_into("<i", content, 4 * index, value)
        path.write_bytes(content)

    return change


def outside_id(path: Path) -> None:
    """One token is not of the vocabulary."""
    content = np.fromfile(path, "<u2")
    content[700] = 300
    content.tofile(path)


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (cut, "token count"),
        (word(0, 1), "magic"),
        (word(1, 2), "version"),
        (word(2, 5), "token count 5"),
        (word(2, -1), "token count -1"),
        (outside_id, "token id 300"),
        (lambda path: path.write_bytes(b""), "too few"),
    ],
)
def test_damaged_shards_are_named(
    side: str,
    damage: Callable[[Path], None],
    part: str,
    data_copy: Path,
    setup: Setup,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fault: training or scoring on tokens that are not what the header says."""
    (shard,) = data_copy.glob(f"*_{side}_*.bin")
    damage(shard)
    # All of the training stream is read in enough steps.
    message = refused(
        capsys, "train", setup.config, "--data", data_copy, "--out", tmp_path / "out", "--set", "schedule.steps=40"
    )
    assert shard.name in message
    assert part in message


def test_incomplete_datasets_are_refused(
    data_copy: Path, setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: an empty folder, or one without tokenizer or of another vocabulary, is used in part."""
    (tmp_path / "empty").mkdir()
    train = ["train", setup.config, "--out", tmp_path / "out", "--data"]
    assert "python -m golf data prepare" in refused(capsys, *train, tmp_path / "empty")
    message = refused(capsys, *train, data_copy, "--set", "model.vocab_size=1024")
    assert "300" in message
    assert "1024" in message
    (tokenizer,) = data_copy.glob("*.model")
    tokenizer.write_bytes(b"no model")
    assert tokenizer.name in refused(capsys, *train, data_copy)
    tokenizer.unlink()
    assert "tokenizer" in refused(capsys, *train, data_copy)
    assert not (tmp_path / "out").exists()


def test_world_sizes_that_do_not_divide_a_step(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: three ranks wait for a group, or share batches unevenly."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    message = refused(capsys, "train", setup.config, "--data", setup.data, "--out", tmp_path / "out")
    assert "1, 2, 4 or 8" in message
    assert "got 3" in message


def test_a_storage_folder_that_cannot_be_written(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: an hour of training before the first write fails."""
    (tmp_path / "file").write_text("in the way")
    message = refused(capsys, "train", setup.config, "--data", setup.data, "--out", tmp_path / "file" / "run")
    assert str(tmp_path / "file") in message
    assert (tmp_path / "file").read_text() == "in the way"


class Trap:
    """A pickle that leaves a file behind when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def damaged_artifacts(good: bytes, trap: Path) -> dict[str, bytes]:
    """Files that are no artifact, by the word that the message must hold."""
    absurd = bytearray(good)
    struct.pack_into("<Q", absurd, 7, 2**62)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    other = bytearray(good)
    struct.pack_into("<H", other, 4, 9)
    return {
        "cut short": good[: len(good) // 2],
        "damaged": bytes(flipped),
        "version 9": bytes(other),
        "promises": bytes(absurd),
        "pickle": pickle.dumps(Trap(trap)),
        "not an artifact": b"hello",
    }


@pytest.mark.parametrize("part", ["cut short", "damaged", "version 9", "promises", "pickle", "not an artifact"])
def test_damaged_artifacts_are_refused(
    part: str, run_copy: Path, setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: numbers from a damaged artifact, memory for absurd sizes, or code from a pickle."""
    trap = tmp_path / "executed"
    artifact = run_copy / "artifact.golf"
    artifact.write_bytes(damaged_artifacts(artifact.read_bytes(), trap)[part])
    alone = ["--artifact", artifact, "--preset", "demo", "--data", setup.data, "--out", tmp_path / "scored"]
    for command in (["score", run_copy, "--rung", "quantised"], ["ttt", run_copy], ["score", *alone]):
        message = refused(capsys, *command)
        assert str(artifact) in message
        assert part in message
    assert not trap.exists()


@pytest.mark.parametrize("change", [{}, {"model_dim": 2**20}, {"num_layers": 10_000}])
def test_an_intact_file_of_other_tensors_is_refused(
    change: dict[str, int], setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a model of the claimed size is built before anyone looks whether its tensors are there."""
    artifact = tmp_path / "forged.golf"
    artifact.write_bytes(encode({"x": torch.zeros(3)}, to_plain(CONFIG.model) | change, "zstd", 1))
    settings = [f"score.{name}={json.dumps(value)}" for name, value in to_plain(CONFIG.score).items()]
    alone = ["--artifact", artifact, "--preset", "demo", "--data", setup.data, "--out", tmp_path / "scored"]
    assert str(artifact) in refused(capsys, "score", *alone, "--set", "ttt=null", *settings)


def test_damaged_weights_are_refused(run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: weights that are cut short or a pickle with code are read by `score` or `pack`."""
    trap = tmp_path / "executed"
    torch.save(Trap(trap), run_copy / "live.safetensors")
    assert "live.safetensors" in refused(capsys, "score", run_copy, "--rung", "live")
    assert not trap.exists()
    cut(run_copy / "average.safetensors")
    assert "average.safetensors" in refused(capsys, "pack", run_copy)
    (run_copy / "average.safetensors").unlink()
    assert "python -m golf train" in refused(capsys, "pack", run_copy)
    (run_copy / "artifact.golf").unlink()
    assert "python -m golf pack" in refused(capsys, "ttt", run_copy)


def test_changing_the_model_after_training_is_refused(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an evaluation under a configuration that the weights do not have."""
    assert "score and ttt" in refused(capsys, "score", run_copy, "--set", "model.num_layers=3")
    assert "quant" in refused(capsys, "pack", run_copy, "--set", "seed=3")
    assert "live" in refused(capsys, "score", "--artifact", run_copy / "artifact.golf", "--rung", "live")


def test_damaged_settings_are_named(run_copy: Path, setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a traceback from a file that a person may have edited."""
    for content in ("[1]", "{", "3"):
        (run_copy / "settings.json").write_text(content)
        assert "settings.json" in refused(capsys, "score", run_copy)
        assert "settings.json" in refused(capsys, "run", setup.config, "--data", setup.data, "--out", run_copy)


@pytest.mark.parametrize("content", ["[1, 2]", "3", '{"schedule": 3}', "{", '{"schedul": {}}'])
def test_wrong_configuration_files_are_named(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a traceback on JSON that is no configuration."""
    (tmp_path / "mine.json").write_text(content)
    assert "mine.json" in refused(capsys, "info", tmp_path / "mine.json")

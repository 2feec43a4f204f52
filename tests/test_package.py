"""The built package alone: its commands, files and imports, away from the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from golf.cli.main import make_parser
from tune.cli.parsers import TOOLS, seeds_parser, sweep_parser
from tune.records.layout import Storage
from tune.records.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "mlflow", "scipy", "matplotlib", "pyarrow", "sentencepiece", "jinja2", "huggingface_hub")
"""Libraries whose import takes a tenth of a second or more."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution, as an index would get it."""
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run([*build, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    [archive] = out.glob("*.tar.gz")
    shutil.unpack_archive(archive, source, filter="data")
    [unpacked] = source.iterdir()
    subprocess.run([*build, "--target", "wheel"], cwd=unpacked, check=True, capture_output=True, timeout=120)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; the libraries that it needs are those of this Python, the checkout is not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, timeout=120, capture_output=True)
    [site] = (folder / "lib").glob("python*/site-packages")
    [libraries] = {str(Path(str(importlib.metadata.distribution("torch").locate_file(""))))}
    (site / "libraries.pth").write_text(f"{libraries}\n")  # .pth files in there, such as the checkout's, are not read
    return folder


def run(environment: Path, cwd: Path, *words: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    """Runs a console command of the environment."""
    command = [str(environment / "bin" / words[0]), *words[1:]]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=seconds)


def test_the_wheel_holds_all_that_it_needs_and_no_more(wheel: Path) -> None:
    """Fault: a template, a cluster file or the commit is missing; tests or benchmarks are sent to everyone."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("golf", "tune"):
        tracked = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*") if path.is_file()}
        assert {name for name in tracked if "__pycache__" not in name} <= names
    assert {"golf/commit.txt", "tune/project/cluster.yaml", "tune/project/cluster/constraints.txt"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"golf", "tune"}
    assert max(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 200_000


def test_every_library_that_the_package_imports_is_declared() -> None:
    """Fault: a package that works where the tools of development happen to be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        text.split("=")[0].split(">")[0].split("[")[0].strip().lower().replace("_", "-")
        for text in project["dependencies"]
    }
    owners = importlib.metadata.packages_distributions()
    imported = set()
    for path in [*ROOT.glob("golf/**/*.py"), *ROOT.glob("tune/**/*.py")]:
        words = (line.split() for line in path.read_text().splitlines())
        imported |= {word[1].split(".")[0] for word in words if len(word) > 1 and word[0] in ("import", "from")}
    others_bring = {"aiohttp", "grpc", "psutil", "packaging", "yaml", "sqlalchemy", "markupsafe"}  # ray, mlflow, jinja2
    optional = {"brotli", "safetensors"}
    needed = {name for name in imported - others_bring - optional - set(sys.stdlib_module_names) if name in owners}
    plain = {name: {owner.lower().replace("_", "-") for owner in owners[name]} for name in needed}
    missing = {name for name in needed if not plain[name] & (declared | {"golf-tune"})}
    assert missing == set()


@pytest.mark.long
def test_console_commands(environment: Path, tmp_path: Path) -> None:
    """Fault: a command of the package that is not there, or runs the checkout; a version that is not the package's."""
    said = run(environment, tmp_path, "golf-sweep", "--version")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("golf-tune 0.1.0, commit ")
    assert commit.stdout.strip() in said.stdout
    for name in ("torch", "ray", "mlflow"):
        assert f"{name} {importlib.metadata.version(name)}" in said.stdout
    for words in (["golf", "info", "demo"], ["golf-sweep", "--help"], ["golf-seeds", "--help"], ["golf", "--help"]):
        done = run(environment, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert str(ROOT) not in done.stdout
    assert run(environment, tmp_path, "golf", "inof").returncode == 2


@pytest.mark.long
def test_the_cluster_files_of_the_package(environment: Path, tmp_path: Path) -> None:
    """Fault: what cluster.yaml sends to a cluster is not in the folder, or cannot be installed there."""
    done = run(environment, tmp_path, "golf-sweep", "cluster", "mine")
    assert done.returncode == 0, done.stderr
    mounts = yaml.safe_load((tmp_path / "mine" / "cluster.yaml").read_text())["file_mounts"]
    assert [
        name for name in mounts.values() if not name.startswith("~") and not (tmp_path / "mine" / name).exists()
    ] == []
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(build, cwd=tmp_path / "mine", check=True, capture_output=True, timeout=120)
    again = run(environment, tmp_path, "golf-sweep", "cluster", "mine")
    assert again.returncode == 2
    assert "give a new folder" in again.stderr


@pytest.mark.long
def test_a_sweep_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    """Fault: the package works only in the checkout: workers that import the project, templates, the built-in text."""
    small = ["schedule.steps=10", "schedule.warmdown_start=5", "score.stride=256", "ttt=null"]
    words = ["demo", "--search", "random", "--trials", "2", "--set", *small, "--no-screening"]
    done = run(environment, tmp_path, "golf-sweep", *words, seconds=300)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = Ledger(Storage(tmp_path / "storage").ledger).latest("demo")
    assert [entry.state for entry in entries] == ["done", "done"]
    report = run(environment, tmp_path, "golf-sweep", "report", "demo", "--no-mlflow")
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "storage" / "reports" / "demo" / "report.html").stat().st_size > 10_000


def command_lines() -> dict[str, list[str]]:
    """The functions that console commands call, with the words of each of their commands and subcommands."""
    subcommands = next(action.choices for action in make_parser()._actions if isinstance(action.choices, dict))
    golf_sweep = ["", *TOOLS]
    return {"golf.cli.main:main": ["", *subcommands], "tune.cli.main:sweep": golf_sweep, "tune.cli.main:seeds": [""]}


@pytest.mark.parametrize("entry", command_lines())
def test_help_answers_at_once(entry: str) -> None:
    """Fault: seconds of imports before a word is said. Processor time, for a busy machine is slower, not wrong."""
    module, _, function = entry.partition(":")
    program = (
        f"import resource, sys\nfrom {module} import {function} as main\n"
        f"for name in {command_lines()[entry]!r}:\n"
        "    try:\n        main([*name.split(), '--help'])\n"
        "    except SystemExit as ended:\n        assert not ended.code\n"
        f"assert not set({HEAVY!r}) & set(sys.modules), set({HEAVY!r}) & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\nassert used.ru_utime + used.ru_stime < 0.7, used\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == len(command_lines()[entry])


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(environment: Path, tmp_path: Path, shell: str) -> None:
    """Fault: the script for a shell is no script, or does not know the options."""
    for command, option in (("golf", "--train-shards"), ("golf-sweep", "--no-screening"), ("golf-seeds", "--baseline")):
        script = run(environment, tmp_path, command, "--print-completion", shell)
        assert script.returncode == 0, script.stderr
        assert option in script.stdout
        if shell == "bash":
            subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True, timeout=30)


def test_every_parser_has_version_and_completion() -> None:
    """Fault: a command that does not say its version."""
    for parser in (make_parser(), sweep_parser(), seeds_parser(), *(make() for make in TOOLS.values())):
        assert {"--version", "--print-completion"} <= set(parser._option_string_actions)


@pytest.mark.skipif(
    shutil.which("hadolint") is None and not (Path(sys.prefix) / "bin/hadolint").exists(), reason="no hadolint"
)
def test_the_dockerfile_is_clean() -> None:
    """Fault: a Dockerfile with what its linter warns of."""
    linter = shutil.which("hadolint") or str(Path(sys.prefix) / "bin" / "hadolint")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr

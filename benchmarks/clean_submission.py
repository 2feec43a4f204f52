"""Whether a record folder's train_gpt.py gives golf's numbers where its requirements are and nothing else is.

    python -m benchmarks.clean_submission [--quick] [--record FOLDER] [--data FOLDER] [--ranks 1 2]

Makes a virtual environment from the folder's requirements.txt alone, by pip and its index; checks that the project
cannot be imported there; runs the file with one process and under torchrun with two, each beside `python -m golf run`
of the same configuration in this environment; compares artifacts byte for byte, losses and chunk sums bit for bit. With
--record the folder's first log is compared too. Without, the file is made here for the demo. Prints a table and last
one JSON object.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, from_plain, override_all, to_plain
from golf.config.presets import PRESETS
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.text import prepare_text
from golf.runtime.files import read_json, write_json
from golf.submission.code import packages_of, requirements_of, shipped_code
from tune.records.provenance import versions

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"schedule.steps": 10, "schedule.warmdown_start": 5, "score.stride": 256, "ttt.epochs": 1}
"""Fields of the demo for a run of seconds."""
UNIMPORTABLE = "import importlib.util as u; raise SystemExit(bool(u.find_spec('golf') or u.find_spec('tune')))"


def demo_record(folder: Path, config: RunConfig) -> None:
    """The files of a record folder that are run."""
    folder.mkdir()
    code = shipped_code(config)
    (folder / "train_gpt.py").write_bytes(code.data)
    packages = packages_of(code.data.decode(), config.quant.codec)
    (folder / "requirements.txt").write_text(requirements_of(packages))


def first_log(record: Path) -> tuple[RunConfig, list[str]]:
    """The configuration in a record folder's first log, with its seed, and the log's exact lines."""
    lines = min(record.glob("train_seed*.log")).read_text().splitlines()
    plain: dict[str, Any] = {"seed": next(int(line[5:]) for line in lines if line.startswith("seed:"))}
    for name, _, value in (line[2:].partition(": ") for line in lines if line.startswith("  ")):
        *parts, last = name.split(".")
        place = plain
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = json.loads(value)
    return from_plain(RunConfig, plain), exact_lines(lines)


def exact_lines(lines: list[str]) -> list[str]:
    """The lines of a log that tell all digits of a score."""
    return [line for line in lines if line.startswith("final_") and "_exact " in line]


def clean_environment(folder: Path, requirements: Path) -> dict[str, str]:
    """Make a virtual environment with what is required, in this one's versions; the versions of all its packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    # Equal bits need the versions that ran, for which requirements.txt does not ask; any build of them will do.
    constraints = folder.with_name("constraints.txt")
    pins = [f"{name}=={version.partition('+')[0]}" for name, version in versions().items() if name != "python"]
    constraints.write_text("\n".join(pins) + "\n")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(requirements)]
    install += ["--constraint", str(constraints)]
    done = subprocess.run([python, *install], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip could not install {requirements}: {done.stderr[-2000:]}")
    if subprocess.run([python, "-I", "-c", UNIMPORTABLE], check=False).returncode:
        raise ValueError(f"the project can be imported in {folder}, so that nothing would be shown")
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    return {one["name"]: one["version"] for one in json.loads(listed.stdout)}


def run(command: list[str], place: Path, log: Path, path: Path | None) -> float:
    """Run a program in `place`, its words to `log`; its seconds.

    Args: path: what it may import beside its own environment.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    began = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(command, cwd=place, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{log.read_text()[-2000:]}")
    return time.monotonic() - began


def largest_difference(ours: Path, theirs: Path) -> dict[str, Any]:
    """Whether two runs' artifacts are the same bytes, and how far losses and each rung's chunks lie apart."""
    hashes = [hashlib.sha256((place / "artifact.golf").read_bytes()).hexdigest() for place in (ours, theirs)]
    found: dict[str, Any] = {"artifact_equal": hashes[0] == hashes[1], "artifact_sha256": hashes[1]}
    losses = [[value for _, _, value in read_json(place / "curves.json")["train_loss"]] for place in (ours, theirs)]
    found["train_loss"] = max(abs(a - b) for a, b in zip(*losses, strict=True))
    ladders = [read_json(place / "record.json")["ladder"] for place in (ours, theirs)]
    for mine, other in zip(*ladders, strict=True):
        pairs = zip(mine["chunks"], other["chunks"], strict=True)
        found[mine["name"]] = max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))
    found["bpb"] = [ladder[-1]["bpb"] for ladder in ladders]
    found["bit_for_bit"] = found["artifact_equal"] and not any(
        found[name] for name in ("train_loss", *(rung["name"] for rung in ladders[0]))
    )
    return found


def compare(room: Path, record: Path, data: Path, config: RunConfig, ranks: int) -> dict[str, Any]:
    """The file in the clean environment beside golf in this one, each on so many processes."""
    write_json(room / "config.json", to_plain(config))
    ours, theirs = room / f"golf{ranks}", room / f"clean{ranks}"
    many = ["--standalone", "--nproc-per-node", str(ranks)]
    golf = ["-m", "golf", "run", str(room / "config.json"), "--data", str(data), "--out", str(ours)]
    alone = ["train_gpt.py", "--data", str(data), "--out", str(theirs), "--seed", str(config.seed)]
    clean, place = room / "venv" / "bin", room / "copy"
    if ranks == 1:
        commands = ([sys.executable, *golf], [str(clean / "python"), "-I", *alone])
    else:
        commands = (
            [sys.executable, "-m", "torch.distributed.run", *many, *golf],
            [str(clean / "torchrun"), *many, *alone],
        )
    if not place.exists():
        place.mkdir()
        shutil.copy(record / "train_gpt.py", place)
    seconds = [run(commands[0], room, room / f"golf{ranks}.log", ROOT)]
    seconds.append(run(commands[1], place, room / f"clean{ranks}.log", None))
    found = largest_difference(ours, theirs) | {"ranks": ranks, "golf_seconds": seconds[0], "clean_seconds": seconds[1]}
    told = (room / f"clean{ranks}.log").read_text().splitlines()
    return found | {"exact_lines": exact_lines(told)}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few steps")
    parser.add_argument("--record", type=Path, help="a record folder as the command submit makes it")
    parser.add_argument("--data", type=Path, help="the dataset (the built-in corpus, made when missing)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="processes (1 2)")
    arguments = parser.parse_args()
    config, logged = PRESETS["demo"], list[str]()
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        record = room / "record"
        if arguments.record is not None:
            record = arguments.record.resolve()
            config, logged = first_log(record)
        else:
            config = override_all(config, QUICK) if arguments.quick else config
            demo_record(record, config)
        data = room / CORPUS_NAME if arguments.data is None else arguments.data.resolve()
        if arguments.data is None:
            prepare_text(documents(), data, CORPUS_NAME)
        packages = clean_environment(room / "venv", record / "requirements.txt")
        found = {f"{ranks} process(es)": compare(room, record, data, config, ranks) for ranks in arguments.ranks}
    print(f"{'':14s} {'artifact':9s} {'losses':>9s} {'chunks':>9s} {'golf s':>7s} {'clean s':>8s}  BPB")
    for title, one in found.items():
        chunks = max(one[line.split("_")[1]] for line in one["exact_lines"])
        figures = f"{one['train_loss']:9.2g} {chunks:9.2g} {one['golf_seconds']:7.1f} {one['clean_seconds']:8.1f}"
        print(f"{title:14s} {'equal' if one['artifact_equal'] else 'differs':9s} {figures}  {one['bpb'][1]!r}")
    if logged:
        same = found[next(iter(found))]["exact_lines"] == logged
        print(f"the exact lines of the record's log: {'the same' if same else 'other ones'}")
    shown = {"requirements": packages, "seed": config.seed, "runs": found, "log": logged}
    print(json.dumps(shown | {"bit_for_bit": all(one["bit_for_bit"] for one in found.values())}))


if __name__ == "__main__":
    main()

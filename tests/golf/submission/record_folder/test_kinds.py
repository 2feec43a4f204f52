"""Kinds of record folders that people publish: what is right passes, what holds by the letter is a remark, faults fail.

Each kind is a whole folder with one thing changed; its points that fail and that have a remark are named, all others
must be clean. The forms are those of the folders below `records/` of openai/parameter-golf, every figure is made up.
"""

import base64
import gzip
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from golf.compliance.points import FAILED, REMARK
from golf.submission.record_folder.claims import read_claims
from golf.submission.record_folder.sameness import left_out
from tests.golf.submission.record_folder.made import (
    CODE,
    RUNS,
    Change,
    Run,
    check,
    early_log,
    edit,
    fields,
    make,
    runs,
    whole,
    whole_claims,
    with_code,
    without,
    without_lines,
)

BAR = "=" * 100


@dataclass(frozen=True)
class Kind:
    """A change of a whole folder, and what the check has to say of it."""

    change: Change
    fails: tuple[int, ...] = ()
    remarks: tuple[int, ...] = ()
    says: str = ""
    """Words of a cause."""


def right(*changes: Change) -> Kind:
    """A folder without a fault."""
    return Kind(all_of(*changes))


def fails(points: int | tuple[int, ...], says: str, *changes: Change) -> Kind:
    """A folder that fails points."""
    return Kind(all_of(*changes), fails=points if isinstance(points, tuple) else (points,), says=says)


def remark(points: int | tuple[int, ...], says: str, *changes: Change) -> Kind:
    """A folder with a remark on points."""
    return Kind(all_of(*changes), remarks=points if isinstance(points, tuple) else (points,), says=says)


def remark_on_older(points: int, says: str, *changes: Change) -> Kind:
    """A folder whose script Python 3.12 and later parse; earlier ones remark that they cannot."""
    return right(*changes) if sys.version_info >= (3, 12) else remark(points, says, *changes)


def all_of(*changes: Change) -> Change:
    """Several changes in turn."""

    def change(folder: Path) -> None:
        for part in changes:
            part(folder)

    return change


def logs(rewrite: Callable[[str], str | bytes], rename: Callable[[str], str] = str) -> Change:
    """Every log written anew."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.log"):
            text = path.read_text()
            path.unlink()
            data = rewrite(text)
            (folder / rename(path.name)).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def log_head(head: str) -> Change:
    """Every log with other lines at its head."""
    return logs(lambda text: head + text)


def log_text(old: str, new: str) -> Change:
    """Every log with another text in place of one."""
    return logs(lambda text: text.replace(old, new))


def log_lines(form: str) -> Change:
    """Every line of the logs in a form with {}."""
    return logs(lambda text: "".join(form.format(line) + "\n" for line in text.split("\n")))


def before_memory(*lines: str) -> Change:
    """Lines in every log after the training."""
    return edit("train_seed", "peak memory", "\n".join([*lines, "peak memory"]))


def all_runs(**changed: Any) -> Change:
    """Other facts of all runs, and a submission.json that agrees with them."""
    return runs(*(replace(run, **changed) for run in RUNS))


def unlisted(**changed: Any) -> Change:
    """A submission.json that lists no seeds."""
    return fields(seeds=None, seed_results=None, **changed)


def file(name: str, text: str | bytes) -> Change:
    """A file of the folder."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def renamed(name: str, new: str) -> Change:
    """A file with another name."""
    return lambda folder: (folder / name).rename(folder / new)


def readme(*lines: str) -> Change:
    """A README of these lines."""
    return file("README.md", "# Int6\n\n" + "\n".join(lines) + "\n")


def evaluated_again(folder: Path) -> None:
    """The claimed scores are those of a later evaluation, whose logs lie in a folder of their own."""
    for run in RUNS:
        log = folder / f"train_seed{run.seed}.log"
        log.write_text(early_log(replace(run, bpb=run.bpb + 0.004)))
        text = f"Hyperparameters:\n  seed: {run.seed}\n  world_size: 8\nquantized_ttt val_loss:{run.nats:.8f} "
        file(f"second/ttt_{run.seed}.txt", text + f"val_bpb:{run.bpb:.8f} eval_time:300000ms\n")(folder)


def first_tries(folder: Path) -> None:
    """Each log holds an earlier run of other code before the claimed one."""
    old = CODE.replace("zlib", "bz2")
    for run in RUNS:
        text = early_log(replace(run, bpb=run.bpb + 0.03, code_bytes=len(old)))
        both = f"{old}\n{BAR}\n{text}{CODE}\n{BAR}\n{early_log(run)}"
        (folder / f"train_seed{run.seed}.log").write_text(both)


def packed(
    data: bytes, unpack: str, encode: Callable[[bytes], bytes] = base64.b85encode, decode: str = "b85decode"
) -> str:
    """A script that unpacks and executes another."""
    text = encode(data).decode()
    return f"import base64 as B, lzma as L, zlib as Z, gzip as G\nexec({unpack.format(f'B.{decode}({text!r})')})\n"


INNER = b"import torch\nimport brotli\nfrom helper import f\nprint('unpacked')\n" + b"# a line\n" * 200
LZMA2 = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
PACKINGS = {
    "xz": packed(lzma.compress(INNER), "L.decompress({})"),
    "raw LZMA2": packed(
        lzma.compress(INNER, lzma.FORMAT_RAW, filters=LZMA2), "L.decompress({},3,filters=[{{'id':33}}])"
    ),
    "zlib": packed(zlib.compress(INNER), "Z.decompress({}).decode()", base64.b64encode, "b64decode"),
    "gzip": packed(gzip.compress(INNER), "compile(G.decompress({}),'x','exec')", base64.b64encode, "b64decode"),
    "twice": packed(lzma.compress(packed(zlib.compress(INNER), "Z.decompress({})").encode()), "L.decompress({})"),
}


def with_packed(code: str) -> Change:
    """A packed script with a helper beside it, whose sizes the logs tell."""
    return all_of(with_code(code, "brotli\n"), HELPER)


def code_in_logs(form: str, code: str = CODE) -> Change:
    """The code in every log: in a form with {code}, {log} and {bar}."""
    return logs(lambda text: form.format(code=code, log=text, bar=BAR))


def seed_values(seed: str, **values: Any) -> Change:
    """Further figures of one seed."""
    return fields(seed_results={**SCORES, seed: SCORES[seed] | values})


HELPER = file("helper.py", "f = 1\n" * 20)
FIRST = "{code}\n{bar}\n{log}"
"""The code at the head of a log."""
SCORES = {str(run.seed): {"val_bpb": run.bpb} for run in RUNS}
BPB = {str(run.seed): run.bpb for run in RUNS}
SEEDS = [run.seed for run in RUNS]
SIZED = tuple(replace(run, model_bytes=15_800_000 + 1000 * at) for at, run in enumerate(RUNS))
LARGE = "x = 1\n" * 40_000
NO_RESULTS = fields(seed_results=None)
CRLF = file("train_gpt.py", CODE.replace("\n", "\r\n"))
FLASH = "from flash_attn_interface import f\n"

HARDWARE: dict[str, Kind] = {
    "only in a launcher's line": right(fields(hardware=None), log_head("[cloud] launching torchrun on 8xH100...\n")),
    "in a field called platform": remark(10, "platform", fields(hardware=None, platform="8x H100 SXM")),
    "in a field called gpu, in lower case": remark(10, "gpu", fields(hardware=None, gpu="8xh100")),
    "as an object": right(fields(hardware={"gpu": "NVIDIA H100 80GB HBM3", "count": 8})),
    "with a times sign": right(fields(hardware="8×H100 80GB SXM5 (rented)")),
    "only in README": remark(10, "only README", fields(hardware=None), readme("Ran on 8xH100 SXM.")),
    "nowhere": fails(10, "neither", fields(hardware=None)),
    "another GPU in the logs": fails(
        10,
        "it ran on 8 x H200; the record track is timed on 8 x H100",
        log_head("|   0  NVIDIA H200 80GB HBM3          On  |\n"),
    ),
    "another GPU in the field": fails(10, "8 x B200", fields(hardware="8x NVIDIA B200")),
    "another GPU in prose": right(readme("Ran on 8xH100; ideas were tried on 1xA100 and an L4.")),
    "batches and layers that look like GPUs": right(
        logs(
            lambda text: text + "ttp: b200/782 bl:2.6 bb:1.1\nttp: b300/782 x:1\nscales L4:0.512 A10:0.3 T4=0.1 m1: 2\n"
        )
    ),
}
LOGS: dict[str, Kind] = {
    "carriage returns": right(log_text("\n", "\r\n")),
    "UTF-16": remark(2, "UTF-16", logs(lambda text: text.encode("utf-16"))),
    "gzipped": fails(
        2, "ship the logs as text", logs(lambda text: gzip.compress(text.encode()), lambda name: name + ".gz")
    ),
    "seconds before lines": right(log_lines("1776142360.5381 {}")),
    "dates before lines": right(log_lines("[2026-03-25 12:00:01,123] [INFO] {}")),
    "ranks before lines": right(log_lines("[rank0]: {}")),
    "comment marks before lines": right(log_lines("# {}")),
    "many megabytes": remark(
        2,
        "in its middle were not read",
        edit(
            "train_seed42.log",
            "step:1000/20000",
            "step:900/20000 train_loss:2.5 train_time:1ms step_avg:1ms\n" * 80_000 + "step:1000/20000",
        ),
    ),
    "evaluations of the same artifacts in a folder": right(evaluated_again),
    "an earlier run in each": right(first_tries),
    "called by the run": right(logs(str, lambda name: f"logs_{name[10:-4]}_final.out")),
    "another configuration's run in a folder": right(
        file(
            "ablation/no_smear.log", early_log(Run(7, 1.19, settings={"iterations": "20000", "train_seq_len": "2048"}))
        )
    ),
    "a launcher's exit code": right(
        edit("train_seed42.log", "final_int6_roundtrip v", "[modal] Exit code: 0\nfinal_int6_roundtrip v")
    ),
    "one twice": right(file("train.log", early_log(RUNS[0])), unlisted()),
    "a folder for each seed": right(
        *(file(f"runs/seed_{run.seed}/train.log", early_log(run)) for run in RUNS), without("*.log"), unlisted()
    ),
    "one that ends before its result": fails(
        (6, 7),
        "train_seed42.log ends before final_int6_sliding_window_exact",
        NO_RESULTS,
        file("train_seed42.log", early_log(RUNS[0]).split("final_int6_sliding")[0]),
    ),
    "a run that died before the good one in the file": right(
        file("train_seed42.log", early_log(RUNS[0]).split("stopping_early")[0] + "killed\n" + early_log(RUNS[0]))
    ),
    "a stride in the name": right(logs(str, lambda name: name.replace(".log", "_s64.log"))),
    "names with underscores": right(
        log_text("Code size: ", "code_size:"),
        log_text("Serialized model int6+zstd: ", "serialized_model_int6_zstd:"),
        log_text("Total submission size int6+zstd: ", "total_submission_size_int6_zstd:"),
    ),
    "another model's bytes, with underscores": fails(
        6,
        "bytes_model is 15,700,000",
        log_text("Serialized model int6+zstd: ", "serialized_model_int6_zstd:"),
        fields(bytes_model=15_700_000),
    ),
    "the model's bytes alone": right(
        edit("train_seed", "Serialized", ""),
        edit("train_seed", "Total submission", ""),
        fields(bytes_total=None, bytes_code=None, seed_results=None),
    ),
}
CODES: dict[str, Kind] = {
    "before a bar": right(code_in_logs(FIRST)),
    "between bars": right(code_in_logs("{bar}\n{code}\n{bar}\nRunning Python 3.12.3\n{bar}\n{log}")),
    "after settings, one bar": right(code_in_logs("{bar}\nHyperparameters:\n  depth: 11\n{code}\n{bar}\n{log}")),
    "after settings, two bars": right(
        code_in_logs("{bar}\nHyperparameters:\n  depth: 11\n{bar}\n{code}\n{bar}\n{log}")
    ),
    "without a bar": right(code_in_logs("{code}\n{log}")),
    "with Windows' line ends in the folder": remark(5, "other line ends", code_in_logs(FIRST), CRLF),
    "sizes with Unix' line ends": remark(5, "other line ends", CRLF),
    "no Python": fails(5, "is not valid Python", code_in_logs(FIRST, CODE.replace("    with open", "   with open", 1))),
    "another size than the log has": fails(
        5,
        "contradicts itself",
        code_in_logs(FIRST),
        edit("train_seed42.log", f"Code size: {len(CODE)}", f"Code size: {len(CODE) + 1100}"),
    ),
    "of a file beside": fails(
        5,
        "the code of the log is train_mine.py",
        code_in_logs(FIRST),
        file("train_mine.py", CODE),
        file("train_gpt.py", CODE + "# more\n"),
    ),
    "a script of another name": Kind(
        all_of(file("train_gpt_v5.py", CODE), without("train_gpt.py")), (2,), (5,), "train_gpt_v5.py looks like it"
    ),
    "an empty script": fails((2, 5), "train_gpt.py is empty", file("train_gpt.py", b"")),
    "logs without code": remark(
        5, "neither size nor hash", without_lines("Code size"), without_lines("Total submission")
    ),
    "for Python 3.12": remark_on_older(
        2,
        "the log ran on 3.12.3",
        with_code('d = {"a": 1}\nprint(f"{d["a"]}")\n'),
        log_head("Running Python 3.12.3 (main)\n"),
    ),
    "generics of Python 3.12": remark_on_older(
        2, "Python 3.1", with_code("type Pair = tuple[int, int]\ndef f[T](x: T) -> T:\n    return x\n")
    ),
    **{f"packed with {name}": right(with_packed(code)) for name, code in PACKINGS.items()},
    "packed with a package that nothing brings": fails(2, "imports brotli", with_code(PACKINGS["xz"]), HELPER),
    "executes a file beside": right(
        file("train_gpt.py", "exec(open(__file__.replace('train_gpt.py', 'train_all.py')).read())\n"),
        file("train_all.py", CODE),
    ),
    "executes a large file beside": fails(
        3, "train_gpt.py + all.py", with_code("exec(open('all.py').read())\n"), file("all.py", LARGE)
    ),
    "a compiled source": fails(
        3,
        "kernels/state.c",
        with_code("import os\nos.system('gcc -O3 -shared kernels/state.c -o /tmp/s.so')\n"),
        file("kernels/state.c", "int x;\n" * 40_000),
    ),
    "a script that is only mentioned": right(
        with_code("'''Data come from prepare.py, run before.'''\nimport os\n"), file("prepare.py", LARGE)
    ),
    "packed code counted, plain code shipped": remark(
        3,
        "the log counts packed code of 21,000 bytes",
        with_code("import os\n" + "# plain\n" * 40_000),
        log_text("Total submission size:", "Code size (compressed): 21000 bytes\nTotal submission size:"),
        log_text("Code size:", "Code size (uncompressed):"),
        logs(lambda text: re.sub("size int6.*", "size int6+zstd: 15821000 bytes", text)),
        fields(bytes_total=15_821_000, bytes_code=21_000, seed_results=None),
    ),
    "a condition's package": remark(2, "wandb", with_code("import os\nif os.environ.get('W'):\n    import wandb\n")),
    "a file that may be missing": right(
        with_code("import os\nif os.path.exists('t.json'):\n    open('t.json').read()\n")
    ),
    "a tokenizer that is not here": fails(
        2,
        "tok/mine.model",
        with_code("from sentencepiece import SentencePieceProcessor as S\nx = S.Load(model_file='tok/mine.model')\n"),
    ),
    "a package in a comment of requirements.txt": right(
        with_code(FLASH, "# pip install --no-deps flash_attn_3 --find-links https://example.org\n")
    ),
    "a package in README's command": remark(
        2, "only README.md", with_code(FLASH), readme("```", "pip install flash_attn_3 --find-links x", "```")
    ),
    "a package in a setup script": remark(
        2, "brotli", with_code("import brotli\n"), file("setup.sh", "pip install brotli\n")
    ),
}
COMMANDS: dict[str, Kind] = {
    "what is here": right(
        file("run.sh", "torchrun train_gpt.py\n"),
        file("requirements.txt", "numpy\n"),
        readme(
            "```bash",
            "cd records/track_10min_16mb/2026-03-25_Int6_Sliding",
            "pip install -r requirements.txt",
            "python3 data/cached_challenge_fineweb.py --variant sp1024",
            "SEED=42 bash run.sh | tee my.log",
            "for S in 1 2; do torchrun --standalone \\",
            "  --nproc_per_node=8 train_gpt.py; done",
            "git clone https://example.org/fa && cd fa/hopper && python setup.py install && python make.py",
            "```",
            "Or `python train_gpt.py`, or `python -m pip install x`.",
            "```python",
            "run('other.py')",
            "```",
        ),
    ),
    "a script that is not here": fails(
        2,
        "setup_all.sh, train_gpt_sweep.py",
        readme("```bash", "bash setup_all.sh && torchrun --nproc_per_node=8 train_gpt_sweep.py", "```"),
    ),
    "a script that is not here, in a line": fails(
        2, "launch.py", readme("Start it with `SEED=1 python3 launch.py --x`.")
    ),
    "requirements that are not here": remark(2, "requirements.txt", readme("    pip install -r requirements.txt")),
    "a missing script by a launcher": fails(
        2, "eval_ttt.py, m.py", readme("```", "uv run python eval_ttt.py", "modal run m.py", "```")
    ),
}
RESULTS: dict[str, Kind] = {
    "under seeds": right(NO_RESULTS, fields(seeds=SCORES)),
    "under seed_scores": right(unlisted(), fields(seed_scores=BPB)),
    "a list under seeds": right(NO_RESULTS, fields(seeds=[{"seed": run.seed, "val_bpb": run.bpb} for run in RUNS])),
    "parallel lists": right(NO_RESULTS, fields(seeds=SEEDS, seed_val_bpbs=[run.bpb for run in RUNS])),
    "wrong in parallel lists": fails(6, "seed 314", NO_RESULTS, fields(seeds=SEEDS, val_bpbs=[1.1201, 1.1107, 1.1198])),
    "fields with the seed's name": right(unlisted(), fields(**{f"val_bpb_seed_{run.seed}": run.bpb for run in RUNS})),
    "a name of their own": right(NO_RESULTS, fields(seeds=SEEDS, confirmed=BPB)),
    "wrong under a name of its own": fails(
        6, "seed 314", NO_RESULTS, fields(seeds=SEEDS, confirmed={"per_seed": {**BPB, "314": 1.1217}})
    ),
    "other work's": right(
        NO_RESULTS, fields(merged_sota={"seeds": [1, 2, 3]}, vs_pr549={"seed_results": {"5": {"val_bpb": 1.2}}})
    ),
    "seeds as texts": remark(2, "seeds are texts", NO_RESULTS, fields(seeds=["42", "314", "999"])),
    "steps and times": right(
        fields(
            seed_results={
                "42": {"val_bpb": 1.1201, "steps": 7101, "train_time_ms": 600_038},
                "314": {"val_bpb": 1.1207, "train_time_s": 600.0},
                "999": {"val_bpb": 1.1198},
            }
        )
    ),
    "wrong steps": fails(6, "steps is 7,200, in its log 7,101", seed_values("42", steps=7200)),
    "a wrong time": fails(6, "588,004", seed_values("314", train_time_ms=588_004)),
    "a wrong time of an evaluation": fails(
        6, "eval_time_s is 181, in its log 81", seed_values("42", eval_time_s=181.0)
    ),
    "a nominal time": remark(
        6, "training_time_seconds is 600", all_runs(train_ms=596_160), seed_values("42", training_time_seconds=600)
    ),
    "a wrong mean of the steps": fails(6, "train_steps_mean is 7,000", fields(train_steps_mean=7000.0)),
    "the best seed in place of the mean": fails(
        6, "the best of 3 seeds (1.1198), their mean is 1.1202", fields(val_bpb=1.1198, val_loss=None)
    ),
    "another seed in place of the mean": fails(6, "that of seed 314", fields(val_bpb=1.1207, val_loss=None)),
    "a mean that is cut off": remark(
        6, "round it", runs(*RUNS[:2], replace(RUNS[2], bpb=1.12005)), fields(val_bpb=1.1202, val_loss=None)
    ),
    "the last of the training curve": fails(
        (6, 7), "the last of the training curve", runs(RUNS[0]), unlisted(val_bpb=1.18, val_loss=None)
    ),
    "text in place of a number": fails((2, 6), "val_bpb is no number", fields(val_bpb="1.1202 (mean of 3)")),
    "an author under another name": remark(2, "author as submitter", fields(author=None, submitter="A. Author")),
    "UTF-16": fails(2, "UTF-16", file("submission.json", json.dumps(whole_claims()).encode("utf-16"))),
    "another name": fails(2, "submission_mine.json looks like it", renamed("submission.json", "submission_mine.json")),
    "another name, without the word": fails(
        2, "results.json looks like it", renamed("submission.json", "results.json")
    ),
}
SIZES: dict[str, Kind] = {
    "in words": remark(
        2, "in words", fields(bytes_total="15.80MB model + 0.0004MB code", bytes_code=None, bytes_model=None)
    ),
    "in megabytes": remark(2, "megabytes", fields(bytes_total=15.8)),
    "bytes with the word": remark(2, "in words", fields(bytes_total=f"{15_800_000 + len(CODE):,} bytes")),
    "the model's by codec": right(fields(bytes_model=None, bytes_model_int6_zstd=15_800_000)),
    "the model's by codec, wrong": fails(6, "bytes_model", fields(bytes_model=None, bytes_model_int6_zstd=15_700_000)),
    "the mean": remark(6, "is that of seed", runs(*SIZED), fields(bytes_total=15_801_000 + len(CODE))),
    "a mean that no seed has": fails(
        6,
        "the mean of the seeds",
        runs(*SIZED[:2], replace(SIZED[2], model_bytes=15_806_000)),
        fields(bytes_total=15_802_333 + len(CODE)),
    ),
    "the smallest seed's": fails(6, "of the smallest seed", runs(*SIZED), fields(bytes_total=15_800_000 + len(CODE))),
    "one seed's at all seeds": fails(
        6,
        "seed 999: artifact_bytes is 15,800,000",
        runs(*SIZED),
        fields(seed_results={str(run.seed): {"val_bpb": run.bpb, "artifact_bytes": 15_800_000} for run in SIZED}),
    ),
    "the model's as the total": fails(6, "the size of the model alone", fields(bytes_total=15_800_000)),
    "a wrong maximum": fails(6, "artifact_bytes_max", fields(artifact_bytes_max=15_700_000)),
}
OTHER_RUNS: dict[str, Kind] = {
    "that submission.json names": fails(
        25, "the seeds 7 and 4242", fields(all_runs={"all_seeds": [7, 42, 314, 999, 4242], "note": "sorted"})
    ),
    "fewer reported than made": fails(25, "7 runs were made", fields(notes="7 runs were made, 3 are reported")),
    "the best three of five": fails(25, "best 3 of 5", readme("Reported are the best 3 of 5 seeds.")),
    "a baseline's seeds": right(fields(baseline={"seeds": [1, 2, 3], "val_bpb": 1.13})),
    "a log that is left out": fails(25, "runs of the seeds [7]", file("train_seed7.log", early_log(Run(7, 1.13)))),
    "one seed in all logs": fails(
        7, "3 logs are of seed 42", log_text("seed:314", "seed:42"), log_text("seed:999", "seed:42"), unlisted()
    ),
    "another version of PyTorch": remark(
        7, "pytorch", log_head("Running PyTorch 2.9.1+cu128\n"), edit("train_seed42.log", "2.9.1", "2.8.0")
    ),
    "paths of other machines": right(
        edit("train_seed42.log", "./data/", "/home/one/data/"), edit("train_seed314.log", "./data/", "/mnt/two/")
    ),
    "settings that name the run": right(
        logs(
            lambda text: re.sub(
                r"(?s)(.*\nseed:(\d+).*)", r"  hypothesis: seed \2 is best\n  tmp_prefix: x_\2\n\1", text
            )
        )
    ),
}
TIMES: dict[str, Kind] = {
    "a calibration in the log": fails(
        8,
        "599.550 s of training + 3.5 s of calibration",
        all_runs(train_ms=599_550),
        before_memory("GPTQ:collected 67 Hessians in 3.5s"),
    ),
    "compression that names the calibration's method": right(
        all_runs(train_ms=592_050),
        before_memory("GPTQ:collected 67 Hessians in 3.5s", "GPTQ:compressed+saved in 64.7s"),
    ),
    "sequences made for the calibration": remark(
        8, "220.6 s of making sequences", before_memory("gptq:generated 64 sequences in 220.6s")
    ),
    "a collection of Hessians in other words": fails(
        8, "12.9 s of calibration", before_memory("Hessian collection: 12.9s")
    ),
    "a queue that is waited for": right(all_runs(train_ms=600_400)),
    "none in the logs": remark((8, 9), "train_time", edit("train_seed", "_time:", "_clock:")),
}
DATA: dict[str, Kind] = {
    "more tokens than the split has": fails(13, "another split", all_runs(tokens=63_779_840)),
    "a limited validation": fails(13, "500 batches (limited)", log_head("  eval: 500 batches (limited)\n")),
    "a limit of the validation's tokens": fails(13, "val_max_tokens", log_head("  val_max_tokens: 1000000\n")),
    "another kind": fails(
        13, "not on FineWeb's", log_text("fineweb10B_sp1024", "cpython-docs"), log_text("fineweb", "docs")
    ),
    "another kind in submission.json": fails(
        13, "cpython-docs", log_text("fineweb", "docs"), fields(dataset="cpython-docs", val_tokens=44_123)
    ),
    "validation on a training shard": fails(
        13, "those of the training", log_text("fineweb_val_*", "fineweb_train_000000")
    ),
    "training on the validation split": fails(
        12, "those of the validation split", log_head("  train_files: ./d/fineweb_val_*.bin\n")
    ),
}
KINDS = {
    f"{group}: {name}": kind
    for group, kinds in {
        "hardware": HARDWARE,
        "logs": LOGS,
        "code": CODES,
        "README runs": COMMANDS,
        "results": RESULTS,
        "sizes": SIZES,
        "other runs": OTHER_RUNS,
        "times": TIMES,
        "data": DATA,
    }.items()
    for name, kind in kinds.items()
}


WORDS = {
    "We ran 5 seeds in total (314, 42, 999, 7, 1337); the best three are reported.": True,
    "We trained with seven seeds and report the best three.": True,
    "Seeds 314, 42, 999 were selected out of 6 runs.": True,
    "5 runs were made; the mean of the best 3 is reported.": True,
    "Two further seeds (7, 2025) diverged and were dropped.": True,
    "An earlier run at the same config with seed 1337 reached 1.1161 (not part of the 3-seed mean).": True,
    "Best 3 of 5 runs.": True,
    "10 seeds of the baseline by @x; 3 are used here.": False,
    "The best 2 of 5 bits per weight were kept.": False,
    "30 runs on 1xH100 to tune the rate; 3 seeds of the final configuration are reported.": False,
    "Three seeds were run and all 3 are reported.": False,
    "Seeds 42, 314 and 999 are reported; nothing was left out.": False,
}


@pytest.mark.parametrize("words", WORDS)
def test_words_about_runs_that_are_left_out(words: str) -> None:
    """Fault: runs that README.md tells of are not seen, or a sentence about something else is taken for them."""
    assert bool(left_out(f"# Title\n\n{words}\n\nMore.\n", {42, 314, 999})) == WORDS[words]


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_folder(tmp_path: Path, name: str) -> None:
    """Fault: a form that is in use is misread, or a fault of this kind is not seen, or blamed on something else."""
    kind, folder = KINDS[name], whole(tmp_path)
    kind.change(folder)
    rows = check(folder)
    causes = [(row.point, str(cause)) for row in rows.values() for cause in row.causes]
    assert tuple(point for point, row in rows.items() if row.state == FAILED) == kind.fails, causes
    assert tuple(point for point, row in rows.items() if row.state == REMARK) == kind.remarks, causes
    assert not kind.says or any(kind.says in text for _, text in causes), causes
    assert all(cause.text and cause.remedy for row in rows.values() for cause in row.causes)


NON_RECORD: Mapping[str, tuple[Change, tuple[int, ...]]] = {
    "one seed": (runs(RUNS[0]), ()),
    "figures of one of several runs": (unlisted(val_bpb=1.1198, val_loss=None), ()),
    "one of several studies": (
        all_of(
            runs(RUNS[0]),
            file(
                "train_bytes.log",
                early_log(replace(RUNS[0], bpb=1.4)).replace("sp1024", "byte260").replace("_1024_", "_byte260_"),
            ),
            unlisted(),
        ),
        (),
    ),
    "no hardware": (fields(hardware=None), ()),
    "steps and seconds of the only run that are wrong": (
        all_of(runs(RUNS[0]), fields(step_stop=9000, wallclock_seconds=900)),
        (6,),
    ),
}


@pytest.mark.parametrize("name", NON_RECORD)
def test_the_non_record_track_asks_for_less(tmp_path: Path, name: str) -> None:
    """Fault: rules of the record track are applied to the other."""
    change, fails = NON_RECORD[name]
    folder = whole(tmp_path)
    change(folder)
    fields(track="non-record-unlimited")(folder)
    folder_path = folder.parent.with_name("track_non_record_16mb") / folder.name
    folder_path.parent.mkdir()
    rows = check(folder.rename(folder_path))
    assert tuple(point for point, row in rows.items() if row.state == FAILED) == fails, [
        row.why for row in rows.values()
    ]


def test_only_logs_are_a_folder_too(tmp_path: Path) -> None:
    """Fault: a folder without its main files ends in an error instead of a table."""
    folder = make(tmp_path, whole_claims(), {f"run_{run.seed}.txt": early_log(run) for run in RUNS})
    for name in ("submission.json", "train_gpt.py", "README.md"):
        (folder / name).unlink()
    rows = check(folder)
    assert [point for point, row in rows.items() if row.state == FAILED] == [2, 5, 10]
    assert len(rows[2].causes) == 3
    for path in folder.iterdir():
        path.unlink()
    assert [point for point, row in check(folder).items() if row.state == FAILED] == [2, 3, 7, 10]


def test_p_values_are_read() -> None:
    """Fault: a probability that is none passes, or its name is not known."""
    assert read_claims(b'{"p_value": 0.003}').numbers["p_value"].value == 0.003
    assert "p_value" not in read_claims(b'{"p": "see README"}').numbers

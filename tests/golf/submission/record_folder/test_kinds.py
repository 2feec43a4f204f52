"""Kinds of record folders that people publish: what is right passes, what holds by the letter is a remark, faults fail.

Each kind is a whole folder with one thing changed; its points that fail and that have a remark are named, all others
must be clean. The forms are those of the folders below `records/` of openai/parameter-golf, every figure is made up.
"""

import base64
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from golf.compliance.points import FAILED, REMARK
from golf.submission.record_folder.prose import left_out
from golf.submission.record_folder.submission_json import read_claims
from tests.golf.submission.record_folder.made import (
    CODE,
    RUNS,
    Change,
    Run,
    early_log,
    edit,
    fields,
    found,
    make,
    runs,
    whole,
    whole_claims,
    with_code,
    without,
    without_lines,
)

BAR = "=" * 100
DEVICE = "|   0  NVIDIA H100 80GB HBM3          On  |\n"


@dataclass(frozen=True)
class Kind:
    """A change of a whole folder, and what the check has to say of it."""

    change: Change
    fails: tuple[int, ...] = ()
    remarks: tuple[int, ...] = ()
    says: str = ""
    """Words that stand in a cause."""


def all_of(*changes: Change) -> Change:
    """Several changes in turn."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

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


def file(name: str, text: str | bytes) -> Change:
    """A file of the folder."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


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
    return all_of(with_code(code, "brotli\n"), file("helper.py", "f = 1\n" * 20))


def code_in_logs(form: str, code: str = CODE, says: str | None = None) -> Change:
    """The code in every log: in a form with {code}, {log} and {bar}."""
    return logs(lambda text: form.format(code=code if says is None else says, log=text, bar=BAR))


def by_seed(value: Any, **more: Any) -> Change:
    """Results by seed under other names, and no seeds listed."""
    return all_of(fields(seed_results=None, seeds=None), fields(**{"seed_results": value} if value else {}, **more))


SCORES = {str(run.seed): {"val_bpb": run.bpb} for run in RUNS}
SIZED = tuple(replace(run, model_bytes=15_800_000 + 1000 * at) for at, run in enumerate(RUNS))

KINDS: dict[str, Kind] = {
    # Hardware: in fields, logs and prose.
    "GPUs only in a launcher's line": Kind(
        all_of(fields(hardware=None), logs(lambda text: "[cloud] launching torchrun on 8xH100...\n" + text))
    ),
    "GPUs in a field called platform": Kind(fields(hardware=None, platform="8x H100 SXM"), (), (10,), "platform"),
    "GPUs in a field called gpu, in lower case": Kind(fields(hardware=None, gpu="8xh100"), (), (10,), "gpu"),
    "GPUs as an object": Kind(fields(hardware={"gpu": "NVIDIA H100 80GB HBM3", "count": 8})),
    "GPUs with a times sign": Kind(fields(hardware="8×H100 80GB SXM5 (rented)")),
    "GPUs only in README": Kind(all_of(fields(hardware=None), readme("Ran on 8xH100 SXM.")), (), (10,), "only README"),
    "GPUs nowhere": Kind(fields(hardware=None), (10,), (), "neither"),
    "another GPU in the logs": Kind(
        logs(lambda text: DEVICE.replace("H100", "H200") + text),
        (10,),
        (),
        "it ran on 8 x H200; the record track is timed on 8 x H100",
    ),
    "another GPU in the field": Kind(fields(hardware="8x NVIDIA B200"), (10,), (), "8 x B200"),
    "another GPU in prose beside the right one": Kind(readme("Ran on 8xH100; ideas were tried on 1xA100 and an L4.")),
    "batches and layers that look like GPUs": Kind(
        logs(
            lambda text: text + "ttp: b200/782 bl:2.6 bb:1.1\nttp: b300/782 x:1\nscales L4:0.512 A10:0.3 T4=0.1 m1: 2\n"
        )
    ),
    # Logs: encodings, line ends, what stands before lines, sizes.
    "logs with carriage returns": Kind(logs(lambda text: text.replace("\n", "\r\n"))),
    "logs in UTF-16": Kind(logs(lambda text: text.encode("utf-16")), (), (2,), "UTF-16"),
    "logs that are gzipped": Kind(
        logs(lambda text: gzip.compress(text.encode()), lambda name: name + ".gz"), (2,), (), "ship the logs as text"
    ),
    "logs with seconds before lines": Kind(
        logs(lambda text: "".join(f"1776142360.5381 {line}\n" for line in text.split("\n")))
    ),
    "logs with dates before lines": Kind(
        logs(lambda text: "".join(f"[2026-03-25 12:00:01,123] [INFO] {line}\n" for line in text.split("\n")))
    ),
    "logs with ranks before lines": Kind(logs(lambda text: "".join(f"[rank0]: {line}\n" for line in text.split("\n")))),
    "logs with comment marks before lines": Kind(
        logs(lambda text: "".join(f"# {line}\n" for line in text.split("\n")))
    ),
    "a log of many megabytes": Kind(
        edit(
            "train_seed42.log",
            "step:1000/20000",
            "step:900/20000 train_loss:2.5 train_time:1ms step_avg:1ms\n" * 80_000 + "step:1000/20000",
        ),
        (),
        (2,),
        "in its middle were not read",
    ),
    "evaluations of the same artifacts in a folder": Kind(evaluated_again),
    "an earlier run in each log": Kind(first_tries),
    "logs called by the run": Kind(logs(str, lambda name: f"logs_{name[10:-4]}_final.out")),
    "another configuration's run in a folder": Kind(
        file(
            "ablation/no_smear.log", early_log(Run(7, 1.19, settings={"iterations": "20000", "train_seq_len": "2048"}))
        )
    ),
    # Code in logs.
    "code before a bar": Kind(code_in_logs("{code}\n{bar}\n{log}")),
    "code between bars": Kind(code_in_logs("{bar}\n{code}\n{bar}\nRunning Python 3.12.3\n{bar}\n{log}")),
    "code after settings, one bar": Kind(code_in_logs("{bar}\nHyperparameters:\n  depth: 11\n{code}\n{bar}\n{log}")),
    "code after settings, two bars": Kind(
        code_in_logs("{bar}\nHyperparameters:\n  depth: 11\n{bar}\n{code}\n{bar}\n{log}")
    ),
    "code without a bar": Kind(code_in_logs("{code}\n{log}")),
    "code with Windows' line ends in the folder": Kind(
        all_of(code_in_logs("{code}\n{bar}\n{log}"), file("train_gpt.py", CODE.replace("\n", "\r\n"))),
        (),
        (5,),
        "other line ends",
    ),
    "sizes of code with Unix' line ends": Kind(
        file("train_gpt.py", CODE.replace("\n", "\r\n")), (), (5,), "other line ends"
    ),
    "code that is no Python": Kind(
        code_in_logs("{code}\n{bar}\n{log}", CODE.replace("    with open", "   with open", 1)),
        (5,),
        (),
        "is not valid Python",
    ),
    "code of another size than the log tells": Kind(
        all_of(
            code_in_logs("{code}\n{bar}\n{log}"),
            edit("train_seed42.log", f"Code size: {len(CODE)}", f"Code size: {len(CODE) + 1100}"),
        ),
        (5,),
        (),
        "contradicts itself",
    ),
    "code of a file beside": Kind(
        all_of(
            code_in_logs("{code}\n{bar}\n{log}"), file("train_mine.py", CODE), file("train_gpt.py", CODE + "# more\n")
        ),
        (5,),
        (),
        "the code of the log is train_mine.py",
    ),
    "a script of another name": Kind(
        all_of(file("train_gpt_v5.py", CODE), without("train_gpt.py")), (2,), (5,), "train_gpt_v5.py looks like it"
    ),
    "an empty script": Kind(file("train_gpt.py", b""), (2, 5), (), "train_gpt.py is empty"),
    "logs that tell no code": Kind(
        all_of(without_lines("Code size"), without_lines("Total submission")), (), (5,), "neither size nor hash"
    ),
    "code for Python 3.12": Kind(
        all_of(
            with_code('d = {"a": 1}\nprint(f"{d["a"]}")\n'), logs(lambda text: "Running Python 3.12.3 (main)\n" + text)
        ),
        (),
        (2,),
        "the log ran on 3.12.3",
    ),
    "generics of Python 3.12": Kind(
        with_code("type Pair = tuple[int, int]\ndef f[T](x: T) -> T:\n    return x\n"), (), (2,), "Python 3.1"
    ),
    # Packed and helping code.
    **{f"packed with {name}": Kind(with_packed(code)) for name, code in PACKINGS.items()},
    "packed with a package that nothing brings": Kind(
        all_of(with_code(PACKINGS["xz"]), file("helper.py", "f = 1\n" * 20)), (2,), (), "imports brotli"
    ),
    "code that executes a file beside": Kind(
        all_of(
            file("train_gpt.py", "exec(open(__file__.replace('train_gpt.py', 'train_all.py')).read())\n"),
            file("train_all.py", CODE),
        )
    ),
    "code that executes a large file beside": Kind(
        all_of(with_code("exec(open('all.py').read())\n"), file("all.py", "x = 1\n" * 40_000)),
        (3,),
        (),
        "train_gpt.py + all.py",
    ),
    "a compiled source": Kind(
        all_of(
            with_code("import os\nos.system('gcc -O3 -shared kernels/state.c -o /tmp/s.so')\n"),
            file("kernels/state.c", "int x;\n" * 40_000),
        ),
        (3,),
        (),
        "kernels/state.c",
    ),
    "a script that is only mentioned": Kind(
        all_of(
            with_code("'''Data come from prepare.py, run before.'''\nimport os\n"),
            file("prepare.py", "x = 1\n" * 40_000),
        )
    ),
    "packed code counted, plain code shipped": Kind(
        all_of(
            with_code("import os\n" + "# plain\n" * 40_000),
            logs(
                lambda text: text.replace(
                    "Total submission size:", "Code size (compressed): 21000 bytes\nTotal submission size:"
                ).replace("Code size:", "Code size (uncompressed):")
            ),
            logs(
                lambda text: "".join(
                    "Total submission size int6+zstd: 15821000 bytes\n" if "size int6" in line else line + "\n"
                    for line in text.split("\n")
                )
            ),
            fields(bytes_total=15_821_000, bytes_code=21_000, seed_results=None),
        ),
        (),
        (3,),
        "the log counts packed code of 21,000 bytes",
    ),
    # Requirements and README's commands.
    "a package in a comment of requirements.txt": Kind(
        with_code(
            "from flash_attn_interface import f\n",
            "# pip install --no-deps flash_attn_3 --find-links https://example.org\n",
        )
    ),
    "a package in README's command": Kind(
        all_of(
            with_code("from flash_attn_interface import f\n"),
            readme("```", "pip install flash_attn_3 --find-links x", "```"),
        ),
        (),
        (2,),
        "only README.md tells",
    ),
    "a package in a setup script": Kind(
        all_of(with_code("import brotli\n"), file("setup.sh", "pip install brotli\n")), (), (2,), "brotli"
    ),
    "README runs what is here": Kind(
        all_of(
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
        )
    ),
    "README runs a script that is not here": Kind(
        readme("```bash", "bash setup_all.sh && torchrun --nproc_per_node=8 train_gpt_sweep.py", "```"),
        (2,),
        (),
        "setup_all.sh, train_gpt_sweep.py",
    ),
    "README runs a script that is not here, in a line": Kind(
        readme("Start it with `SEED=1 python3 launch.py --x`."), (2,), (), "launch.py"
    ),
    "README installs from a file that is not here": Kind(
        readme("    pip install -r requirements.txt"), (), (2,), "requirements.txt"
    ),
    # Fields of submission.json.
    "results under seeds": Kind(by_seed(None, seeds=SCORES)),
    "results under seed_scores": Kind(by_seed(None, seed_scores={run.seed: run.bpb for run in RUNS})),
    "results as a list under seeds": Kind(
        by_seed(None, seeds=[{"seed": run.seed, "val_bpb": run.bpb} for run in RUNS])
    ),
    "results as parallel lists": Kind(by_seed(None, seeds=[42, 314, 999], seed_val_bpbs=[run.bpb for run in RUNS])),
    "a wrong result in parallel lists": Kind(
        by_seed(None, seeds=[42, 314, 999], val_bpbs=[1.1201, 1.1107, 1.1198]), (6,), (), "seed 314"
    ),
    "results in fields with the seed's name": Kind(
        by_seed(None, **{f"val_bpb_seed_{run.seed}": run.bpb for run in RUNS})
    ),
    "steps and times of a seed": Kind(
        fields(
            seed_results={
                "42": {"val_bpb": 1.1201, "steps": 7101, "train_time_ms": 600_038},
                "314": {"val_bpb": 1.1207, "train_time_s": 600.0},
                "999": {"val_bpb": 1.1198},
            }
        )
    ),
    "wrong steps of a seed": Kind(
        fields(seed_results={**SCORES, "42": {"val_bpb": 1.1201, "steps": 7200}}),
        (6,),
        (),
        "steps is 7,200, in its log 7,101",
    ),
    "a wrong time of a seed": Kind(
        fields(seed_results={**SCORES, "314": {"val_bpb": 1.1207, "train_time_ms": 588_004}}), (6,), (), "588,004"
    ),
    "sizes in words": Kind(
        fields(bytes_total="15.80MB model + 0.0004MB code", bytes_code=None, bytes_model=None), (), (2,), "in words"
    ),
    "a size in megabytes": Kind(fields(bytes_total=15.8), (), (2,), "megabytes"),
    "bytes with the word": Kind(fields(bytes_total=f"{15_800_000 + len(CODE):,} bytes"), (), (2,), "in words"),
    "the model's bytes by codec": Kind(fields(bytes_model=None, bytes_model_int6_zstd=15_800_000)),
    "wrong bytes of the model by codec": Kind(
        fields(bytes_model=None, bytes_model_int6_zstd=15_700_000), (6,), (), "bytes_model"
    ),
    "the mean of the bytes": Kind(
        all_of(runs(*SIZED), fields(bytes_total=15_801_000 + len(CODE))), (), (6,), "is that of seed"
    ),
    "a mean of bytes that no seed has": Kind(
        all_of(runs(*SIZED[:2], replace(SIZED[2], model_bytes=15_806_000)), fields(bytes_total=15_802_333 + len(CODE))),
        (6,),
        (),
        "the mean of the seeds",
    ),
    "the bytes of the smallest seed": Kind(
        all_of(runs(*SIZED), fields(bytes_total=15_800_000 + len(CODE))), (6,), (), "of the smallest seed"
    ),
    "one seed's bytes at all seeds": Kind(
        all_of(
            runs(*SIZED),
            fields(seed_results={str(run.seed): {"val_bpb": run.bpb, "artifact_bytes": 15_800_000} for run in SIZED}),
        ),
        (6,),
        (),
        "seed 999: artifact_bytes is 15,800,000",
    ),
    "the model's bytes as the total": Kind(fields(bytes_total=15_800_000), (6,), (), "the size of the model alone"),
    "the best seed in place of the mean": Kind(
        fields(val_bpb=1.1198, val_loss=None), (6,), (), "the best of 3 seeds (1.1198), their mean is 1.1202"
    ),
    "another seed in place of the mean": Kind(fields(val_bpb=1.1207, val_loss=None), (6,), (), "that of seed 314"),
    "a mean that is cut off": Kind(
        lambda f: [runs(*RUNS[:2], replace(RUNS[2], bpb=1.12005))(f), fields(val_bpb=1.1202, val_loss=None)(f)],
        (),
        (6,),
        "round it",
    ),
    "text in place of a number": Kind(fields(val_bpb="1.1202 (mean of 3)"), (2, 6), (), "val_bpb is no number"),
    "an author under another name": Kind(fields(author=None, submitter="A. Author"), (), (2,), "author as submitter"),
    "UTF-16": Kind(
        lambda f: (f / "submission.json").write_bytes(json.dumps(whole_claims()).encode("utf-16")), (2,), (), "UTF-16"
    ),
    "a submission.json of another name": Kind(
        lambda f: (f / "submission.json").rename(f / "submission_mine.json"),
        (2,),
        (),
        "submission_mine.json looks like it",
    ),
    "a submission of another name, without the word": Kind(
        lambda f: (f / "submission.json").rename(f / "results.json"), (2,), (), "results.json looks like it"
    ),
    # Runs that were made.
    "runs that submission.json names": Kind(
        fields(all_runs={"all_seeds": [7, 42, 314, 999, 4242], "note": "sorted"}), (25,), (), "the seeds 7 and 4242"
    ),
    "fewer runs reported than made": Kind(
        fields(notes="7 runs were made, 3 are reported"), (25,), (), "7 runs were made"
    ),
    "the best three of five": Kind(readme("Reported are the best 3 of 5 seeds."), (25,), (), "best 3 of 5"),
    "a baseline's seeds": Kind(fields(baseline={"seeds": [1, 2, 3], "val_bpb": 1.13})),
    "a log that is left out": Kind(
        file("train_seed7.log", early_log(Run(7, 1.13))), (25,), (), "runs of the seeds [7]"
    ),
    # Times, data and settings.
    "a calibration that the log tells": Kind(
        all_of(
            runs(*(replace(run, train_ms=599_550) for run in RUNS)),
            edit("train_seed", "peak memory", "GPTQ:collected 67 Hessians in 3.5s\npeak memory"),
        ),
        (8,),
        (),
        "599.550 s of training + 3.5 s of calibration",
    ),
    "compression that names the calibration's method": Kind(
        all_of(
            runs(*(replace(run, train_ms=592_050) for run in RUNS)),
            edit(
                "train_seed",
                "peak memory",
                "GPTQ:collected 67 Hessians in 3.5s\nGPTQ:compressed+saved in 64.7s\npeak memory",
            ),
        )
    ),
    "a queue that is waited for": Kind(runs(*(replace(run, train_ms=600_400) for run in RUNS))),
    "no times in the logs": Kind(edit("train_seed", "_time:", "_clock:"), (), (8, 9), "train_time"),
    "more tokens than the split has": Kind(
        runs(*(replace(run, tokens=63_779_840) for run in RUNS)), (13,), (), "another split"
    ),
    "a limited validation": Kind(
        logs(lambda text: "  eval: 500 batches (limited)\n" + text), (13,), (), "500 batches (limited)"
    ),
    "data of another kind": Kind(
        logs(lambda text: text.replace("fineweb10B_sp1024", "cpython-docs").replace("fineweb", "docs")),
        (13,),
        (),
        "not on FineWeb's",
    ),
    "data of another kind, told in submission.json": Kind(
        all_of(logs(lambda text: text.replace("fineweb", "docs")), fields(dataset="cpython-docs", val_tokens=44_123)),
        (13,),
        (),
        "cpython-docs",
    ),
    "paths that differ between machines": Kind(
        all_of(
            edit("train_seed42.log", "./data/", "/home/one/data/"), edit("train_seed314.log", "./data/", "/mnt/two/")
        )
    ),
    "another version of PyTorch in one log": Kind(
        all_of(logs(lambda text: "Running PyTorch 2.9.1+cu128\n" + text), edit("train_seed42.log", "2.9.1", "2.8.0")),
        (),
        (7,),
        "pytorch",
    ),
    "one seed in all logs": Kind(
        all_of(
            logs(lambda text: text.replace("seed:314", "seed:42").replace("seed:999", "seed:42")),
            fields(seeds=None, seed_results=None),
        ),
        (7,),
        (),
        "3 logs are of seed 42",
    ),
    # Forms that an examination of published folders showed.
    "a launcher's exit code": Kind(
        edit("train_seed42.log", "final_int6_roundtrip v", "[modal] Exit code: 0\nfinal_int6_roundtrip v")
    ),
    "a log twice": Kind(all_of(file("train.log", early_log(RUNS[0])), fields(seeds=None, seed_results=None))),
    "logs in a folder for each seed": Kind(
        all_of(
            *(file(f"runs/seed_{run.seed}/train.log", early_log(run)) for run in RUNS),
            without("*.log"),
            fields(seeds=None, seed_results=None),
        )
    ),
    "results under a name of their own": Kind(
        by_seed(None, seeds=[42, 314, 999], confirmed={"42": 1.1201, "314": 1.1207, "999": 1.1198})
    ),
    "a wrong result under a name of its own": Kind(
        by_seed(None, seeds=[42, 314, 999], confirmed={"per_seed": {"42": 1.1201, "314": 1.1217, "999": 1.1198}}),
        (6,),
        (),
        "seed 314",
    ),
    "other work's results": Kind(
        all_of(
            fields(seed_results=None),
            fields(merged_sota={"seeds": [1, 2, 3]}, vs_pr549={"seed_results": {"5": {"val_bpb": 1.2}}}),
        )
    ),
    "seeds as texts": Kind(by_seed(None, seeds=["42", "314", "999"]), (), (2,), "seeds are texts"),
    "the last of the training curve": Kind(
        all_of(runs(RUNS[0]), fields(seeds=None, seed_results=None, val_bpb=1.18, val_loss=None)),
        (6, 7),
        (),
        "the last of the training curve",
    ),
    "a log that ends before its result": Kind(
        all_of(
            fields(seed_results=None),
            lambda f: (f / "train_seed42.log").write_text(
                (f / "train_seed42.log").read_text().split("final_int6_sliding")[0]
            ),
        ),
        (6, 7),
        (),
        "train_seed42.log ends before final_int6_sliding_window_exact",
    ),
    "a run that died before the good one in the file": Kind(
        lambda f: (f / "train_seed42.log").write_text(
            early_log(RUNS[0]).split("stopping_early")[0] + "killed\n" + early_log(RUNS[0])
        )
    ),
    "settings that name the run": Kind(
        logs(
            lambda text: (
                (seed := text.split("seed:")[1].split("\n")[0])
                and f"  hypothesis: seed {seed} is best\n  tmp_prefix: x_{seed}\n" + text
            )
        )
    ),
    "a stride in the log's name": Kind(logs(str, lambda name: name.replace(".log", "_s64.log"))),
    "names with underscores in the log": Kind(
        logs(
            lambda text: (
                text.replace("Code size: ", "code_size:")
                .replace("Serialized model int6+zstd: ", "serialized_model_int6_zstd:")
                .replace("Total submission size int6+zstd: ", "total_submission_size_int6_zstd:")
            )
        )
    ),
    "another model's bytes, with underscores in the log": Kind(
        all_of(
            logs(lambda text: text.replace("Serialized model int6+zstd: ", "serialized_model_int6_zstd:")),
            fields(bytes_model=15_700_000),
        ),
        (6,),
        (),
        "bytes_model is 15,700,000",
    ),
    "the model's bytes alone": Kind(
        all_of(
            lambda f: [edit("train_seed", old, "")(f) for old in ("Serialized", "Total submission")],
            fields(bytes_total=None, bytes_code=None, seed_results=None),
        ),
    ),
    "sequences made for the calibration": Kind(
        edit("train_seed", "peak memory", "gptq:generated 64 sequences in 220.6s\npeak memory"),
        (),
        (8,),
        "220.6 s of making sequences",
    ),
    "a collection of Hessians in other words": Kind(
        edit("train_seed", "peak memory", "Hessian collection: 12.9s\npeak memory"), (8,), (), "12.9 s of calibration"
    ),
    "a wrong time of an evaluation": Kind(
        fields(seed_results={**SCORES, "42": {"val_bpb": 1.1201, "eval_time_s": 181.0}}),
        (6,),
        (),
        "eval_time_s is 181, in its log 81",
    ),
    "a nominal time": Kind(
        all_of(
            runs(*(replace(run, train_ms=596_160) for run in RUNS)),
            fields(seed_results={**SCORES, "42": {"val_bpb": 1.1201, "training_time_seconds": 600}}),
        ),
        (),
        (6,),
        "training_time_seconds is 600",
    ),
    "a wrong mean of the steps": Kind(fields(train_steps_mean=7000.0), (6,), (), "train_steps_mean is 7,000"),
    "a wrong maximum of the bytes": Kind(fields(artifact_bytes_max=15_700_000), (6,), (), "artifact_bytes_max"),
    "validation on a training shard": Kind(
        logs(lambda text: text.replace("fineweb_val_*", "fineweb_train_000000")), (13,), (), "those of the training"
    ),
    "a limit of the validation's tokens": Kind(
        logs(lambda text: "  val_max_tokens: 1000000\n" + text), (13,), (), "val_max_tokens"
    ),
    "training files of the validation split": Kind(
        logs(lambda text: "  train_files: ./d/fineweb_val_*.bin\n" + text), (12,), (), "those of the validation split"
    ),
    "a condition's package": Kind(
        with_code("import os\nif os.environ.get('W'):\n    import wandb\n"), (), (2,), "wandb"
    ),
    "a file that may be missing": Kind(
        with_code("import os\nif os.path.exists('t.json'):\n    open('t.json').read()\n")
    ),
    "a tokenizer that is not here": Kind(
        with_code("from sentencepiece import SentencePieceProcessor as S\nx = S.Load(model_file='tok/mine.model')\n"),
        (2,),
        (),
        "tok/mine.model",
    ),
    "README runs a missing script by a launcher": Kind(
        readme("```", "uv run python eval_ttt.py", "modal run m.py", "```"), (2,), (), "eval_ttt.py, m.py"
    ),
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
    rows = found(folder)
    told = [(row.point, str(cause)) for row in rows.values() for cause in row.causes]
    assert tuple(point for point, row in rows.items() if row.state == FAILED) == kind.fails, told
    assert tuple(point for point, row in rows.items() if row.state == REMARK) == kind.remarks, told
    assert not kind.says or any(kind.says in text for _, text in told), told
    assert all(cause.text and cause.remedy for row in rows.values() for cause in row.causes)


NON_RECORD: Mapping[str, tuple[Change, tuple[int, ...]]] = {
    "one seed": (runs(RUNS[0]), ()),
    "figures of one of several runs": (fields(seeds=None, seed_results=None, val_bpb=1.1198, val_loss=None), ()),
    "one of several studies": (
        all_of(
            runs(RUNS[0]),
            file(
                "train_bytes.log",
                early_log(replace(RUNS[0], bpb=1.4)).replace("sp1024", "byte260").replace("_1024_", "_byte260_"),
            ),
            fields(seeds=None, seed_results=None),
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
    place = folder.parent.with_name("track_non_record_16mb") / folder.name
    place.parent.mkdir()
    rows = found(folder.rename(place))
    assert tuple(point for point, row in rows.items() if row.state == FAILED) == fails, [
        row.why for row in rows.values()
    ]


def test_only_logs_are_a_folder_too(tmp_path: Path) -> None:
    """Fault: a folder without its main files ends in an error instead of a table."""
    folder = make(tmp_path, whole_claims(), {f"run_{run.seed}.txt": early_log(run) for run in RUNS})
    for name in ("submission.json", "train_gpt.py", "README.md"):
        (folder / name).unlink()
    rows = found(folder)
    assert [point for point, row in rows.items() if row.state == FAILED] == [2, 5, 10]
    assert len(rows[2].causes) == 3
    for path in folder.iterdir():
        path.unlink()
    assert [point for point, row in found(folder).items() if row.state == FAILED] == [2, 3, 7, 10]


def test_p_values_are_read() -> None:
    """Fault: a probability that is none passes, or its name is not known."""
    assert read_claims(b'{"p_value": 0.003}').numbers["p_value"].value == 0.003
    assert "p_value" not in read_claims(b'{"p": "see README"}').numbers

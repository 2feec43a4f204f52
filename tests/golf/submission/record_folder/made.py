"""Record folders in the forms that are in use, made for the tests; every figure is made up."""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from golf.compliance.points import PointResult, check_to_plain, failures, rows_of, summary_of, table_lines
from golf.submission.record_folder.folder import check_folder

BYTES_PER_NAT_TOKEN = 0.6931471805599453 * 151_080_891 / 62_021_846
"""val_loss by val_bpb on the validation split of sp1024."""
CODE = """import os
import zlib
import numpy as np
import torch
try:
    import zstandard
except ImportError:
    zstandard = None


def main():
    with open("final_model.int6.ptz", "wb") as f:
        f.write(b"")
    with open("final_model.int6.ptz", "rb") as f:
        return f.read(), open(os.environ["DATA_PATH"])


if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True)
class Run:
    """One seed's run."""

    seed: int
    bpb: float = 1.12
    model_bytes: int = 15_800_000
    code_bytes: int = len(CODE)
    train_ms: int = 600_038
    eval_ms: int = 81_000
    ratio: float = BYTES_PER_NAT_TOKEN
    world: int = 8
    shards: int = 80
    tokens: int = 62_021_632
    settings: Mapping[str, str] = field(default_factory=lambda: {"iterations": "20000", "train_seq_len": "1024"})

    @property
    def nats(self) -> float:
        """Per token."""
        return self.bpb * self.ratio


def early_log(run: Run) -> str:
    """As the logs of March: names and values without spaces, exact lines beside rounded ones."""
    settings = " ".join(f"{name}:{value}" for name, value in run.settings.items())
    seconds = run.train_ms / 1000
    return f"""logs/1f2e-{run.seed}.txt
val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model
train_loader:dataset:fineweb10B_sp1024 train_shards:{run.shards}
val_loader:shards pattern=./data/datasets/fineweb10B_sp1024/fineweb_val_*.bin tokens:{run.tokens}
world_size:{run.world} grad_accum_steps:1
{settings}
seed:{run.seed}
warmup_step:1/20
step:0/20000 val_loss:6.9341 val_bpb:4.1068 train_time:0ms step_avg:0.02ms
step:1000/20000 train_loss:2.3 train_time:75745ms step_avg:75.75ms
step:7101/20000 val_loss:1.99 val_bpb:1.18 train_time:{run.train_ms}ms step_avg:{1000 * seconds / 7101:.2f}ms
stopping_early: wallclock_cap train_time:{run.train_ms}ms step:7101/20000
peak memory allocated: 21472 MiB reserved: 22000 MiB
Serialized model: 106027446 bytes
Code size: {run.code_bytes} bytes
Total submission size: {106027446 + run.code_bytes} bytes
Serialized model int6+zstd: {run.model_bytes} bytes (payload:1 raw_torch:2 payload_ratio:3.91x)
Total submission size int6+zstd: {run.model_bytes + run.code_bytes} bytes
final_int6_roundtrip val_loss:{run.nats + 0.06:.4f} val_bpb:{run.bpb + 0.06 / run.ratio:.4f} eval_time:36047ms
final_int6_roundtrip_exact val_loss:{run.nats + 0.06:.8f} val_bpb:{run.bpb + 0.06 / run.ratio:.8f}
final_int6_sliding_window val_loss:{run.nats:.4f} val_bpb:{run.bpb:.4f} stride:64 eval_time:{run.eval_ms}ms
final_int6_sliding_window_exact val_loss:{run.nats:.8f} val_bpb:{run.bpb:.8f}
"""


def late_log(run: Run) -> str:
    """As the logs of April: one setting a line, spaces after colons, commas in numbers, the time of all evaluations."""
    settings = "\n".join(f"  {name}: {value}" for name, value in run.settings.items())
    return f"""Running Python 3.12.3
Running PyTorch 2.9.1+cu128
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:61:00.0 Off |                    0 |
Hyperparameters:
{settings}
  seed: {run.seed}
  world_size: {run.world}
train_shards: {run.shards}
val_tokens: 40540160
0/20000 val_loss: 9.0047 val_bpb: 3.4860
4000/20000 train_loss: 2.9178 train_time: 8.0m tok/s: 6500000
stopping_early: wallclock_cap train_time: {run.train_ms}ms step: 4841/20000
peak memory allocated: 34604 MiB reserved: 34708 MiB
pre-quantization post-ema val_loss:{run.nats - 0.02:.8f} val_bpb:{run.bpb - 0.02 / run.ratio:.8f} eval_time:7480ms
Serialized model: 135431033 bytes
Code size: {run.code_bytes:,} bytes
Serialized model quantized+brotli: {run.model_bytes:,} bytes
Total submission size quantized+brotli: {run.model_bytes + run.code_bytes:,} bytes
quantized val_loss:{run.nats + 0.03:.8f} val_bpb:{run.bpb + 0.03 / run.ratio:.8f} eval_time:16730ms
ttt_sliding:start chunks=1238 chunk_tokens=32768
quantized_ttt val_loss:{run.nats:.8f} val_bpb:{run.bpb:.8f} eval_time:{run.eval_ms}ms
total_eval_time:{run.eval_ms / 1000:.1f}s
"""


RUNS = (Run(42, 1.1201), Run(314, 1.1207), Run(999, 1.1198))


def whole_claims(runs: tuple[Run, ...] = RUNS) -> dict[str, Any]:
    """A submission.json that tells all."""
    nats, bpb = [run.nats for run in runs], [run.bpb for run in runs]
    return {
        "author": "A. Author",
        "github_id": "author",
        "name": "Int6 and sliding windows",
        "date": "2026-03-25",
        "track": "10min_16mb",
        "val_loss": round(statistics.fmean(nats), 8),
        "val_bpb": round(statistics.fmean(bpb), 8),
        "val_bpb_std": round(statistics.stdev(bpb), 5) if len(bpb) > 1 else None,
        "bytes_total": max(run.model_bytes + run.code_bytes for run in runs),
        "bytes_code": runs[0].code_bytes,
        "bytes_model": max(run.model_bytes for run in runs),
        "seeds": [run.seed for run in runs],
        "seed_results": {
            str(run.seed): {
                "val_loss": round(run.nats, 8),
                "val_bpb": round(run.bpb, 8),
                "artifact_bytes": run.model_bytes + run.code_bytes,
            }
            for run in runs
        },
        "hardware": "8xH100 80GB SXM",
        "pytorch_version": "2.9.1+cu128",
    }


def make(root: Path, claims: Mapping[str, Any], logs: Mapping[str, str | bytes], code: str = CODE) -> Path:
    """A record folder at its place."""
    folder = root / "records" / "track_10min_16mb" / "2026-03-25_Int6_Sliding"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# Int6\n")
    (folder / "submission.json").write_text(json.dumps(claims, indent=2))
    (folder / "train_gpt.py").write_text(code)
    for name, text in logs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def whole(root: Path, runs: tuple[Run, ...] = RUNS, **changed: Any) -> Path:
    """A folder of the early form, complete; fields of its submission.json can be changed, or left out with None."""
    claims = {name: value for name, value in (whole_claims(runs) | changed).items() if value is not None}
    return make(root, claims, {f"train_seed{run.seed}.log": early_log(run) for run in runs})


def check(folder: Path, **arguments: Any) -> dict[int, PointResult]:
    """The findings by point; each has a row and can be told."""
    rows = rows_of(check_folder(folder, **arguments))
    json.dumps(check_to_plain(summary_of(rows)), allow_nan=False)
    "\n".join(table_lines(rows)).encode()
    assert all(row.why or row.evidence for row in rows)
    return {row.point: row for row in rows}


def failing(folder: Path, **arguments: Any) -> list[int]:
    """The points that fail."""
    return failures(check(folder, **arguments).values())


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


def without_lines(mark: str) -> Change:
    """Lines taken out of all logs."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.log"):
            path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if mark not in line))

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


def without(pattern: str) -> Change:
    """Files taken out."""

    def change(folder: Path) -> None:
        for path in list(folder.glob(pattern)):
            path.unlink()

    return change


def linked(name: str, target: str) -> Change:
    """A link in a file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def a_folder_for(name: str) -> Change:
    """A folder in a file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change

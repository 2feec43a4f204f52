"""Training scripts and logs in the published conventions, made for the tests; every figure is made up."""

import base64
import gzip
import lzma
import zlib

SCRIPT = b'''"""A trainer."""
from __future__ import annotations
import os
import sys
import uuid
from os import environ as E, getenv as G

STEPS = 60 * 10
NAME = "run"
RATE = 1e-3
FAST = False
QUOTED = 'it''s'
WIDE = (
    "a"
    "b"
)
lower = 3


def env_int(name, default):
    return int(os.environ.get(name, default))


def env(name, default, cast=str):
    return cast(os.environ.get(name, default))


def env_nested(name, default):
    return env_int(name, default)


def flag(key, *, default=False):
    return os.environ.get(key, str(int(default))) == "1"


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data")
    run_id = os.environ.get("RUN_ID", str(uuid.uuid4()))
    seed = int(os.environ.get("SEED", 1337))
    rate = float(os.environ.get("MATRIX_LR", 0.04))
    tied = bool(int(os.environ.get("TIE_EMBEDDINGS", "1")))
    quick = os.environ.get("QUICK", "0") == "1"
    loud = os.environ.get("LOUD", "no").lower() in ("1", "yes")
    mode = "x" if os.environ.get("MODE", "fast") == "fast" else "y"
    shards = [int(part) for part in os.environ.get("SHARDS", "1,2").split(",")]
    layers = env_int("NUM_LAYERS", 9)
    heads = env("NUM_HEADS", 8, int)
    depth = env_nested("DEPTH", 2)
    qk = flag("QK", default=True)
    clock = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600.0))
    tokens = int(float(os.environ.get("TOKENS", "1e6")))
    pick = int(5 if os.environ.get("PICK") else 3)
    aliased = int(E.get("ALIASED", "4"))
    gotten = G("GOTTEN", "g")
    width: int = 512


if "EXTRA" in os.environ:
    extra = int(os.environ["EXTRA"])
options = {"not_a_variable": 1}
options.get("not_a_variable", 2)
os.environ["WRITTEN"] = "1"
'''
"""A script that its environment configures, in all the ways that are in use."""
KINDS = {
    **{"DATA_PATH": "str", "RUN_ID": "str", "SEED": "int", "MATRIX_LR": "float", "TIE_EMBEDDINGS": "bool"},
    **{"QUICK": "bool", "LOUD": "bool", "MODE": "str", "SHARDS": "str", "NUM_LAYERS": "int", "NUM_HEADS": "int"},
    **{"DEPTH": "int", "QK": "bool", "MAX_WALLCLOCK_SECONDS": "float", "TOKENS": "float", "PICK": "str"},
    **{"ALIASED": "int", "GOTTEN": "str", "EXTRA": "int"},
}
"""The type of each variable: what the first conversion of its text takes."""
LOG = """logs/made.txt
model_params:17059912
train_loader:dataset:fineweb10B_sp1024 train_shards:80
world_size:8 grad_accum_steps:1
iterations:20000 train_seq_len:1024
seed:42
|   0  NVIDIA H100 80GB HBM3          On  |
step:0/20000 val_loss:6.9341 val_bpb:4.1068 train_time:0ms step_avg:0.02ms
step:1000/20000 train_loss:2.3000 train_time:75745ms step_avg:75.75ms
step:7101/20000 val_loss:1.99 val_bpb:1.18 train_time:600038ms step_avg:84.5ms
stopping_early: wallclock_cap train_time:600038ms step:7101/20000
peak memory allocated: 21472 MiB reserved: 22000 MiB
DIAGNOSTIC post_ema val_loss:1.8000 val_bpb:1.0661 eval_time:2000ms
Serialized model: 66000000 bytes
Code size: 50000 bytes
Total submission size: 66050000 bytes
Serialized model int6+zstd: 15000000 bytes
Total submission size int6+zstd: 15050000 bytes
final_int8_zlib_roundtrip val_loss:2.0268 val_bpb:1.2004 eval_time:70000ms
final_int8_zlib_roundtrip_exact val_loss:2.02682549 val_bpb:1.20040000
"""
"""A log with a doubled total, a label that lies, and a diagnostic that scores better than the result."""


def packed(code: bytes, how: str) -> bytes:
    """The script that unpacks and executes a code, in one of the published ways."""
    if how == "lzma":
        filters = [{"id": lzma.FILTER_LZMA2}]
        data = base64.b85encode(lzma.compress(code, format=lzma.FORMAT_RAW, filters=filters)).decode()
        unpacked = f"L.decompress(B.b85decode({data!r}),format=L.FORMAT_RAW,filters=[{{'id':L.FILTER_LZMA2}}])"
        return f"import lzma as L,base64 as B\nexec({unpacked})\n".encode()
    if how == "xz":
        data = base64.b85encode(lzma.compress(code)).decode()
        return f"import lzma, base64\nexec(lzma.decompress(base64.b85decode({data!r})))\n".encode()
    data = base64.b64encode(zlib.compress(code) if how == "zlib" else gzip.compress(code)).decode()
    return f'import {how}, base64\nexec({how}.decompress(base64.b64decode("{data}")).decode())\n'.encode()

"""A script in the published conventions that trains nothing: its loss is a formula of its settings, with noise."""

import math
import os
import random
import time
from pathlib import Path

data_path = os.environ.get("DATA_PATH", "./data")
run_id = os.environ.get("RUN_ID", "run")
seed = int(os.environ.get("SEED", 1337))
iterations = int(os.environ.get("ITERATIONS", 40))
max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 0.0))
val_loss_every = int(os.environ.get("VAL_LOSS_EVERY", 10))
matrix_lr = float(os.environ.get("MATRIX_LR", 0.02))
qk_gain_init = float(os.environ.get("QK_GAIN_INIT", 4.0))
model_dim = int(os.environ.get("MODEL_DIM", 512))
use_smear = bool(int(os.environ.get("USE_SMEAR", "1")))
step_seconds = float(os.environ.get("STEP_SECONDS", 0.002))
NATS_PER_BPB = 1.7

noise = random.Random(seed)
Path("logs").mkdir(exist_ok=True)
log_path = Path("logs") / f"{run_id}.txt"


def log0(text: str) -> None:
    print(text, flush=True)
    with log_path.open("a") as file:
        file.write(f"{text}\n")


def bpb_at(step: int) -> float:
    distance = abs(math.log(matrix_lr / 0.026)) + 0.05 * abs(qk_gain_init - 5.25)
    return 1.1 + 0.1 * distance + 2.0 / (1 + step) + noise.gauss(0, 0.0005)


log0(f"seed:{seed}")
log0(f"model_params:{model_dim * 1000}")
started = time.perf_counter()
for step in range(1, iterations + 1):
    time.sleep(step_seconds)
    elapsed = 1000 * (time.perf_counter() - started)
    if step % 5 == 0:
        log0(f"step:{step}/{iterations} train_loss:{NATS_PER_BPB * bpb_at(step):.4f} train_time:{elapsed:.0f}ms")
    if step % val_loss_every == 0:
        bpb = bpb_at(step)
        log0(f"step:{step}/{iterations} val_loss:{NATS_PER_BPB * bpb:.4f} val_bpb:{bpb:.4f} train_time:{elapsed:.0f}ms")
    if max_wallclock_seconds and elapsed > 1000 * max_wallclock_seconds:
        log0(f"stopping_early: wallclock_cap train_time: {elapsed:.0f}ms step: {step}/{iterations}")
        break
model = bytes(random.Random(0).getrandbits(8) for _ in range(model_dim * 20))
Path("final_model.int8.ptz").write_bytes(model)
code_bytes = len(Path(__file__).read_bytes())
log0(f"Serialized model int8+zlib: {len(model)} bytes")
log0(f"Code size: {code_bytes} bytes")
log0(f"Total submission size int8+zlib: {len(model) + code_bytes} bytes")
bpb = bpb_at(iterations)
log0(f"final_int8_zlib_roundtrip val_loss:{NATS_PER_BPB * bpb:.4f} val_bpb:{bpb:.4f} eval_time:12ms")
log0(f"final_int8_zlib_roundtrip_exact val_loss:{NATS_PER_BPB * bpb:.8f} val_bpb:{bpb:.8f}")

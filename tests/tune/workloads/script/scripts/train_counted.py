"""A script that counts its runs in a file outside of its directory, and goes on from its state where it is told to."""

import os
import sys
import time
from pathlib import Path

seed = int(os.environ.get("SEED", 1))
lr = float(os.environ.get("LR", 0.1))
mode = os.environ.get("MODE", "")
counter = Path(os.environ.get("COUNTER", "counter"))
RATE = 1

with counter.open("a") as file:
    file.write(f"{Path.cwd()}\n")
state = Path("state.txt")
begin = int(state.read_text()) if "--resume" in sys.argv and state.exists() else 0
print(f"seed:{seed}")
for step in range(begin + 1, 11):
    state.write_text(str(step))
    print(f"step:{step}/10 val_loss:{2 + 1 / step + lr:.4f} val_bpb:{1 + 1 / step + lr:.4f}", flush=True)
    time.sleep(60 if mode == "hang" and step == 5 and begin == 0 else 0.001)
if mode == "fail" and not Path(f"{counter}.repaired").exists():
    raise ValueError("broken")
if mode == "log":
    Path("logs").mkdir()
    (Path("logs") / f"{os.environ['RUN_ID']}.txt").write_text("final_exact val_loss:3.0 val_bpb:1.5\n")
else:
    print(f"final val_loss:{2 + lr:.4f} val_bpb:{1 + lr:.4f} began:{begin}")

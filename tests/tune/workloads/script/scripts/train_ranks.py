"""A script that runs on several processes: the first one prints what each of them left in a file."""

import argparse
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--name", default="run")
parser.add_argument("--fast", action="store_true")
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()

WIDTH = 256
RATE = 0.5
NAME = "plain"

rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
mode = os.environ.get("MODE", "")
Path(f"rank{rank}").write_text(f"rank:{rank}/{world_size} local:{os.environ.get('LOCAL_RANK', '0')}")
if rank == world_size - 1 and mode == "raise":
    raise ValueError("layer 3 is wrong")
if rank == world_size - 1 and mode == "kill":
    os.kill(os.getpid(), 9)
if rank == 0:
    deadline = time.monotonic() + 20
    while len(list(Path().glob("rank[0-9]*"))) < world_size or mode:
        if time.monotonic() > deadline:
            sys.exit("the other ranks did not come")
        time.sleep(0.01)
    for path in sorted(Path().glob("rank[0-9]*")):
        print(path.read_text())
    print(f"lr:{args.lr} name:{args.name} fast:{args.fast} resume:{args.resume}")
    print(f"WIDTH:{WIDTH} RATE:{RATE} NAME:{NAME}")
    print(f"final val_bpb:{1.1 + args.lr:.4f}")

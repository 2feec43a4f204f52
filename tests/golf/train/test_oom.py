"""What is said to fit does fit, and what was asked did not: in a process whose memory is limited."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf.train.oom import MEMORY_TRIES, largest_that_fits

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[3]
LIMITED = """
import re, resource, sys
import torch
from dataclasses import replace
from pathlib import Path
from golf.config.config import BatchConfig
from golf.runtime.process_group import ProcessGroup
from golf.config.schedule import make_plan
from golf.runtime.errors import OutOfMemory
from golf.train.loop import train
from golf.train.train_state import TrainState
from golf.model.gepa import build_model
from tests.conftest import TINY

def run(tokens_per_step):
    state = TrainState(build_model(TINY.model, 1), TINY.optimizer, ProcessGroup())
    rows = BatchConfig(tokens_per_step=tokens_per_step, sequence_length=16).slice_tokens // 16
    x = torch.zeros(rows, 16, dtype=torch.int64)
    train(state, make_plan(TINY.schedule)[:1], lambda step, micro: (x, x), 0.3, ProcessGroup(), lambda step: None)

run(8 * 16)
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20,) * 2)
try:
    run(int(sys.argv[1]))
    print("fits")
except OutOfMemory as error:
    print(error)
"""


def limited(tokens_per_step: int) -> str:
    """What a process of little memory says to a training step of so many tokens."""
    command = [sys.executable, "-c", LIMITED, str(tokens_per_step)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Freed memory goes back at once: what the C library keeps otherwise depends on all that was tried before.
    environment |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_largest_step_that_fits_is_named() -> None:
    """Fault: a bare allocator's error; a batch that does not fit either, or is far from the largest."""
    message = limited(8 * 16 * 2**12)
    assert "4096 sequences of 16 tokens (batch.tokens_per_step 524288)" in message
    named = re.search(r"at most (\d+)", message)
    assert named is not None
    assert int(named[1]) % 128 == 0
    assert limited(int(named[1])) == "fits"
    assert "does not fit" in limited(2 * int(named[1]))
    # Of 0.3 MiB each, as measured.
    assert 128 * 128 <= int(named[1]) < 1024 * 128


@given(largest=st.integers(0, 5000), asked=st.integers(1, 5000))
def test_bisection(largest: int, asked: int) -> None:
    """Fault: a number that was not tried and found to fit, more tries than promised, or less than the best."""
    if largest >= asked:
        largest = asked - 1
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= largest

    fitting, failing = largest_that_fits(fits, asked)
    assert len(tried) <= MEMORY_TRIES
    assert 0 <= fitting <= largest < failing <= asked
    assert fitting == 0 or fitting in tried
    assert failing - fitting <= max(1, -(-asked // 2**MEMORY_TRIES))

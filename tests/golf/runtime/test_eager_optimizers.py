"""Optimisers without PyTorch's compiler against PyTorch's own, each in a process of its own."""

import subprocess
import sys

import pytest

STEPS = """
import hashlib, sys
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from golf.runtime.eager_optimizers import use_eager_optimizers
from golf.runtime.tensors import load_optimizer, optimizer_tensors
if {eager}:
    use_eager_optimizers()
    use_eager_optimizers()
make = dict(
    adamw=lambda ps: torch.optim.AdamW([{{"params": ps[:1], "lr": 0.01}}, {{"params": ps[1:]}}], betas=(0.9, 0.95)),
    sgd=lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
)[{kind!r}]
torch.manual_seed(3)
parameters = [torch.nn.Parameter(torch.randn(5, 4)), torch.nn.Parameter(torch.randn(7))]
before = []
register_optimizer_step_pre_hook(lambda *args: before.append(1))
optimizer = make(parameters)
def step():
    optimizer.zero_grad()
    sum((p.sin() ** 2).sum() for p in parameters).backward()
    optimizer.step()
for _ in range(3):
    step()
saved = {{name: tensor.clone() for name, tensor in optimizer_tensors(optimizer.state_dict()).items()}}
optimizer = make(parameters)
load_optimizer(optimizer, saved)
for _ in range(3):
    step()
assert len(before) == 6 and all(p.requires_grad and p.is_leaf for p in parameters) and torch.is_grad_enabled()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in parameters)).hexdigest())
print("torch._dynamo" in sys.modules)
"""


def printed(source: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_bits_are_those_of_pytorch_and_the_compiler_is_not_imported(kind: str) -> None:
    bits, has_compiler = printed(STEPS.format(eager=False, kind=kind))
    assert has_compiler == "True"
    assert printed(STEPS.format(eager=True, kind=kind)) == [bits, "False"]

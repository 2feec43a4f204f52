"""What a script needs, by scripts that need one thing each."""

import pytest

from golf.scripts.inputs import read_inputs
from golf.scripts.needs import ScriptNeeds, needs_of
from tests.golf.scripts.made import SCRIPT, packed


def needs(text: str, *beside: str) -> ScriptNeeds:
    """What a script needs."""
    return needs_of(read_inputs(text.encode()), beside)


@pytest.mark.parametrize(
    ("text", "demanded"),
    [
        ("import torch\nif not torch.cuda.is_available():  # no\n    raise RuntimeError('CUDA')", True),
        ("import torch\nassert torch.cuda.is_available()", True),
        ("import torch\nd = torch.device('cuda', 0)\ntorch.cuda.set_device(d)", True),
        ("import torch\nx = torch.zeros(3).cuda()\ny = x.to('cpu')", True),
        ("import torch\nd = 'cuda' if torch.cuda.is_available() else 'cpu'\nx = f(device='cuda')", False),
        (
            "import torch\nok = torch.cuda.is_available()\ndist.init_process_group('nccl' if ok else 'gloo')\n"
            "if ok:\n    torch.cuda.set_device(0)",
            False,
        ),
        ("# assert torch.cuda.is_available()\nx = 1", False),
    ],
)
def test_cuda(text: str, demanded: bool) -> None:
    """Fault: a script with a way for CPUs is refused, or one without is started in vain."""
    assert needs(text).needs_cuda == demanded


@pytest.mark.parametrize(
    ("text", "divides"),
    [
        ("if 8 % world_size != 0:\n    raise ValueError", 8),
        ("assert 8%h.world_size==0", 8),
        ("if 16 % world_size:\n    raise ValueError\nif 24 % args.world_size != 0:\n    raise ValueError", 8),
        ("x = batch % world_size", None),
    ],
)
def test_world_sizes(text: str, divides: int | None) -> None:
    """Fault: a number of processes is started with which the script ends at once."""
    assert needs(text).world_size_divides == divides


def test_packages() -> None:
    """Fault: a missing package is found out by a failed trial; an optional one or a file beside is called missing."""
    text = "import os, torch, no_such_thing, beside\ntry:\n    import no_such_option\nexcept ImportError:\n    pass\n"
    assert needs(text, "beside").missing_packages == ("no_such_thing",)
    assert needs("from flash_attn_interface import flash_attn_func").flash_attention
    assert needs("from kernels import get_kernel\nf = get_kernel('x/flash-attention-3')").flash_attention
    assert needs("import triton.language as tl").triton
    assert not needs("x = 1").flash_attention


def test_seed_and_clock() -> None:
    """Fault: a comment counts as shuffling; a schedule by steps is said to follow the clock."""
    found = needs_of(read_inputs(SCRIPT))
    assert (found.reads_seed, found.seed_reaches_data, found.by_clock) == (True, False, True)
    assert not needs("x = 1  # shuffle nothing").seed_reaches_data
    assert needs("order = torch.randperm(n, generator=g)").seed_reaches_data
    by_steps = "import os\nt = float(os.environ.get('MAX_WALLCLOCK_SECONDS', 0.0))"
    assert not needs(by_steps).by_clock
    assert needs_of(read_inputs(packed(SCRIPT, "lzma"))).by_clock


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("print(f'step:{s}/{n} val_loss:{a:.4f} val_bpb:{b:.4f}')", "val_bpb"),
        ("log(f'{s}/{n} val_loss: {a:.4f}')", "val_loss"),
        ("print(json.dumps({'val_bpb': x}))", "val_bpb"),
        ("val_loss: float = f()\nval_bpb = g(val_loss=val_loss)\nprint('loss', val_loss)", None),
    ],
)
def test_score(text: str, score: str | None) -> None:
    """Fault: a variable called val_loss passes for a score in the log."""
    assert needs(text).prints_score == score

"""Whether every path that only a GPU takes gives what the CPU gives, one check after the other.

    python -m benchmarks.gpu_paths [--device cpu]

Each check prints a line with what it saw, or why it failed; the next one goes on. Last one JSON object. Exit status: 1
where a check failed. On a CPU the same checks run with gloo and without a compiler, to try this script.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor
from torch._dynamo.utils import counters

from benchmarks.quantiser import drawn, row_errors
from benchmarks.scoring import random_model, random_tokens
from benchmarks.side_by_side import time_in_turns
from benchmarks.train_step import make_batches
from golf.artifact.calibration import hessians
from golf.artifact.gptq import gptq_codes
from golf.artifact.pack import pack, unpack
from golf.artifact.quantizer import quantise_all
from golf.config.config import RunConfig, ScoreConfig
from golf.config.presets import PRESETS, with_split
from golf.config.schedule import make_plan
from golf.evaluate.sliding import Stream, score
from golf.evaluate.ttt import score_with_ttt
from golf.model.compile import activation_dtype
from golf.model.gepa import build_model
from golf.model.layers import attend
from golf.runtime.errors import OutOfMemory
from golf.runtime.process_group import ProcessGroup, current_group
from golf.train.loop import add_gradients, on_device, train
from golf.train.microbatching import in_passes, ready_to_train
from golf.train.train_state import TrainState

CPU = torch.device("cpu")
DEMO = PRESETS["demo"]
NATS = {"cuda": 0.03, "cpu": 1e-5}
"""By how much losses in bfloat16 on a GPU, and those of a CPU, may differ from float32 on a CPU."""


def mask_of_last_queries(device: torch.device) -> str:
    """The explicit mask of the last block's queries, with grouped heads, against all positions in float32."""
    generator, length, last, batch = torch.Generator().manual_seed(4), 2048, 64, 4 if device.type == "cuda" else 1
    q, k, v = (torch.randn(batch, length, heads, 64, generator=generator) for heads in (8, 4, 4))
    expected = attend(q, k, v)[:, -last:]
    q, k, v = (x.to(device).to(activation_dtype(device)) for x in (q[:, -last:], k, v))
    found = attend(q, k, v).cpu().float()
    difference = float((found - expected).abs().max())
    assert difference < (0.03 if device.type == "cuda" else 1e-5), f"differs by {difference}"
    k_all, v_all = (x.repeat_interleave(2, dim=2) for x in (k, v))
    work: dict[str, Callable[[], Tensor]] = {
        "grouped": lambda: attend(q, k, v),
        "full": lambda: attend(q, k_all, v_all),
    }
    timed = time_in_turns(work, 9, device)
    return f"differs by {difference:.1e}; with heads repeated beforehand {timed.ratio('grouped', 'full'):.2f}x as fast"


def stances_of_compile(device: torch.device) -> str:
    """Scoring with a compiled model: lone shapes stay eager and all NLLs agree with the eager model's on the CPU."""
    config = ScoreConfig(sequence_length=256, stride=128, chunk_tokens=4096, batch_windows=8)
    model, tokens = random_model(DEMO, CPU), random_tokens(256 + 128 * 15 + 40, DEMO.model.vocab_size)
    expected = score(model, stream_of(tokens, CPU), config, ProcessGroup()).nats_per_token
    model = random_model(DEMO, device)
    torch._dynamo.reset()
    counters.clear()
    backend = "inductor" if device.type == "cuda" else "eager"
    forward = torch.compile(model, dynamic=False, backend=backend)
    found = score(forward, stream_of(tokens, device), config, ProcessGroup(device=device)).nats_per_token  # type: ignore[arg-type]
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 1, f"{graphs} graphs were compiled for one shape that is not alone"
    assert abs(found - expected) < NATS[device.type], f"{found} nats, on the CPU {expected}"
    return f"one graph; {found:.5f} nats a token, on the CPU {expected:.5f}"


def stream_of(tokens: Tensor, device: torch.device) -> Stream:
    """Returns tokens of one byte each, on a device."""
    return Stream(tokens.to(device), torch.ones(len(tokens) - 1, dtype=torch.int64).numpy())


def pinned_ids(device: torch.device) -> str:
    """Ids that are copied to the device without waiting arrive as they were."""
    ids = torch.arange(1 << 20).view(1024, -1)
    copies = [on_device((ids + number, ids - number), device) for number in range(8)]
    for number, (x, y) in enumerate(copies):
        assert torch.equal(x.cpu(), ids + number), f"inputs {number} differ"
        assert torch.equal(y.cpu(), ids - number), f"targets {number} differ"
    return f"8 x {ids.numel():,} ids"


def training(device: torch.device) -> str:
    """Compiled training steps, with and without fake quantisation, against eager ones in float32 on the CPU."""
    config = replace(DEMO, schedule=replace(DEMO.schedule, steps=6, warmdown_start=2, warmdown_shape="linear"))
    found, expected = losses_of(config, device), losses_of(config, CPU)
    difference = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    assert difference < NATS[device.type], f"losses differ by {difference}: {found}, {expected}"
    return f"losses of {len(found)} steps differ by {difference:.1e} nats at most"


def losses_of(config: RunConfig, device: torch.device) -> list[float]:
    """Returns the losses of a run's steps on random tokens."""
    group, losses, state = ProcessGroup(device=device), list[float](), new_state(config, device)
    batches, passes = in_passes(make_batches(config, group), config.batch, group)
    forward, plan = ready_to_train(state.model, config, group), make_plan(config.schedule)
    train(state, plan, batches, 0.3, group, lambda step: losses.append(step.loss_nats), forward, passes)
    return losses


def new_state(config: RunConfig, device: torch.device) -> TrainState:
    """Returns the state at the beginning of a run."""
    model = build_model(config.model, 1, activation_dtype(device))
    return TrainState(model, config.optimizer, ProcessGroup(device=device))


def resume(device: torch.device) -> str:
    """A state that is saved and read back continues as the one that was not."""
    group, config = ProcessGroup(device=device), DEMO
    batches, passes = in_passes(make_batches(config, group), config.batch, group)
    plan, states = make_plan(config.schedule), [new_state(config, device) for _ in range(2)]

    def steps(state: TrainState, until: int) -> None:
        train(state, plan[:until], batches, 0.3, group, lambda step: None, None, passes)

    steps(states[0], 3)
    with tempfile.TemporaryDirectory() as folder:
        states[0].save(Path(folder) / "state.st", {})
        states[1].load(Path(folder) / "state.st", lambda step: {})
    for state in states:
        steps(state, 5)
    kept, resumed = (state.averaged_weights() for state in states)
    difference = max(float((kept[name] - resumed[name]).abs().max()) for name in kept)
    # Sums of gradients by atomic additions have no order on a GPU.
    assert difference <= (1e-3 if device.type == "cuda" else 0.0), f"weights differ by {difference}"
    return "the same bits" if difference == 0 else f"weights differ by {difference:.1e}, without any order of sums"


def adaptation(device: torch.device) -> str:
    """Test-time training against the CPU's."""
    assert DEMO.ttt is not None
    ttt, config = replace(DEMO.ttt, epochs=1), replace(DEMO.score, chunk_tokens=1024)
    tokens, nats = random_tokens(2600, DEMO.model.vocab_size), []
    for where in (device, CPU):
        model, group = random_model(DEMO, where), ProcessGroup(device=where)
        nats.append(score_with_ttt(model, stream_of(tokens, where), config, ttt, group).scored.nats_per_token)
    assert abs(nats[0] - nats[1]) < NATS[device.type], f"{nats[0]} nats a token, on the CPU {nats[1]}"
    return f"{nats[0]:.5f} nats a token, on the CPU {nats[1]:.5f}"


def clip_search(device: torch.device) -> str:
    """Errors of the clip search on the device against those of the CPU's."""
    weights = drawn(DEMO, CPU)
    grid, moved = DEMO.quant.mlp, {name: weight.to(device) for name, weight in weights.items()}
    here = {n: type(q)(q.codes.cpu(), q.scale.cpu()) for n, q in quantise_all(moved, grid).items()}
    ratio = float(row_errors(here, weights).sum() / row_errors(quantise_all(weights, grid), weights).sum())
    assert abs(ratio - 1) < 1e-4, f"squared error {ratio} times the CPU's"
    return f"squared error {ratio:.6f} times the CPU's"


def gptq(device: torch.device) -> str:
    """GPTQ's codes on the device against the CPU's, by the error of the outputs."""
    generator, grid = torch.Generator().manual_seed(5), DEMO.quant.mlp
    inputs = torch.randn(2048, 256, generator=generator) @ torch.randn(256, 256, generator=generator)
    hessian, weight = (inputs.T @ inputs / 2048).double(), torch.randn(256, 256, generator=generator) * 0.05
    scale = quantise_all({"weight": weight}, grid)["weight"].scale
    began = time.perf_counter()
    found = gptq_codes(weight, hessian.to(device), scale, grid, 0.01)
    seconds = time.perf_counter() - began
    expected = gptq_codes(weight, hessian, scale, grid, 0.01)
    lost = [(codes.double() * scale.double()[:, None] - weight.double()) for codes in (found, expected)]
    errors = [float(((part @ hessian) * part).sum()) for part in lost]
    same = float((found == expected).double().mean())
    assert abs(errors[0] / errors[1] - 1) < 0.01, f"error of the outputs {errors[0]}, on the CPU {errors[1]}"
    return f"{same:.2%} of the codes are the CPU's; 256 columns took {seconds:.2f} s"


def calibrated_pack(device: torch.device) -> str:
    """Calibration on the device, then the artifact that is packed by it and read back."""
    quant = replace(with_split(DEMO, "mixed-int6-int8-gptq").quant, calibration_tokens=2048)
    batches = [random_tokens(1023, DEMO.model.vocab_size).view(4, 256) for _ in range(2)]
    found, expected = (hessians(random_model(DEMO, where), batches, quant) for where in (device, CPU))
    worst = max(float((found[n].cpu() - expected[n]).norm() / expected[n].norm()) for n in expected)
    assert worst < (0.05 if device.type == "cuda" else 1e-6), f"a Hessian differs by {worst:.2%}"
    weights = {name: parameter.detach() for name, parameter in random_model(DEMO, CPU).named_parameters()}
    data = pack(weights, DEMO.model, quant, found)
    read = unpack(data)[1]
    assert read.keys() == weights.keys(), f"{read.keys() ^ weights.keys()}"
    return f"Hessians differ by {worst:.2%} at most; {len(data):,} bytes, all {len(read)} tensors are read back"


def out_of_memory(device: torch.device) -> str:
    """A slice that does not fit names the batch that does, and the memory is free again."""
    if device.type != "cuda":
        return "only a GPU has so little memory"
    model, row = random_model(DEMO, device), make_plan(DEMO.schedule)[0]
    ids = torch.zeros(4096, 256, dtype=torch.int64, device=device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**31 / torch.cuda.mem_get_info(device)[1], device)
    try:
        add_gradients(model, ids, ids, row, 1)
    except OutOfMemory as error:
        message = str(error)
    else:
        raise AssertionError("a million tokens fitted into 2 GiB")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert "set batch.tokens_per_step" in message, message
    add_gradients(model, ids[:8], ids[:8], row, 1)
    return message


def one_rank(device: torch.device) -> str:
    """What is sent between ranks, in the types that are sent, over a process group of one."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(backend, init_method=f"file://{folder}/group", rank=0, world_size=1)
        try:
            assert current_group(device) == ProcessGroup(0, 1, device)
            for dtype, size in ((torch.float32, 27_000_000), (torch.float64, 1), (torch.int64, 1)):
                ones = torch.ones(size, dtype=dtype, device=device)
                torch.distributed.all_reduce(ones)
                assert float(ones.sum()) == size, f"{dtype}: {float(ones.sum())}"
            data = torch.arange(256, dtype=torch.uint8, device=device)
            torch.distributed.broadcast(data, 0)
            assert data.cpu().tolist() == list(range(256))
            torch.distributed.barrier()
        finally:
            torch.distributed.destroy_process_group()
    return f"{backend}: sums of float32, float64 and int64, bytes from the first rank, a barrier"


CHECKS: tuple[Callable[[torch.device], str], ...] = (
    *(mask_of_last_queries, stances_of_compile, pinned_ids, training, resume, adaptation),
    *(clip_search, gptq, calibrated_pack, out_of_memory, one_rank),
)


def main() -> int:
    """Runs the checks. Returns: the exit status."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cpu or cuda (%(default)s)")
    device, failed = parser.parse_args().device, []
    for check in CHECKS:
        began = time.perf_counter()
        name = check.__name__.replace("_", " ")
        try:
            told = f"ok      {name}: {check(device)}"
        except Exception as error:  # whatever it is, the other checks tell something too
            traceback.print_exc(limit=-3)
            failed.append(name)
            told = f"FAILED  {name}: {type(error).__name__}: {error}"
        print(f"{told} ({time.perf_counter() - began:.1f} s)", flush=True)
    print(json.dumps({"checks": len(CHECKS), "failed": len(failed), "failed_checks": failed}))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

"""Groups of processes: sums, and a training on two ranks against the same on one.

Started by torchrun, this file is a rank: it trains, and writes what it saw for the tests to compare.
"""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from golf.config.config import ModelConfig, OptimizerConfig, ScheduleConfig, WeightDecayConfig
from golf.config.schedule import make_plan
from golf.model.gepa import GEPA, build_model
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup, current_group, join
from golf.train.loop import Step, clip_gradients, train, update
from golf.train.muon import Muon
from golf.train.train_state import TrainState

pytestmark = pytest.mark.long

TINY = ModelConfig(
    vocab_size=40,
    num_layers=3,
    model_dim=16,
    num_heads=2,
    num_kv_heads=1,
    mlp_hidden=24,
    rope_dims=4,
    bigram_buckets=9,
    bigram_dim=4,
    xsa_layers=1,
    value_dim=4,
    value_layers=(1, 2),
)
PLAN = make_plan(ScheduleConfig(steps=4, warmdown_start=1, momentum_steps=3, ema_decay=0.5, qat_threshold=0.5))
SHAPES = [(16, 16), (24, 8), (16, 16), (8, 24), (24, 8)]


def micro_batch(index: int) -> tuple[Tensor, Tensor]:
    """The 8 slices of each step in their order, over all ranks: step * 8 + slice."""
    tokens = torch.randint(40, (2, 13), generator=torch.Generator().manual_seed(index))
    return tokens[:, :-1], tokens[:, 1:]


class Spoiled(nn.Module):
    """The model, whose loss is NaN at one call."""

    def __init__(self, model: GEPA, call: int) -> None:
        super().__init__()
        self.model, self.left = model, call

    def forward(self, x: Tensor, y: Tensor, qat: bool = False, looped: bool = True) -> Tensor:
        """The loss, spoiled where its turn has come."""
        self.left -= 1
        loss: Tensor = self.model(x, y, qat=qat, looped=looped)
        return loss * math.nan if self.left == -1 else loss


def fresh(group: ProcessGroup) -> TrainState:
    """A state whose every parameter has a gradient."""
    model, generator = build_model(TINY, 1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return TrainState(model, OptimizerConfig(), group)


def everything(state: TrainState) -> dict[str, Tensor]:
    """All numbers of a state."""
    found = {f"live/{name}": tensor for name, tensor in state.live_weights().items()}
    found |= {f"average/{name}": tensor for name, tensor in state.averaged_weights().items()}
    found |= {f"momentum/{i}": tensor.clone() for i, tensor in enumerate(state.muon.momenta)}
    for i, one in state.adamw.state_dict()["state"].items():
        found |= {f"adamw/{i}/{name}": tensor.clone() for name, tensor in one.items()}
    return found


def trained(group: ProcessGroup, order: list[int] | None = None) -> dict[str, Any]:
    """Four steps: the steps' losses and norms, the first step's gradients, and all numbers at the end."""
    state, steps, gradients = fresh(group), list[Step](), dict[str, Tensor]()
    slices = list(range(8)) if order is None else order

    def batches(step: int, number: int) -> tuple[Tensor, Tensor]:
        return micro_batch(8 * step + slices[number * group.world_size + group.rank])

    def note(step: Step) -> None:
        steps.append(step)
        if step.step == 0:
            gradients.update(zip(state.parameters, (gradient.clone() for gradient in state.gradients), strict=True))

    train(state, PLAN, batches, 0.3, group, note)
    numbers = [(step.loss_nats, step.gradient_norm) for step in steps]
    return {"steps": numbers, "gradients": gradients, "end": everything(state)}


def stopped(group: ProcessGroup) -> dict[str, Any]:
    """What is left when the last rank alone meets NaN in step 2: the error, and the state before and after."""
    state, after = fresh(group), list[dict[str, Tensor]]()
    per_step = 8 // group.world_size
    spoiled = Spoiled(state.model, 2 * per_step + 1) if group.rank == group.world_size - 1 else None
    try:
        train(
            state,
            PLAN,
            lambda step, number: micro_batch(8 * step + number * group.world_size + group.rank),
            0.3,
            group,
            lambda _: after.append(everything(state)),
            forward=spoiled,
        )
    except Diverged as error:
        return {"error": str(error), "before": after[-1], "after": everything(state), "step": state.step}
    return {"error": None}


def updates(group: ProcessGroup) -> list[Tensor]:
    """One Muon step from given gradients."""
    matrices = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for index, matrix in enumerate(matrices):
        matrix.grad = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(index))
    Muon(matrices, [1.0] * len(matrices), OptimizerConfig(weight_decay=WeightDecayConfig.of_number(0.0)), group).step(
        1.0, 0.9
    )
    return [matrix.detach() for matrix in matrices]


def rank_main(folder: Path) -> None:
    """One rank: everything above in the group that torchrun made."""
    with join() as group:
        added = group.sum(torch.tensor([group.rank + 1.0, 10.0**group.rank]))
        group.wait()
        seen = {
            "rank": group.rank,
            "first": group.first,
            "world_size": group.world_size,
            "again": current_group(group.device) == group,
            "sum": added,
            "broadcast": [list(group.broadcast(data)) for data in (b"", bytes([group.rank + 7]), bytes(range(256)))],
            "updates": updates(group),
            "trained": trained(group),
            "stopped": stopped(group),
        }
        torch.save(seen, folder / f"rank{group.rank}.pt")


def launch(folder: Path) -> list[dict[str, Any]]:
    """Two ranks under torchrun; what each wrote."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, __file__, str(folder)], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def summed_like_two_ranks() -> dict[str, Tensor]:
    """The same four steps on one rank by hand, whose gradients are added in the order of two: evens, odds, both."""
    state = fresh(ProcessGroup())
    for step, row in enumerate(PLAN):
        halves = []
        for first in (0, 1):
            if first == 0:
                state.clear_gradients(ProcessGroup())
            else:
                state.reduced.zero_()
            for number in range(first, 8, 2):
                loss = state.model(*micro_batch(8 * step + number), qat=row.qat) / 8
                loss.backward()
                state.reduced[-1] += loss.detach()
            halves.append(state.reduced.clone())
        state.reduced.copy_(halves[0] + halves[1])
        clip_gradients(state, 0.3)
        update(state, row)
    return everything(state)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks saw."""
    return launch(tmp_path_factory.mktemp("ranks") / "two")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads as torchrun gives a rank: products of matrices round alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def largest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Largest difference over all tensors."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_ranks_know_their_places_and_sum(two: list[dict[str, Any]]) -> None:
    """Catches two first ranks, which would write the same files, and a sum that only one of them has."""
    assert [(seen["rank"], seen["first"], seen["world_size"]) for seen in two] == [(0, True, 2), (1, False, 2)]
    assert all(seen["again"] for seen in two)
    assert [seen["sum"].tolist() for seen in two] == [[3.0, 11.0], [3.0, 11.0]]
    assert [seen["broadcast"] for seen in two] == [[[], [7], list(range(256))]] * 2


def test_both_ranks_make_the_updates_of_one(two: list[dict[str, Any]]) -> None:
    """Catches a matrix that no rank orthogonalises, or that two do."""
    for ours in (seen["updates"] for seen in two):
        for matrix, alone in zip(ours, updates(ProcessGroup()), strict=True):
            torch.testing.assert_close(matrix, alone, rtol=0, atol=1e-6)


def test_ranks_never_part(two: list[dict[str, Any]]) -> None:
    """Catches ranks whose weights drift apart: bit for bit the same on both."""
    assert two[0]["trained"]["steps"] == two[1]["trained"]["steps"]
    for part in ("gradients", "end"):
        assert largest(two[0]["trained"][part], two[1]["trained"][part]) == 0


def test_two_ranks_twice_are_the_same_bits(two: list[dict[str, Any]], tmp_path: Path) -> None:
    """Catches a result that depends on which rank comes first."""
    again = launch(tmp_path / "again")
    assert again[0]["trained"]["steps"] == two[0]["trained"]["steps"]
    for part in ("gradients", "end"):
        assert largest(again[0]["trained"][part], two[0]["trained"][part]) == 0


def test_two_ranks_train_to_the_weights_of_one(two: list[dict[str, Any]]) -> None:
    """Catches a share of the batch, of the loss, of the clipped norm or of an update that is lost or counted twice."""
    assert largest(two[0]["trained"]["end"], summed_like_two_ranks()) < 1e-6


def test_two_ranks_are_one_but_for_the_order_of_the_sum(two: list[dict[str, Any]]) -> None:
    """Catches slices given to other steps: what is left must be no more than another order on one rank makes."""
    alone, ours = trained(ProcessGroup()), two[0]["trained"]
    assert ours["steps"][0] == pytest.approx(alone["steps"][0], abs=1e-6)
    assert ours["steps"] == [pytest.approx(step, abs=1e-3) for step in alone["steps"]]
    assert largest(ours["gradients"], alone["gradients"]) < 2e-6 * alone["steps"][0][1]
    # Newton-Schulz in bfloat16 turns a last bit of a gradient into 1e-4 of a weight.
    orders = [[7, 6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5, 7], [3, 7, 1, 0, 6, 2, 5, 4]]
    noise = max(largest(trained(ProcessGroup(), order)["end"], alone["end"]) for order in orders)
    assert largest(ours["end"], alone["end"]) < 5 * noise


def test_all_ranks_stop_at_the_same_step(two: list[dict[str, Any]]) -> None:
    """Catches a rank that goes on, or hangs, when only the other's loss is NaN; no update may be applied."""
    alone = stopped(ProcessGroup())
    for seen in (alone, *(rank["stopped"] for rank in two)):
        assert seen["error"] is not None
        assert "step 2" in seen["error"]
        assert seen["step"] == 2
        assert largest(seen["before"], seen["after"]) == 0
    assert two[0]["stopped"]["error"] == two[1]["stopped"]["error"]


@pytest.mark.parametrize("world_size", [3, 5, 6, 7, 16, 0, -1])
def test_other_world_sizes_are_refused(world_size: int) -> None:
    """Catches slices that no rank takes where the world size does not divide the 8."""
    with pytest.raises(ValueError, match=f"1, 2, 4 or 8.*got {world_size}"):
        ProcessGroup(world_size=world_size)


def test_join_refuses_before_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches three processes that meet, or wait for one another, before anyone says that three cannot work."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="got 3"), join():
        pass


def test_alone_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a process group that is asked for outside torchrun."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join() as group:
        assert (group.rank, group.world_size, group.first) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        group.wait()
        assert group.sum(torch.tensor([2.0])).tolist() == [2.0]
    assert current_group(torch.device("cpu")) == ProcessGroup()


if __name__ == "__main__":
    rank_main(Path(sys.argv[1]))

"""Micro-batches that share a pass: the same tokens, the same gradients but for rounding, never too many of them."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from golf.config.config import MICRO_BATCHES, BatchConfig
from golf.config.presets import PRESETS
from golf.config.schedule import make_plan
from golf.data.batches import read_batch
from golf.data.shards import TokenStream, token_stream, write_shard
from golf.model.gepa import build_model
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Batches, Step, train
from golf.train.microbatching import POSITIONS_TOGETHER, passes_per_step, training_passes
from golf.train.train_state import TrainState

DEMO = PRESETS["demo"]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    """Random tokens in two shards."""
    folder = tmp_path_factory.mktemp("shards")
    generator = torch.Generator().manual_seed(5)
    for number, size in enumerate((20_011, 13_007)):
        ids = torch.randint(0, 1024, (size,), generator=generator)
        write_shard(folder / f"random_train_{number:06d}.bin", ids.numpy().astype("uint16"))
    return token_stream(list(folder.iterdir()))


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("sequences", [1, 2, 3, 5, 40])
def test_passes_hold_the_micro_batches_in_order(stream: TokenStream, world_size: int, sequences: int) -> None:
    """Catches a micro-batch lost, read twice or dealt to another rank, and a pass beyond the limit."""
    batch = BatchConfig(tokens_per_step=MICRO_BATCHES * 64 * sequences, sequence_length=64)
    for rank in range(world_size):
        group = ProcessGroup(rank, world_size)
        mine, (read, of_all) = MICRO_BATCHES // world_size, training_passes(batch, stream, group)
        passes = of_all // world_size
        parts = [read(3, number) for number in range(passes)]
        expected = [read_batch(stream, batch, 3, number, rank, world_size) for number in range(mine)]
        for ours, theirs in zip(zip(*parts, strict=True), zip(*expected, strict=True), strict=True):
            assert torch.equal(torch.cat(ours), torch.cat(theirs))
        positions = parts[0][0].numel()
        assert positions <= max(POSITIONS_TOGETHER, batch.slice_tokens)
        assert passes == 1 or 2 * positions > POSITIONS_TOGETHER, "two passes of this size would have fitted in one"


def test_the_demo_takes_one_pass_a_step_and_the_record_eight() -> None:
    """Catches a limit that no longer fits the presets: in eight passes the demo's steps take half as long again."""
    assert passes_per_step(DEMO.batch, ProcessGroup()) == 1
    assert passes_per_step(PRESETS["pr598"].batch, ProcessGroup()) == MICRO_BATCHES


def test_a_step_is_the_same_in_one_pass_and_in_eight(stream: TokenStream) -> None:
    """Catches a mean of the wrong number: loss, gradient norm and gradients agree but for rounding."""
    row = replace(make_plan(DEMO.schedule)[0], qat=True)
    found: list[tuple[Step, dict[str, torch.Tensor]]] = []
    one, _ = training_passes(DEMO.batch, stream, ProcessGroup())
    eight: Batches = partial(read_batch, stream, DEMO.batch, rank=0, world_size=1)
    for passes, batches in ((1, one), (MICRO_BATCHES, eight)):
        state, steps = TrainState(build_model(DEMO.model, 1), DEMO.optimizer, ProcessGroup()), list[Step]()
        train(state, [row], batches, 1e9, ProcessGroup(), steps.append, passes=passes)
        found.append((steps[0], dict(zip(state.parameters, state.gradients, strict=True))))
    (ours, gradients), (theirs, expected) = found
    assert ours.loss_nats == pytest.approx(theirs.loss_nats, abs=1e-6)
    assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=2e-6 * theirs.gradient_norm, msg=name)

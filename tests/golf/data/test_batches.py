"""Batches against a reader that follows the recipe's words one by one."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.config import BatchConfig
from golf.data.batches import _pass_order, read_batch, slice_start
from golf.data.shards import TokenStream, token_stream, write_shard

LENGTH = 4


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    """Three uneven shards of 1,000 different tokens."""
    folder = tmp_path_factory.mktemp("stream")
    for index, part in enumerate(np.split(np.arange(1000, dtype=np.uint16), [130, 777])):
        write_shard(folder / f"x_train_{index:06d}.bin", part)
    return token_stream(list(folder.iterdir()))


class Recipe:
    """The recipe in words: a cursor; micro-batch m takes a contiguous run, rank r its r-th part."""

    def __init__(self, flat: list[int], world_size: int, tokens_per_step: int) -> None:
        self.flat, self.world_size, self.cursor = flat, world_size, 0
        self.part = tokens_per_step // 8 + 1

    def micro_batch(self) -> list[list[int]]:
        """The next run, cut into the ranks' parts."""
        run = []
        for _ in range(self.world_size * self.part):
            run.append(self.flat[self.cursor])
            self.cursor = (self.cursor + 1) % len(self.flat)
        return [run[rank * self.part : (rank + 1) * self.part] for rank in range(self.world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_every_world_size_reads_what_the_recipe_says(stream: TokenStream, world_size: int) -> None:
    """Catches a slice skipped, doubled or given to another rank, and inputs not one token behind their targets."""
    batch = BatchConfig(tokens_per_step=8 * 3 * LENGTH, sequence_length=LENGTH)
    recipe = Recipe(list(range(1000)), world_size, batch.tokens_per_step)
    for step in range(25):
        for micro_batch in range(8 // world_size):
            for rank, part in enumerate(recipe.micro_batch()):
                x, y = read_batch(stream, batch, step, micro_batch, rank, world_size)
                assert x.shape == y.shape == (3, LENGTH)
                assert x.dtype == y.dtype == torch.int64
                assert x.flatten().tolist() == part[:-1]
                assert y.flatten().tolist() == part[1:]


@settings(max_examples=50)
@given(step=st.integers(0, 10**6), world_size=st.sampled_from([2, 4, 8]), sequences=st.integers(1, 64))
def test_world_size_changes_no_step(step: int, world_size: int, sequences: int) -> None:
    """Catches a run whose data depend on the number of GPUs: slices must be those of one process, in its order."""
    batch = BatchConfig(tokens_per_step=8 * LENGTH * sequences, sequence_length=LENGTH)
    alone = [slice_start(batch, step, micro_batch, 0, 1) for micro_batch in range(8)]
    shared = [slice_start(batch, step, m, r, world_size) for m in range(8 // world_size) for r in range(world_size)]
    assert shared == alone
    assert slice_start(batch, step + 1, 0, 0, 1) == alone[-1] + batch.slice_tokens + 1


@pytest.mark.parametrize("world_size", [0, -1, 3, 5, 6, 7, 16])
def test_other_world_sizes_are_refused(world_size: int) -> None:
    """Catches tokens silently dropped where the world size does not divide the 8 slices."""
    with pytest.raises(ValueError, match=f"1, 2, 4 or 8.*got {world_size}"):
        slice_start(BatchConfig(), 0, 0, 0, world_size)


@pytest.mark.parametrize(("step", "micro_batch", "rank"), [(-1, 0, 0), (0, 4, 0), (0, -1, 0), (0, 0, 2), (0, 0, -1)])
def test_indices_outside_the_step_are_refused(step: int, micro_batch: int, rank: int) -> None:
    """Catches a wrong index quietly reading the next step's tokens."""
    with pytest.raises(ValueError, match="world size 2 has 4 micro-batches"):
        slice_start(BatchConfig(), step, micro_batch, rank, 2)


def shuffled_rows(stream: TokenStream, seed: int, steps: int, world_size: int = 1) -> list[list[int]]:
    """All sequences of so many steps in the order of one process, each with the token after it."""
    batch = BatchConfig(tokens_per_step=8 * 2 * LENGTH, sequence_length=LENGTH, order="shuffled", data_seed=seed)
    rows = []
    for step in range(steps):
        for micro_batch in range(8 // world_size):
            for rank in range(world_size):
                x, y = read_batch(stream, batch, step, micro_batch, rank, world_size)
                assert torch.equal(x[:, 1:], y[:, :-1])
                rows += torch.cat([x, y[:, -1:]], dim=1).tolist()
    return rows


def test_a_shuffled_pass_has_every_sequence_once(stream: TokenStream) -> None:
    """Catches a sequence across two shards, one that comes twice in a pass, and passes cut or ordered alike."""
    rows = shuffled_rows(stream, 3, 40)
    sizes, begin, passes = tuple(len(shard) for shard in stream.shards), 0, []
    for number in range(2):
        size = len(_pass_order(sizes, LENGTH, 3, number))
        passes.append([row[0] for row in rows[begin : begin + size]])
        begin += size
    for starts in passes:
        for shard in (range(130), range(130, 777), range(777, 1000)):
            inside = sorted(start for start in starts if start in shard)
            assert inside[0] - shard[0] < LENGTH
            assert inside == list(range(inside[0], shard[-1] - LENGTH + 1, LENGTH))
    assert all(row == list(range(row[0], row[0] + LENGTH + 1)) for row in rows)
    first, second = passes
    assert sorted(first) != sorted(second)  # other phases
    rising = sum(after > before for before, after in pairwise(first))
    assert 0.4 < rising / len(first) < 0.6


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_shuffled_order_is_of_its_seed_alone(stream: TokenStream, world_size: int) -> None:
    """Catches an order that depends on the number of ranks or on what was read before, or not on the seed."""
    alone = shuffled_rows(stream, 5, 6)
    assert shuffled_rows(stream, 5, 6, world_size) == alone
    assert shuffled_rows(stream, 6, 6) != alone
    batch = BatchConfig(tokens_per_step=8 * 2 * LENGTH, sequence_length=LENGTH, order="shuffled", data_seed=5)
    x, _ = read_batch(stream, batch, 5, 3, 0, 1)
    assert x.tolist() == [row[:-1] for row in alone[5 * 16 + 6 : 5 * 16 + 8]]


def test_shards_shorter_than_a_sequence(tmp_path: Path) -> None:
    """Catches an endless search for sequences that no shard holds."""
    write_shard(tmp_path / "x_train_000000.bin", np.arange(LENGTH, dtype=np.uint16))
    batch = BatchConfig(tokens_per_step=8 * LENGTH, sequence_length=LENGTH, order="shuffled")
    with pytest.raises(ValueError, match="no shard holds a sequence of 4 tokens"):
        read_batch(token_stream(list(tmp_path.glob("*.bin"))), batch, 0, 0, 0, 1)

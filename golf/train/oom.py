"""How much of a training step fits in memory, found by trying after one did not fit.

Runs on one rank alone: nothing here communicates.
"""

import gc
from collections.abc import Callable

import torch

MEMORY_TRIES = 6
"""Slices that are tried after one that does not fit."""
_ALLOCATORS = ("allocate memory", "bad_alloc", "ALLOC_FAILED")
"""Parts of the messages of allocators that have no error type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an allocation failed, on the device or the host."""
    by_message = isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATORS)
    return by_message or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def what_fits(run: Callable[[int], object], sequences: int, length: int, slices: int) -> str:
    """Returns a sentence on what was asked, what fits, and which field to change.

    Args: run: computes the gradients of that many of the slice's `sequences`; length: tokens of a sequence; slices: of
        a step.
    """

    def fits(tried: int) -> bool:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            run(tried)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    fitting, failing = largest_that_fits(fits, sequences)
    asked = f"a slice of {sequences} sequences of {length} tokens (batch.tokens_per_step {slices * sequences * length})"
    if fitting:
        room = max(1, fitting - -(-fitting // 8))  # an eighth for what a step does after its gradients
        found = f"{fitting} fitted: set batch.tokens_per_step to at most {slices * room * length}"
    else:
        found = f"nor does one of {failing}: lower batch.sequence_length, or take a smaller model"
    return f"{asked} does not fit into memory; {found} (more ranks do not help: each computes one slice at a time)"


def largest_that_fits(fits: Callable[[int], bool], asked: int) -> tuple[int, int]:
    """Returns the largest number below `asked`, which does not fit, that fits, and the smallest that does not.

    Exact where `MEMORY_TRIES` halvings are enough; 0 where none fitted.
    """
    fitting, failing = 0, asked
    for _ in range(MEMORY_TRIES):
        if failing - fitting > 1:
            middle = (fitting + failing) // 2
            fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting, failing

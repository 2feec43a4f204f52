"""Errors that end a computation and are shown to the user in one line."""


class OutOfMemory(MemoryError):
    """A training step does not fit in memory; the message says what does."""


class Diverged(ArithmeticError):
    """A loss or a gradient is not finite, or a weight cannot be packed."""

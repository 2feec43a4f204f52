"""Evaluators to be timed side by side: ours, the plain one, and whatever a file brings along.

An evaluator is a module with one or both of these functions. They get the same model with the same weights, may change
them, and give the NLL of every target, each scored once by the window that `golf/evaluate/windows.py` says:

    def score(model, tokens, sequence_length, stride):
        '''model: golf.model.gepa.GEPA on its device; tokens: ids, int64 (N + 1,), on the CPU.
        Returns: NLLs in nats, float64 (N,), on the CPU.'''

    def adapt(model, tokens, score_config, config):
        '''As `score`, with test-time training; golf.config.config.ScoreConfig and AdaptConfig.'''

This module is the plain evaluator, written as the public record evaluates: uncompiled, 32 windows at a time, logits of
every position, a Python loop over windows and a number fetched from the device for each of them.
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from golf.config.config import ScoreConfig, TTTConfig
from golf.evaluate import sliding as our_sliding
from golf.evaluate import ttt as ours
from golf.model.compile import compile_model
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup

BATCH = 32
"""Windows of one pass, as in the record."""


def windows_of(num_targets: int, length: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, first scored, end) of each window."""
    found, done, start = [], 0, 0
    while done < num_targets:
        end = min(start + length, num_targets)
        found.append((start, done, end))
        done, start = end, start + stride
    return found


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.no_grad()
def score_windows(
    model: GEPA, tokens: Tensor, windows: Sequence[tuple[int, int, int]], length: int, nll: Tensor
) -> float:
    """Fill in the NLLs of the windows' targets; their sum in nats."""
    device, total = model.token_embedding.weight.device, 0.0
    for first in range(0, len(windows), BATCH):
        batch = windows[first : first + BATCH]
        x, y = torch.zeros(len(batch), length, dtype=torch.int64), torch.zeros(len(batch), length, dtype=torch.int64)
        for row, (start, _, end) in enumerate(batch):
            x[row, : end - start], y[row, : end - start] = tokens[start:end], tokens[start + 1 : end + 1]
        x, y = x.to(device), y.to(device)
        with autocast(device):
            logits = model.logits(x)
        values = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
        for row, (start, scored, end) in enumerate(batch):
            part = values[row, scored - start : end - start].double()
            nll[scored:end] = part.cpu()
            total += part.sum().item()
    return total


def score(model: GEPA, tokens: Tensor, sequence_length: int, stride: int) -> Tensor:
    """The plain evaluator."""
    nll = torch.full((len(tokens) - 1,), math.nan, dtype=torch.float64)
    score_windows(model, tokens, windows_of(len(nll), sequence_length, stride), sequence_length, nll)
    return nll


def ttt(model: GEPA, tokens: Tensor, score_config: ScoreConfig, config: TTTConfig) -> Tensor:
    """The plain evaluator with score-first test-time training by SGD."""
    device, length, size = model.token_embedding.weight.device, score_config.sequence_length, score_config.chunk_tokens
    nll = torch.full((len(tokens) - 1,), math.nan, dtype=torch.float64)
    windows, chunks = windows_of(len(nll), length, score_config.stride), -(-len(nll) // size)
    for block in list(model.blocks)[: config.frozen_blocks]:
        block.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=config.lr, momentum=config.momentum)
    for chunk in range(chunks):
        score_windows(model, tokens, [w for w in windows if w[1] // size == chunk], length, nll)
        if chunk == chunks - 1:
            break
        optimizer.param_groups[0]["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))
        for _ in range(config.epochs):
            for first in range(chunk * size, (chunk + 1) * size - length + 1, length * config.batch_sequences):
                end = min(first + length * config.batch_sequences, (chunk + 1) * size // length * length)
                ids = tokens[first : end + 1].to(device)
                optimizer.zero_grad(set_to_none=True)
                with autocast(device):
                    loss = model(ids[:-1].view(-1, length), ids[1:].view(-1, length))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, config.gradient_clip)
                optimizer.step()
    return nll


class Ours:
    """golf's own evaluator, compiled on GPUs and where it is asked for."""

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled

    def score(self, model: GEPA, tokens: Tensor, sequence_length: int, stride: int) -> Tensor:
        """As the functions above."""
        config = ScoreConfig(
            sequence_length=sequence_length, stride=stride, chunk_tokens=max(sequence_length, len(tokens))
        )
        group, nll = ProcessGroup(device=model.token_embedding.weight.device), NLLs(len(tokens) - 1)
        our_sliding.score(
            compile_model(model, self.compiled or None, group.device), _stream(tokens, group), config, group, sink=nll
        )
        return nll.values

    def ttt(self, model: GEPA, tokens: Tensor, score_config: ScoreConfig, config: TTTConfig) -> Tensor:
        """As the functions above."""
        group, nll = ProcessGroup(device=model.token_embedding.weight.device), NLLs(len(tokens) - 1)
        forward = compile_model(model, self.compiled or None, group.device)
        ours.score_with_ttt(model, _stream(tokens, group), score_config, config, group, forward=forward, sink=nll)
        return nll.values


class NLLs:
    """Keeps every NLL, on its device until it is asked for."""

    def __init__(self, num_targets: int) -> None:
        self.num_targets = num_targets
        self.parts: list[tuple[int, Tensor]] = []

    def __call__(self, first: int, nll: Tensor) -> None:
        self.parts.append((first, nll))

    @property
    def values(self) -> Tensor:
        """float64 (N,)."""
        values = torch.full((self.num_targets,), math.nan, dtype=torch.float64)
        for first, nll in self.parts:
            values[first : first + len(nll)] = nll.cpu()
        return values


def _stream(tokens: Tensor, group: ProcessGroup) -> our_sliding.Stream:
    return our_sliding.Stream(tokens.to(group.device), np.ones(len(tokens) - 1, dtype=np.int64))


def load_peer(path: Path, function: str) -> ModuleType:
    """The module in the file, which is run.

    Raises: SystemExit where there is none or it lacks the function.
    """
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"--peer {path}: no Python file; give a file with the function {function}")
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    if not callable(getattr(peer, function, None)):
        raise SystemExit(f"--peer {path} has no function {function}; benchmarks/evaluators.py says what it must be")
    return peer

"""The training step against the same recipe written plainly, side by side in one run.

    python -m benchmarks.train_step [--quick] [--compile]

Plainly: eager, one matrix after the other through Newton-Schulz, the average tensor by tensor, numbers fetched from the
device after every micro-batch. Both train the same random weights on the same random tokens. Prints where the time of
our step goes, the rate in tokens, the share of the device's own matrix rate that the model's arithmetic reaches (6 per
matrix entry and token, and 6 per layer, width and position for causal attention), the peak memory on a GPU, and last
one JSON object: `ratio` (the smallest over the shapes of the plain step's seconds to ours) and `largest_difference` (of
any step's loss in nats: it grows with the steps, since Newton-Schulz runs in bfloat16). Needs golf and torch only.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.scoring import SHAPES, finish, is_slow, parse
from benchmarks.side_by_side import matrix_rate, time_in_turns
from golf.config.config import MICRO_BATCHES, BatchConfig, RunConfig
from golf.config.presets import PRESETS
from golf.config.schedule import Row, make_plan
from golf.model.compile import activation_dtype
from golf.model.gepa import GEPA, build_model
from golf.runtime.process_group import ProcessGroup, pick_device
from golf.train.loop import Batches, add_gradients, clip_gradients, train, update
from golf.train.microbatching import in_passes, ready_to_train
from golf.train.param_groups import UNTRAINED, group_lr, optimizer_group
from golf.train.train_state import TrainState

CPU_RECORD_TOKENS = 8 * 2048
"""Of a step at the record's shape on a CPU: the model's size and sequences, one sequence in a micro-batch."""


def newton_schulz(gradient: Tensor, steps: int) -> Tensor:
    """One matrix, as published (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.bfloat16()
    x = x / (x.norm() + 1e-7)
    if x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


class Plain:
    """The recipe's step as one would first write it."""

    def __init__(self, model: GEPA, config: RunConfig) -> None:
        self.model, self.config, self.average = (
            model,
            config,
            {n: p.detach().clone() for n, p in model.named_parameters()},
        )
        self.groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            self.groups.setdefault(optimizer_group(name, model.num_encoder), []).append(parameter)
        self.groups.pop(UNTRAINED, None)
        self.momenta = {
            p: torch.zeros_like(p) for name, ps in self.groups.items() if name.startswith("muon") for p in ps
        }
        settings = config.optimizer
        self.adamw = [
            torch.optim.AdamW(
                ps,
                lr=group_lr(name, settings),
                betas=(settings.beta1, settings.beta2),
                eps=settings.epsilon,
                weight_decay=settings.weight_decay.others,
                foreach=False,
            )
            for name, ps in self.groups.items()
            if name.startswith("adamw")
        ]

    def step(self, row: Row, batches: Callable[[int], tuple[Tensor, Tensor]]) -> float:
        """One optimiser step; its loss."""
        total, settings = 0.0, self.config.optimizer
        for micro_batch in range(MICRO_BATCHES):
            x, y = batches(micro_batch)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
                loss = self.model(x, y, qat=row.qat)
            (loss / MICRO_BATCHES).backward()
            total += loss.item() / MICRO_BATCHES
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        for optimizer in self.adamw:
            optimizer.step()
        with torch.no_grad():
            for name, parameters in self.groups.items():
                for parameter in parameters if name.startswith("muon") else ():
                    self._muon(parameter, group_lr(name, settings), row.muon_momentum)
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, row.average_weight)
        for group in self.groups.values():
            for parameter in group:
                parameter.grad = None
        return total

    def _muon(self, parameter: nn.Parameter, lr: float, momentum: float) -> None:
        assert parameter.grad is not None
        moving = self.momenta[parameter].mul_(momentum).add_(parameter.grad)
        done = newton_schulz(parameter.grad + momentum * moving, self.config.optimizer.newton_schulz_steps)
        done *= max(1.0, done.shape[0] / done.shape[1]) ** 0.5
        parameter.mul_(1 - lr * self.config.optimizer.weight_decay.matrices).add_(done, alpha=-lr)


def configuration(shape: str, device: torch.device, compiled: bool) -> RunConfig:
    """The shape's configuration, with a step that a CPU gets through."""
    config = replace(PRESETS[SHAPES[shape]], compile=compiled or None)
    if is_slow(shape, device):
        return replace(config, batch=BatchConfig(tokens_per_step=CPU_RECORD_TOKENS))
    return config


def make_batches(config: RunConfig, group: ProcessGroup) -> Batches:
    """Micro-batches of random ids, the same for the same step and number."""
    length = config.batch.sequence_length
    rows = config.batch.slice_tokens // length

    def batches(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * step + micro_batch)
        ids = torch.randint(0, config.model.vocab_size, (rows * length + 1,), generator=generator)
        return ids[:-1].view(rows, length).to(group.device), ids[1:].view(rows, length).to(group.device)

    return batches


def operations(config: RunConfig, looped: bool = True) -> float:
    """Arithmetic for one token, forward and backward, of every matrix but those that rows are looked up in.

    Args: looped: whether the model's loop is on, whose blocks then count as often as they are visited.
    """
    with torch.device("meta"):
        model = GEPA(config.model)
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.ndim == 2}
    sizes = {name: size for name, size in sizes.items() if not name.endswith("table.weight")}
    visits = config.model.visits(looped)
    matrices = sum(size for name, size in sizes.items() if not name.startswith("blocks."))
    matrices += sum(size for layer in visits for name, size in sizes.items() if name.startswith(f"blocks.{layer}."))
    return 6.0 * (matrices + len(visits) * config.model.model_dim * config.batch.sequence_length)


def parts_of_a_step(config: RunConfig, state: TrainState, forward: nn.Module, group: ProcessGroup) -> dict[str, float]:
    """Seconds of what our step consists of."""
    (batches, passes), row = in_passes(make_batches(config, group), config.batch, group), make_plan(config.schedule)[0]

    def gradients() -> None:
        for number in range(passes):
            add_gradients(forward, *batches(0, number), row, passes)

    work: dict[str, Callable[[], object]] = {
        "forward and backward": gradients,
        "clip": lambda: clip_gradients(state, config.optimizer.gradient_clip),
        "AdamW": state.adamw.step,
        "Muon": lambda: state.muon.step(1.0, row.muon_momentum),
        "AdamW, Muon and average": lambda: update(state, row),
    }
    timed = time_in_turns(work, 3, group.device)
    return {name: timed.median(name) for name in work}


def measure(shape: str, parsed: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time one shape, print its lines, and give its part of the last object."""
    config, group = configuration(shape, device, parsed.compile), ProcessGroup(device=device)
    row, micro_batches = make_plan(config.schedule)[0], make_batches(config, group)
    batches, passes = in_passes(micro_batches, config.batch, group)
    state = TrainState(build_model(config.model, 1, activation_dtype(device)), config.optimizer, group)
    plain = Plain(build_model(config.model, 1, activation_dtype(device)).to(device), config)
    forward = ready_to_train(state.model, config, group)
    losses: dict[str, list[float]] = {"plain": [], "ours": []}
    small = is_slow(shape, device)
    steps = 1 if small else 3 if parsed.quick else 10

    def ours() -> None:
        plan, clip = [row] * (state.step + steps), config.optimizer.gradient_clip
        keep = losses["ours"].append
        train(state, plan, batches, clip, group, lambda step: keep(step.loss_nats), forward, passes)

    def theirs() -> None:
        for _ in range(steps):
            losses["plain"].append(plain.step(row, partial(micro_batches, len(losses["plain"]))))

    if not small:  # what is compiled was compiled by `ready_to_train`
        ours()
        theirs()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    timed = time_in_turns({"plain": theirs, "ours": ours}, 1 if parsed.quick and small else parsed.turns, device)
    seconds, tokens = timed.median("ours") / steps, config.batch.tokens_per_step
    told: dict[str, Any] = {
        "seconds_per_step": seconds,
        "plain_seconds_per_step": timed.median("plain") / steps,
        "ratio": timed.ratio("plain", "ours"),
        "largest_difference": max(abs(a - b) for a, b in zip(losses["plain"], losses["ours"], strict=True)),
        "tokens_per_second": tokens / seconds,
        "share_of_matrix_rate": operations(config) * tokens / seconds / matrix_rate(device),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        "parts_seconds": parts_of_a_step(config, state, forward, group) if not small else {},
    }
    print(
        f"{shape:8s} {1000 * seconds:10.1f} ms/step of {tokens:,} tokens, {told['tokens_per_second']:,.0f} tokens/s, "
        f"{told['ratio']:.2f}x plain, {100 * told['share_of_matrix_rate']:.0f} % of the device's matrix rate"
    )
    for name, part in told["parts_seconds"].items():
        print(f"{'':8s} {1000 * part:10.1f} ms  {name}")
    if told["peak_memory_bytes"] is not None:
        print(f"{'':8s} {told['peak_memory_bytes'] / 2**20:10,.0f} MiB at the peak, both models together")
    return told


def main() -> None:
    """Time both shapes."""
    parsed, device = parse(__doc__ or "", turns=3), pick_device()
    finish({shape: measure(shape, parsed, device) for shape in parsed.shapes}, device, parsed.json)


if __name__ == "__main__":
    main()

"""The commands that show and run nothing: info, fields, bytes."""

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from golf.artifact.byte_breakdown import byte_ledger, ledger_lines
from golf.artifact.pack import read_artifact
from golf.artifact.size_predictor import predicted_model_bytes
from golf.cli.inputs import read_config, stored_config
from golf.config.config import MICRO_BATCHES, RunConfig, nearest, to_plain
from golf.config.presets import find_preset
from golf.config.schedule import Row, make_plan
from golf.model.gepa import count_parameters
from golf.pipeline.bundle import bundle, code_bytes
from golf.pipeline.run_directory import RunDirectory
from golf.runtime.results import CheckpointCost
from golf.submission.code import CODE_FILE, shipped_code


@dataclasses.dataclass(frozen=True)
class FieldNote:
    """A field that --set can change."""

    path: str
    """Dotted name, as --set takes it."""
    value: Any
    """Its value as JSON has it."""
    note: str
    """Its description in golf/config/config.py."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetFacts:
    """What `info` shows."""

    preset: str
    parameters: int
    ttt_trainable_parameters: int
    code_raw_bytes: int
    code_minified_bytes: int
    code_bytes: int
    predicted_model_bytes: int
    predicted_artifact_bytes: int
    cap_bytes: int
    steps: int
    warmdown_start: int
    warmdown_shape: str
    qat_start: int | None
    loop_start: int | None
    averaging: str
    tokens_per_step: int
    micro_batches: int
    train_tokens: int
    plan: Mapping[int, Row]
    """By step: those at which something begins or ends."""


def info_command(arguments: argparse.Namespace) -> None:
    """Prints what a preset or a file is, without running it."""
    facts = preset_facts(arguments.preset, read_config(arguments))
    if arguments.json:
        plan = [{"step": step} | dataclasses.asdict(row) for step, row in facts.plan.items()]
        print(json.dumps(dataclasses.asdict(facts) | {"plan": plan}))
    else:
        print("\n".join(fact_lines(facts)))
        print(f"\nnext: python -m golf run {arguments.preset}")


def fields_command(arguments: argparse.Namespace) -> None:
    """Prints every field below the given name."""
    notes = field_notes(find_preset(arguments.preset), arguments.prefix)
    width = max(len(note.path) for note in notes)
    for note in notes:
        print(f"{note.path:{width}s}  {json.dumps(note.value)}  {note.note}")


def bytes_command(arguments: argparse.Namespace) -> None:
    """Prints where the bytes of an artifact go."""
    path = arguments.path / "artifact.golf" if arguments.path.is_dir() else arguments.path
    read_artifact(path)  # refuses, with the file's name, what is no model's artifact
    rows, lines = byte_ledger(path.read_bytes()), list[str]()
    lines += ledger_lines(rows)
    settings = path.with_name("config.json")
    if arguments.path.is_dir() and settings.is_file():
        code = shipped_code(stored_config(RunDirectory(arguments.path)))
        sizes = {"raw_bytes": code.raw_bytes, "minified_bytes": code.minified_bytes, "packed_bytes": code.num_bytes}
        rows[CODE_FILE] = {"elements": 0.0, **{name: float(size) for name, size in sizes.items()}}
        words = f"{code.raw_bytes:,} bytes as written, {code.minified_bytes:,} minified, {code.num_bytes:,} packed"
        lines.append(f"{CODE_FILE}: {words}; {path.stat().st_size + code.num_bytes:,} count together")
    print(json.dumps(rows) if arguments.json else "\n".join(lines))


def preset_facts(name: str, config: RunConfig) -> PresetFacts:
    """Returns sizes, the plan in brief and the predicted bytes."""
    schedule, plan = config.schedule, make_plan(config.schedule)
    frozen = 0 if config.ttt is None else config.ttt.frozen_blocks
    code, model = code_bytes(config), predicted_model_bytes(config)
    qat_start = next((step for step, row in enumerate(plan) if row.qat), None)
    loop_start = next((step for step, row in enumerate(plan) if row.looped), None) if config.model.loop else None
    falling = schedule.first_falling_step
    middle = (falling + schedule.steps) // 2
    turns = {0, schedule.momentum_steps, falling, middle, qat_start or 0, loop_start or 0, schedule.steps - 1}
    return PresetFacts(
        preset=name,
        parameters=count_parameters(config.model),
        ttt_trainable_parameters=count_parameters(config.model, frozen),
        code_raw_bytes=len(bundle(config, minified=False).encode()),
        code_minified_bytes=len(bundle(config).encode()),
        code_bytes=code,
        predicted_model_bytes=model,
        predicted_artifact_bytes=code + model,
        cap_bytes=config.cap_bytes,
        steps=schedule.steps,
        warmdown_start=falling,
        warmdown_shape=schedule.warmdown_shape,
        qat_start=qat_start,
        loop_start=loop_start,
        averaging=schedule.averaging,
        tokens_per_step=config.batch.tokens_per_step,
        micro_batches=MICRO_BATCHES,
        train_tokens=schedule.steps * config.batch.tokens_per_step,
        plan={step: plan[step] for step in sorted(turns) if step < schedule.steps},
    )


def fact_lines(facts: PresetFacts) -> Iterator[str]:
    """Yields a line for each fact, and the plan as a table."""
    for name, value in dataclasses.asdict(facts).items():
        if name != "plan":
            yield f"{name:26s} {value:,}" if isinstance(value, int) else f"{name:26s} {value}"
    over = facts.predicted_artifact_bytes - facts.cap_bytes
    yield f"{'predicted to fit':26s} " + (f"no, over by {over:,}" if over > 0 else f"yes, {-over:,} to spare")
    looped = facts.loop_start is not None
    yield f"\n{'step':>8s} {'LR scale':>9s} {'momentum':>9s} {'average':>9s}  QAT" + ("  loop" if looped else "")
    for step, row in facts.plan.items():
        numbers = f"{row.lr_scale:9.4f} {row.muon_momentum:9.4f} {row.average_weight:9.4f}"
        loop = f"   {'on' if row.looped else '-'}" if looped else ""
        yield f"{step:8d} {numbers}  {'on' if row.qat else '-':3s}{loop}".rstrip()


def save_line(cost: CheckpointCost) -> str:
    """Returns the line of what a training's saves cost and how often it saved: see `golf.train.checkpoint_policy`."""
    if cost.save_seconds is None:
        return "its state was never saved: it ended before a save was due"
    return f"a save of its state takes {cost.save_seconds:.2g} s: every {cost.save_interval_seconds:.0f} s"


def field_notes(config: RunConfig, prefix: str = "") -> list[FieldNote]:
    """Returns every field whose dotted name is `prefix` or lies below it; all for "".

    Raises: ValueError on an unknown prefix, with the nearest right name.
    """
    notes = list(_walk_fields(type(config), to_plain(config), ""))
    matching = [note for note in notes if not prefix or note.path == prefix or note.path.startswith(prefix + ".")]
    if not matching:
        names = {note.path.rsplit(".", depth)[0] for note in notes for depth in range(note.path.count(".") + 1)}
        above = prefix.rpartition(".")[0]
        beside = [name for name in names if name.rpartition(".")[0] == (above if above in names else "")]
        raise ValueError(f'unknown field "{prefix}"{nearest(prefix, beside)}')
    return matching


def _walk_fields(kind: type, values: dict[str, Any], path: str) -> Iterator[FieldNote]:
    hints = typing.get_type_hints(kind)
    for name, note in _descriptions()[kind.__name__].items():
        inner = next((h for h in (hints[name], *typing.get_args(hints[name])) if dataclasses.is_dataclass(h)), None)
        if isinstance(inner, type) and values[name] is not None:
            yield from _walk_fields(inner, values[name], f"{path}{name}.")
        else:
            yield FieldNote(path + name, values[name], note)


@cache
def _descriptions() -> dict[str, dict[str, str]]:
    """Returns class -> field -> the string below it in the source of golf/config/config.py."""
    descriptions: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[RunConfig.__module__])).body:
        if isinstance(node, ast.ClassDef):
            fields = descriptions.setdefault(node.name, {})
            for field, text in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    note = ast.literal_eval(text.value) if isinstance(text, ast.Expr) else ""
                    fields[field.target.id] = " ".join(note.split())
    return descriptions

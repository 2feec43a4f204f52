"""What a submission.json claims: its figures, of all runs together and of each seed, and the names that they have.

The names are those of the files below `records/` of openai/parameter-golf.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from golf.compliance.points import Cause
from golf.submission.record_folder.numbers import ParsedNumber

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value of somebody's JSON."""
JsonObject = dict[str, Json]
FILE = "submission.json"
ALSO_CALLED = {
    "author": ("authors", "submitter", "user", "username", "team", "contributor"),
    "github_id": (
        *("github", "github_username", "github_user", "github_handle", "github_login", "submitter", "username"),
    ),
    "name": ("title", "run_name", "submission_name", "run_id", "submission"),
    "date": ("created_at", "timestamp", "submission_date"),
}
"""Other names of texts that are required."""
NUMBERS: dict[str, tuple[str, ...]] = {
    "val_bpb": ("val_bpb", "mean_val_bpb", "val_bpb_mean", "bpb", "final_val_bpb", "mean_bpb", "bpb_mean"),
    "val_loss": ("val_loss", "mean_val_loss", "val_loss_mean", "final_val_loss"),
    "val_bpb_std": ("val_bpb_std", "std_val_bpb", "val_bpb_stddev", "bpb_std", "std_bpb", "std"),
    "val_loss_std": ("val_loss_std", "std_val_loss", "val_loss_stddev"),
    "bytes_total": ("bytes_total", "total_bytes", "submission_bytes", "total_submission_bytes"),
    "bytes_code": ("bytes_code", "code_bytes", "code_size_bytes", "code_size"),
    "bytes_model": ("bytes_model", "model_bytes", "compressed_model_bytes", "model_size_bytes", "model_ptz_bytes"),
    "bytes_either": (*("artifact_bytes", "artifact_size_bytes", "bytes_artifact", "artifact_size", "artifact"),),
    "bytes_mean": ("artifact_bytes_mean", "bytes_total_mean", "mean_artifact_bytes"),
    "bytes_max": ("artifact_bytes_max", "bytes_total_max", "max_artifact_bytes"),
    "steps_mean": ("train_steps_mean", "steps_mean", "mean_steps"),
    "steps": (
        *("steps", "step_stop", "steps_completed", "training_steps", "train_steps", "num_steps", "step_count"),
        "final_step",
    ),
    "train_seconds": (
        *("train_seconds", "training_time_seconds", "train_time_seconds", "wallclock_seconds", "train_time_s"),
        *("train_wallclock_s", "training_seconds", "training_wallclock_seconds", "train_wallclock_seconds"),
    ),
    "train_ms": ("train_time_ms", "training_time_ms", "train_wallclock_ms", "wallclock_ms", "train_ms", "stop_time_ms"),
    "eval_seconds": (
        *("eval_seconds", "eval_time_seconds", "eval_time_s", "ttt_eval_time_s", "ttt_time_s", "total_eval_time_s"),
    ),
    "eval_ms": ("eval_time_ms", "ttt_eval_time_ms", "eval_ms"),
    "val_tokens": ("val_tokens", "validation_tokens", "target_tokens"),
    "p_value": ("p_value", "p", "pvalue", "p_val", "welch_p", "p_value_one_sided", "t_test_p"),
}
"""A figure's names; "artifact_bytes" is the model with the code for some and without for others."""
SIZES = ("bytes_total", "bytes_code", "bytes_model", "bytes_either", "bytes_mean", "bytes_max")
BY_SEED = (
    *("seed_results", "seed_scores", "results_by_seed", "per_seed", "per_seed_results", "seed_runs", "runs", "results"),
    *("seeds", "individual_results", "seed_metrics", "seed_val_bpb", "seed_val_bpbs", "val_bpb_by_seed", "bpb_by_seed"),
    *("per_seed_val_bpb", "val_bpb_per_seed", "bpb_per_seed", "three_seed_results", "seed_bpb", "seed_bpbs"),
)
"""Fields that hold results by seed."""
_BEFORE, _AFTER = r"^(?:(?:all|seed|per_seed|individual)_)*", r"(?:_(?:per|by|all|each))?(?:_?seeds?|_values|_list)?$"
LISTS = {
    "val_bpb": re.compile(rf"{_BEFORE}(?:val_)?bpbs?{_AFTER}"),
    "val_loss": re.compile(rf"{_BEFORE}val_loss(?:es)?{_AFTER}"),
    "bytes_either": re.compile(rf"{_BEFORE}(?:artifact_)?(?:bytes|sizes?)(?:_total)?{_AFTER}"),
}
"""Lists beside a list of seeds, in its order."""
HARDWARE = (
    *("hardware", "platform", "gpu", "gpus", "device", "devices", "compute", "machine", "gpu_type", "accelerator"),
    "hw",
)
"""Fields that name the machine, the usual one first."""
OTHERS = re.compile(
    r"baseline|previous|comparison|compared|parent|base_|prior|reference|upstream|sota|merged|(?:^|_)pr_?\d|^vs_|_vs_|"
    r"versus|ablat|leaderboard|attribution|lineage",
    re.IGNORECASE,
)
"""Names of fields about other work than the claimed runs."""


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it."""

    file: str = FILE
    """Name of the file."""
    fields: Mapping[str, Json] = field(default_factory=dict)
    """The object as it is in the file."""
    numbers: Mapping[str, ParsedNumber] = field(default_factory=dict)
    """Figures by the first names of NUMBERS."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The file's own names of the figures."""
    seeds: tuple[int, ...] = ()
    """The seeds it lists, in its order."""
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    """The figures of each seed."""
    causes: tuple[Cause, ...] = ()
    """What is wrong with its form."""

    def name_of(self, name: str) -> str:
        """Returns the file's own name of a figure."""
        return self.names.get(name, name)

    def value(self, name: str) -> float | None:
        """Returns a figure; None without it."""
        return self.numbers[name].value if name in self.numbers else None

    def near(self, name: str, number: ParsedNumber | None) -> bool:
        """Returns whether a figure is known, and is `number` as far as both were written out."""
        return name in self.numbers and number is not None and self.numbers[name].near(number.value, number.unit)

    @property
    def claims_nothing(self) -> bool:
        """Whether it has no result at all, so that nothing says which runs are meant."""
        return "val_bpb" not in self.numbers and not self.seeds and not self.by_seed

    def text(self, name: str) -> str | None:
        """Returns a text field; None where it is missing or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    @property
    def hardware(self) -> dict[str, str]:
        """The fields that name the machine, as text, the most usual name first."""
        texts = {name: flat_text(self.fields[name]) for name in HARDWARE if self.fields.get(name)}
        return {name: text for name, text in texts.items() if text}


def brief(value: Json) -> str:
    """Returns a value in few words; one that holds others may be too deep for more."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}" if any(isinstance(item, (dict, list)) for item in value) else repr(value)[:60]
    return repr(value)[:40]


def flat_text(value: Json) -> str:
    """Returns a text, or the texts and numbers in a small object or list, in their order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) <= 20:
        return " ".join(f"{name} {flat_text(item)}" for name, item in value.items() if not isinstance(item, dict))[:300]
    if isinstance(value, list) and len(value) <= 20:
        return ", ".join(flat_text(item) for item in value if not isinstance(item, (dict, list)))[:300]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""

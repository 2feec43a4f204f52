"""The names that figures have in the submission.json files below `records/` of openai/parameter-golf."""

import re

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

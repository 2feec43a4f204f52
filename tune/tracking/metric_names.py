"""Names of MLflow's metrics, of sweeps and seed studies alike: MLflow groups its charts by what is before the slash."""

import re

from golf.runtime.results import LADDER, TTT

SCORE, NATS = "bpb", "nats"
"""The score of a trial: its last rung, in bits per byte and in nats per token."""
LADDER_CURVE = "bpb/ladder"
"""Metric with one step for each rung of the ladder from below, so that MLflow draws it as a line."""
ARTIFACT, MARGIN, POINTS_FAILED = "bytes/artifact", "bytes/margin", "check/failed"
TRAIN_LOSS, TTT_RUNNING = "loss/train", "bpb/ttt_running"
PARTIAL = "bpb/partial_"
"""Begins the score of the first chunks of a rung, by which trials are screened."""
_OWN = {
    "val_bpb": "bpb/validation",
    "val_loss": "loss/validation",
    f"{TTT}_bpb": TTT_RUNNING,  # the rung's own score is of the whole stream
}
PROGRESS = frozenset(f"{rung}_bpb" for rung in LADDER if rung != TTT)
"""Curves that a trial reports while it is scored and that the ledger does not keep: the BPB of single chunks."""
_SECTIONS = ("bpb", "loss", "bytes", "seconds", "tokens")
_CHARACTERS = 250
"""MLflow's limit for a key."""


def metric_name(name: str) -> str:
    """Returns MLflow's name of a curve or of a number of a workload: `train_loss` is `loss/train`."""
    for section in _SECTIONS:
        subject = name.removesuffix(f"_{section}")
        if subject not in ("", name):
            return key_of(_OWN.get(name, f"{section}/{subject}"))
    return key_of(name)


def key_of(name: str) -> str:
    """Returns `name` with only the characters that MLflow takes in a key."""
    return re.sub(r"[^\w.\- :/]", "_", name, flags=re.ASCII)[:_CHARACTERS]

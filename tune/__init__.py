"""Orchestration over Ray and MLflow; imports golf, never the other way.

Ray reads these settings once, when it is first imported, so they are made here, before any module of `tune` imports it.
A user's own settings stand. All but the last two only spare processes and reports that nobody asked for; notices of
nodes that are taken away are looked for in `tune.cluster.train_workers`. MLflow and matplotlib ask for the home folder
at their import, too: they get by without one, but not without its name.
"""

import importlib
import logging
import os
from pathlib import Path
from typing import Any

for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # a sweep answers Ctrl-C itself: tune.cli.session
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # the default of 2 s is waited for by every report
}.items():
    os.environ.setdefault(_name, _value)

try:
    _home = Path.home()
except RuntimeError:  # HOME is not set, and the user is not in the system's list of users
    _home = Path("/nonexistent")
    os.environ["HOME"] = str(_home)
if not os.access(_home, os.W_OK):
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which says at length that its cache is a temporary one


def __getattr__(name: str) -> Any:
    """Returns one of the three verbs of `tune.api`, whose imports take seconds, when it is asked for."""
    if name in ("sweep", "seeds", "load"):
        return getattr(importlib.import_module("tune.api"), name)
    raise AttributeError(f"module 'tune' has no attribute {name!r}")

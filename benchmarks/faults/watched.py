"""run_sweep.py with its work noted: `python -m benchmarks.faults.watched` takes the same arguments."""

import sys

import run_sweep
import tune.cluster.sweep
from benchmarks.faults.work import watched_trial

if __name__ == "__main__":
    tune.cluster.sweep.run_trial = watched_trial
    sys.exit(run_sweep.sweep())

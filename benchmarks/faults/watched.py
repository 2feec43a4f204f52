"""run_sweep.py with its work noted: `python -m benchmarks.faults.watched` takes the same arguments."""

import sys

import run_sweep
import tune.sweep
from benchmarks.faults.work import watched_trial

if __name__ == "__main__":
    tune.sweep.run_trial = watched_trial
    sys.exit(run_sweep.main(sys.argv[1:]))

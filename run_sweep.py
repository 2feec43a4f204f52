"""Runs a sweep: python run_sweep.py --help"""

import sys

from tune.cli.main import sweep

if __name__ == "__main__":
    sys.exit(sweep())

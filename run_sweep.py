"""Runs a sweep: python run_sweep.py --help"""

import sys

from tune.cli.run_sweep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

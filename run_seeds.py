"""Runs one configuration under several seeds: python run_seeds.py --help"""

import sys

from tune.cli.main import seeds

if __name__ == "__main__":
    sys.exit(seeds())

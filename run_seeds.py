"""Runs one configuration under several seeds: python run_seeds.py --help"""

import sys

from tune.cli.run_seeds import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

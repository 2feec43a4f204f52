"""`python -m tune`: golf-sweep."""

import sys

from tune.cli.main import sweep

if __name__ == "__main__":
    sys.exit(sweep())

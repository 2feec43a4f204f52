"""Seed studies: their runs, statistics, verdicts and comparisons."""

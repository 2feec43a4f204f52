"""The commands that run and show many runs: parse, call, print."""

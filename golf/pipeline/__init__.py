"""The stages of a run, its directory, the one-process runner and the counted one-file code."""

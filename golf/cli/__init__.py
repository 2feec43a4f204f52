"""The commands of `python -m golf`: parse, call, print."""

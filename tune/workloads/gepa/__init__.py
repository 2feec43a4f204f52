"""Trials of the GEPA trainer: its stages, their outcome, where they resume."""

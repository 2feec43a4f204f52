"""The GEPA model and its conversion from and to published checkpoints."""

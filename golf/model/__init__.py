"""The GEPA model, its layers, and its compilation."""

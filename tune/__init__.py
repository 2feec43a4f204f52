"""Sweeps and seed studies over `golf` with Ray and MLflow; imports golf, never the other way."""

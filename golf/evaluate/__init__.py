"""Scores: windows, sliding-window scoring, score-first test-time training, evaluations that resume."""

"""Windows, sliding-window scoring and score-first test-time training."""

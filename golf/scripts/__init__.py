"""Other people's training scripts and their logs: what a script reads, needs and prints; nothing of it is run."""

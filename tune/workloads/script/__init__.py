"""Anybody's training script as a workload: run as it is, followed by its output, judged by what that says."""

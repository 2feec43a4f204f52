"""What kills, full disks and cut networks do to a sweep; `python -m benchmarks.faults` tells."""

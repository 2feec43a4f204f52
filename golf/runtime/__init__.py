"""What every part of a run stands on: the process group, files that appear whole, tensors on disk, kept results."""

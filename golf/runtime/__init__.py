"""Process group, files that appear whole, tensors on disk, typed results."""

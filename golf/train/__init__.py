"""The optimisers, the averaged weights, the resumable state and the one training loop."""

"""The trainer of size-constrained language models: text in, scored artifact under a byte cap out."""

"""From text to tokens: shards, batches, bytes per token, datasets, the built-in corpus and the FineWeb download."""

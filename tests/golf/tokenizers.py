"""Tokenizers of every kind, trained without this project's code."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece


def trained(path: Path, texts: Sequence[str], **options: Any) -> Path:
    """A small tokenizer at `path` that keeps every byte of a text but for the trainer's `options` given."""
    model = io.BytesIO()
    kept: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    kept |= {"byte_fallback": True, "model_type": "bpe", "vocab_size": 400, "num_threads": 1, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, **{**kept, **options})
    path.write_bytes(model.getvalue())
    return path

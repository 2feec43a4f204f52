"""A sweep's best model beside general compressors on the same validation text, in bits per byte.

The text is decoded from the validation shards; the model's figure is the ledger's. The compressors know nothing of the
training text, the model does: the comparison shows scale, not merit. Prints a table and, last, one JSON object.
"""

import argparse
import json
import sys
from pathlib import Path

import sentencepiece

from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import open_dataset
from tune.cli.compressors import bits_per_byte
from tune.cli.progress import best_of
from tune.records.layout import Storage
from tune.records.ledger import Ledger


def validation_text(data: Path) -> bytes:
    """The validation documents' text, as many bytes as the BPB of a model counts."""
    dataset = open_dataset(data)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(next(data.glob("*.model"))))
    boundary = int(dataset.validation[0])
    parts: list[list[int]] = [[]]
    for token in dataset.validation.tolist():
        if token == boundary:
            parts.append([])
        else:
            parts[-1].append(token)
    text = b"".join(tokenizer.decode(part).encode() for part in parts)
    counted = int(dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]).sum())
    assert len(text) == counted, (len(text), counted)
    return text


def main(arguments: list[str]) -> int:
    """Compare."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="a sweep's storage (%(default)s)")
    parser.add_argument("--sweep", default="demo", help="its name (%(default)s)")
    parsed = parser.parse_args(arguments)
    storage = Storage(parsed.storage.resolve())
    best = best_of(Ledger(storage.ledger).latest(parsed.sweep))
    if best is None:
        print(f"error: no finished trial of sweep {parsed.sweep} in {storage.ledger}; run make sweep", file=sys.stderr)
        return 2
    text = validation_text(storage.data / CORPUS_NAME)
    figures = bits_per_byte(text)
    figures[f"best model ({best.name})"] = float(best.bpb or 0.0)
    for name, bpb in sorted(figures.items(), key=lambda item: -item[1]):
        print(f"{bpb:8.4f} bits per byte  {name}")
    print(json.dumps({"text_bytes": len(text), "bits_per_byte": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The commands that make or download a dataset."""

import argparse
from pathlib import Path

from golf.data.corpus import CORPUS_DATA
from golf.data.fineweb import download_fineweb
from golf.data.text import prepare_corpus, prepare_text, read_documents


def prepare_command(arguments: argparse.Namespace) -> None:
    """Tokenises text into a dataset's folder."""
    if arguments.text:
        folder = arguments.out or Path("data/text")
        prepare_text(read_documents(arguments.text), folder, "text")
    else:
        folder = arguments.out or CORPUS_DATA
        prepare_corpus(folder)
    print(f"next: python -m golf run demo --data {folder}")


def fineweb_command(arguments: argparse.Namespace) -> None:
    """Downloads the competition's data."""
    download_fineweb(arguments.out, arguments.train_shards)
    print(f"the shards are in {arguments.out}\nnext: python -m golf run pr598 --data {arguments.out}")

"""The commands that make or download a dataset."""

import argparse
from dataclasses import replace
from pathlib import Path

from golf.data.corpus import CORPUS_DATA
from golf.data.fineweb import download_fineweb
from golf.data.text import prepare_corpus, prepare_text, read_documents
from golf.data.variants import VARIANTS

_PRESETS = {"sp1024": "pr598", "sp4096": "pr1493 --set model.vocab_size=4096", "sp8192": "pr1493"}


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
    variant = VARIANTS[arguments.variant]
    if arguments.repository:
        variant = replace(variant, repository=arguments.repository)
    folder = arguments.out or variant.folder
    download_fineweb(folder, arguments.train_shards, variant, jobs=arguments.jobs)
    preset = _PRESETS[arguments.variant]
    print(f"the shards are in {folder}\nnext: python -m golf run {preset} --data {folder}")

"""The shipped `train_gpt.py` in its forms, and what it needs to run.

The packed form is shipped and counted; the others are for information.
"""

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf.config.config import RunConfig
from golf.pipeline.bundle import COUNTED, bundle, counted_code
from golf.submission.markdown import block
from golf.submission.record_folder.sources import read_source

CODE_FILE = "train_gpt.py"
"""The shipped and counted file."""
OPTIONAL = {"zstandard": "zstd"}
"""Packages that only one codec needs, with the codec."""
LOWEST = {"torch": "2.6", "numpy": "1.26", "sentencepiece": "0.2", "zstandard": "0.22"}
"""The lowest versions that have what the program calls: a machine keeps its own torch."""
SOURCE_TITLE = "# The source of train_gpt.py, for readers"


@dataclass(frozen=True)
class ShippedCode:
    """The file of a submission."""

    data: bytes
    """The shipped and counted form."""
    raw_bytes: int
    """Bytes of the joined modules as they were written, with docstrings and types."""
    minified_bytes: int
    """Bytes of the text that it unpacks and runs."""

    @property
    def num_bytes(self) -> int:
        """The bytes that count."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """SHA-256 of the shipped file."""
        return hashlib.sha256(self.data).hexdigest()


def study_code(config: RunConfig, folder: Path) -> bytes:
    """Returns the file for `config`: the one that the study's folder keeps, where it packs the same program.

    Another version of liblzma may pack it into other bytes than the seeds counted.
    """
    made, path = counted_code(config), folder / CODE_FILE
    kept = path.read_bytes() if path.is_file() else made
    return kept if is_same_program(kept, made) else made


def is_same_program(one: bytes, other: bytes) -> bool:
    """Returns whether two shipped files differ at most in how the same text is packed."""
    lines, (other_first, _, *other_rest) = one.splitlines(), other.splitlines()
    first, text, rest = b"".join(lines[:1]), b"".join(lines[1:2]), lines[2:]
    same = (first, rest) == (other_first, other_rest) and re.fullmatch(rb's="[!#-~]*"', text) is not None
    return same and read_source(one).layers == read_source(other).layers


def shipped_code(config: RunConfig, folder: Path | None = None) -> ShippedCode:
    """Returns the file for `config` and its sizes; `folder`: of the study, see `study_code`."""
    data = counted_code(config) if folder is None else study_code(config, folder)
    return ShippedCode(data, len(bundle(config, minified=False).encode()), len(bundle(config).encode()))


def packages_of(source: str, codec: str) -> tuple[str, ...]:
    """Returns the packages outside the standard library that a program imports, also packed in it, sorted.

    Args:
        source: of the program.
        codec: of the artifact; what only other codecs need is left out.
    """
    seen = read_source(source.encode())
    names = (seen.imports | seen.optional) - sys.stdlib_module_names
    return tuple(sorted(name for name in names if OPTIONAL.get(name, codec) == codec))


def requirements_of(packages: tuple[str, ...]) -> str:
    """Returns requirements.txt: a line for each package with the lowest version that will do."""
    return "".join(f"{name}>={LOWEST[name]}\n" for name in packages)


def versions_of(packages: tuple[str, ...], versions: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions of what the program uses."""
    return {name: versions[name] for name in ("python", *packages) if name in versions}


def readable_source() -> str:
    """Returns the modules that the shipped file is made of, as they were written, in one Markdown document.

    It is no Python file, so that nothing imports it and nothing counts it as code.
    """
    root = Path(__file__).resolve().parents[2]
    paths = [Path(*module.split(".")).with_suffix(".py") for module in COUNTED]
    text = (
        "These are the modules of golf-tune from which `train_gpt.py` is made; it holds, packed, what its "
        "configuration uses of them. `train_gpt.py` is what runs and what counts; nothing here is read by it."
    )
    parts = [f"## {path.as_posix()}\n\n{block((root / path).read_text(), 'python')}" for path in paths]
    return "\n\n".join([SOURCE_TITLE, text, *parts]) + "\n"

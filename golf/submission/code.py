"""The shipped `train_gpt.py` in its forms, and what it needs to run.

The minified form is shipped and counted; the others are for information.
"""

import base64
import hashlib
import lzma
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf.config.config import RunConfig
from golf.pipeline.bundle import COUNTED, bundle, counted_code
from golf.submission.markdown import block
from golf.submission.record_folder.sources import read_source

OPTIONAL = {"zstandard": "zstd"}
"""Packages that only one codec needs, with the codec."""
LOWEST = {"torch": "2.6", "numpy": "1.26", "sentencepiece": "0.2", "zstandard": "0.22"}
"""The lowest versions that have what the program calls: a machine keeps its own torch."""
SOURCE_TITLE = "# The source of train_gpt.py, for readers"
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


@dataclass(frozen=True)
class ShippedCode:
    """The file of a submission."""

    data: bytes
    """The shipped and counted form."""
    raw_bytes: int
    """Bytes of the joined modules before they are minified, with docstrings and types."""
    packed_bytes: int
    """Bytes of a file that unpacks the shipped one and runs it."""

    @property
    def num_bytes(self) -> int:
        """The bytes that count."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """SHA-256 of the shipped file."""
        return hashlib.sha256(self.data).hexdigest()


def shipped_code(config: RunConfig) -> ShippedCode:
    """Returns the file for `config` and its sizes."""
    data = counted_code(config)
    return ShippedCode(data, len(bundle(config, minified=False).encode()), len(packed_code(data)))


def packed_code(data: bytes) -> bytes:
    """Returns a Python file that unpacks `data`, the source of a program, and runs it."""
    squeezed = lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA)
    text = base64.b85encode(squeezed).decode()
    unpack = f'lzma.decompress(base64.b85decode("{text}"),3,None,{_LZMA!r})'
    return f"import base64,lzma\nexec({unpack})\n".encode()


def packages_of(source: str, codec: str) -> tuple[str, ...]:
    """Returns the packages outside the standard library that a program imports, sorted.

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
        "These are the modules of golf-tune from which `train_gpt.py` is joined; it leaves out what it never calls, "
        "docstrings and types. `train_gpt.py` is what runs and what counts; nothing here is read by it."
    )
    parts = [f"## {path.as_posix()}\n\n{block((root / path).read_text(), 'python')}" for path in paths]
    return "\n\n".join([SOURCE_TITLE, text, *parts]) + "\n"

"""The shipped `train_gpt.py` in all its forms, and what it needs to run.

A configuration enters; the file's bytes, its sizes and its packages leave. What is shipped and counted is the minified
form; the others are for information.
"""

import ast
import base64
import hashlib
import lzma
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from golf.artifact.bundle import bundle, counted_code
from golf.config import RunConfig

OPTIONAL = {"zstandard": "zstd"}
"""Packages that only one codec needs."""
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


@dataclass(frozen=True)
class ShippedCode:
    """The file of a submission."""

    data: bytes
    """As it is shipped and counted."""
    raw_bytes: int
    """Of the joined modules before they are minified, docstrings and types with them."""
    packed_bytes: int
    """Of a file that unpacks the shipped one and runs it."""

    @property
    def num_bytes(self) -> int:
        """Bytes that count."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """Hash of the shipped file."""
        return hashlib.sha256(self.data).hexdigest()


def shipped_code(config: RunConfig) -> ShippedCode:
    """The file for `config` and its sizes."""
    data = counted_code(config)
    return ShippedCode(data, len(bundle(config, minified=False).encode()), len(packed_code(data)))


def packed_code(data: bytes) -> bytes:
    """A Python file that unpacks `data`, the source of a program, and runs it."""
    squeezed = lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA)
    text = base64.b85encode(squeezed).decode()
    unpack = f'lzma.decompress(base64.b85decode("{text}"),3,None,{_LZMA!r})'
    return f"import base64,lzma\nexec({unpack})\n".encode()


def packages_of(source: str, codec: str) -> tuple[str, ...]:
    """Names of the packages outside the standard library that a program imports, sorted.

    Args: codec: of the artifact; what only other codecs need is left out.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return tuple(sorted(name for name in found - sys.stdlib_module_names if OPTIONAL.get(name, codec) == codec))


def requirements_of(packages: tuple[str, ...], versions: Mapping[str, str]) -> str:
    """requirements.txt: the packages with the versions that ran, one a line; unpinned where that is not known.

    The local part of a version, such as "+cpu", says which build it was and is on no index; the pin takes any build.
    """
    lines = []
    for name in packages:
        version = re.sub(r"\+.*", "", versions.get(name, ""))
        lines.append(f"{name}=={version}" if version else name)
    return "\n".join(lines) + "\n"

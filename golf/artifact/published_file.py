"""The file of a published model: its compression, and the value that torch.save wrote, on the CPU.

Nothing in a file is executed, and no file unpacks to more than a limit. The error for an unreadable file says what it
is in our own wording: PyTorch's advises to load such a file unsafely.
"""

import contextlib
import io
import pickle
import re
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import torch

from golf.artifact.container import ARTIFACT_MAGIC
from golf.artifact.streams import MARKED_STREAMS, RAW_LZMA2, StreamError, inflate

try:
    import brotli
except ModuleNotFoundError:
    brotli = None
try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None  # type: ignore[assignment]

LARGEST_BYTES = 1 << 30
"""Files that are larger, or unpack to more, are refused."""
_MOST_LAYERS = 3
"""Layers of compression around each other."""
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError),
    *(pickle.UnpicklingError, struct.error, MemoryError, OverflowError, zipfile.BadZipFile),
)
"""Exceptions that torch.load raises on damaged files with weights_only."""
_KNOWN = "zstd, zlib, gzip, lzma, torch's zip or pickle" + (", brotli" if brotli is not None else "")
_UNKNOWN = f"in no container that is known ({_KNOWN})" + (
    ": unpack it with the script that packed it"
    if brotli is not None
    else ", perhaps brotli: pip install brotli, or unpack it with the script that packed it"
)
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(begin, re.DOTALL | re.IGNORECASE), description)
    for begin, description in (
        (
            rb"version https://git-lfs",
            "a Git LFS pointer, not the file that it stands for: fetch that with git lfs pull",
        ),
        (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|!--)", "a web page, not a model: download the file itself"),
        (rb".{8}\{\s*\"", "a safetensors file, which is not read: write its tensors with torch.save"),
        (
            re.escape(ARTIFACT_MAGIC),
            "an artifact of this project: score it with `python -m golf score --artifact FILE --preset demo`",
        ),
        (rb"\x93NUMPY", "a numpy array, not named tensors"),
        (rb"GGUF", "a GGUF file, which is not read"),
        (rb"\x89HDF\r\n", "an HDF5 file, which is not read"),
        (rb".{257}ustar", "a tar archive: unpack it and give the model's file"),
        (rb"(\xef\xbb\xbf)?([\t\n\r\x20-\x7e]{256}|[\t\n\r\x20-\x7e]+\Z)", "a text, not a model"),
    )
)
"""How files begin that torch.save did not write, and what they are."""


def load_model_file(data: bytes) -> Any:
    """Returns the value in the bytes of a file that torch.save wrote, compressed or not; tensors are on the CPU.

    Raises: ValueError that says what the bytes are otherwise.
    """
    packed_with: list[str] = []
    raw = data
    while len(packed_with) < _MOST_LAYERS and (layer := _unpacked(raw)) is not None:
        name, raw = layer
        packed_with.append(name)
    raw = _unshuffled(raw)
    refusal = _refusal(raw)
    if refusal is None:
        value, refusal = _load_plain(raw)
        if refusal is None:
            return value
    raise ValueError(f"compressed with {', then '.join(packed_with)}: {refusal}" if packed_with else refusal)


def _unpacked(data: bytes) -> tuple[str, bytes] | None:
    """Returns the compressor's name and what it packed; None where no known one did."""
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return "zstd", _unzstd(data)
    for stream in MARKED_STREAMS:
        if stream.matches(data):
            return stream.name, inflate(data, stream, LARGEST_BYTES)
    if RAW_LZMA2.matches(data):
        with contextlib.suppress(StreamError):
            return RAW_LZMA2.name, inflate(data, RAW_LZMA2, LARGEST_BYTES)
    if brotli is not None and _refusal(_unshuffled(data)) == _UNKNOWN:
        raw = _unbrotli(data)
        return None if raw is None else ("brotli", raw)
    return None


def _unbrotli(data: bytes) -> bytes | None:
    """Returns what brotli packed; None where it did not, which its streams do not show at their beginning."""
    decoder, raw, rest = brotli.Decompressor(), bytearray(), data
    try:
        while not decoder.is_finished():
            part = decoder.process(rest, output_buffer_limit=1 << 20)
            if not part and not rest:
                return None  # cut off
            rest = b""
            raw += part
            _check_size(len(raw))
    except brotli.error:
        return None
    return bytes(raw)


def _unzstd(data: bytes) -> bytes:
    if zstandard is None:
        raise ValueError("compressed with zstd: reading it needs the package zstandard: pip install zstandard")
    raw = bytearray()
    try:
        stated_bytes = zstandard.get_frame_parameters(data).content_size
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while block := reader.read(1 << 20):
                raw += block
                _check_size(len(raw))
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed with zstd, and damaged ({error})") from error
    if stated_bytes not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) and len(raw) < stated_bytes:
        raise ValueError("compressed with zstd, and cut off before its end: get it again")
    return bytes(raw)


def _check_size(size: int) -> None:
    if size > LARGEST_BYTES:
        raise ValueError(f"it unpacks to more than {LARGEST_BYTES} bytes")


def _unshuffled(data: bytes) -> bytes:
    """Undoes a record's byte shuffle (mark, stride, then every stride-th byte), where there is one."""
    stride = data[4] if data[:4] == b"BSHF" and len(data) > 5 else 0
    if stride < 2:
        return data
    shuffled = np.frombuffer(data, np.uint8, offset=5)
    ordered, begin = np.empty_like(shuffled), 0
    for first in range(stride):
        size = len(ordered[first::stride])
        ordered[first::stride] = shuffled[begin : begin + size]
        begin += size
    return ordered.tobytes()


def _refusal(data: bytes) -> str | None:
    """Returns why these bytes are not given to torch.load; None where torch.save may have written them."""
    if data[:4] == b"PK\x03\x04":
        return _refusal_of_zip(data)
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return None
    if not data.strip(b"\0"):
        return f"{len(data):,} bytes of zeros, an unfinished download" if data else "empty, an unfinished download"
    kind = next((kind for begin, kind in _KINDS if begin.match(data)), None)
    return kind or _UNKNOWN


def _refusal_of_zip(data: bytes) -> str | None:
    """Returns the same for a zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return "a zip archive without the directory at its end: cut off or damaged; get it again"
    _check_size(sum(entry.file_size for entry in entries))
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        return "a TorchScript program, which is not run: write its weights with torch.save"
    return None if "data.pkl" in names else "a zip archive that torch.save did not write"


def _load_plain(data: bytes) -> tuple[Any, str | None]:
    """Returns the value that torch.save wrote, and why it cannot be read otherwise.

    The one place where a pickle is read, weights only: other people's files leave no other choice.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), None
    except _UNREADABLE as error:
        match = re.search(r"\b(?:GLOBAL|global|class)\s+['\"]?([A-Za-z_][\w.]{0,80}\.[\w.]{1,80})", str(error))
    # Not in the handler: a traceback would show PyTorch's message as the cause.
    if match is not None:
        return None, (
            f"it holds an object of {match[1]}, which only running code could make, and none of a file is ever run: "
            "ask for the tensors alone"
        )
    return None, "damaged, or more than tensors and plain values"

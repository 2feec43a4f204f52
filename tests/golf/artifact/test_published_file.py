"""Files of published models: every compression is read, and what is no model's file is named for what it is."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import numpy as np
import pytest
import safetensors.torch
import torch
import zstandard

from golf.artifact import published_file as model_file
from golf.artifact.published_file import load_model_file
from golf.artifact.published_names import read_published
from golf.cli.main import main

WEIGHTS = {"a": torch.arange(3000.0).view(60, 50)}
LZMA2 = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


def saved(value: object = WEIGHTS) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def shuffled(data: bytes, stride: int = 2) -> bytes:
    """The byte shuffle of the records from April on."""
    return b"BSHF" + bytes([stride]) + b"".join(data[first::stride] for first in range(stride))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.ZstdCompressor().compress,
    "zlib": zlib.compress,
    "zlib, smaller window": lambda data: (
        (packer := zlib.compressobj(9, zlib.DEFLATED, 12)).compress(data) + packer.flush()
    ),
    "gzip": gzip.compress,
    "brotli": brotli.compress,
    "brotli of shuffled bytes": lambda data: brotli.compress(shuffled(data)),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma alone": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "raw LZMA2": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=LZMA2),
    "shuffled, then xz": lambda data: lzma.compress(shuffled(data)),
    "shuffled by four": lambda data: zlib.compress(shuffled(data, 4)),
    "zstd in gzip": lambda data: gzip.compress(zstandard.ZstdCompressor().compress(data)),
}


@pytest.mark.parametrize("kind", PACKED)
def test_every_compression_is_read(kind: str) -> None:
    """Fault: a file that the standard library can unpack is called damaged."""
    assert torch.equal(load_model_file(PACKED[kind](saved()))["a"], WEIGHTS["a"])


def test_a_shuffle_of_any_length_is_undone() -> None:
    """Fault: the last bytes are lost or exchanged where the stride does not divide their number."""
    whole = saved()
    for length in range(len(whole), len(whole) + 4):
        data = whole + bytes(length - len(whole))
        for stride in (2, 3, 4):
            assert model_file._unshuffled(shuffled(data, stride)) == data


@pytest.mark.parametrize("kind", [kind for kind in PACKED if "shuffled" not in kind])
def test_nothing_unpacks_beyond_the_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a small file fills the memory."""
    bomb = PACKED[kind](bytes(1 << 24))
    monkeypatch.setattr(model_file, "LARGEST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        load_model_file(bomb)


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_that_is_cut_off_says_so(kind: str) -> None:
    """Fault: an unfinished download is taken for a file of another kind, or for one that can be loaded otherwise."""
    data = PACKED[kind](saved())
    wanted = "in no container" if kind == "raw LZMA2" or "brotli" in kind else "cut off"
    with pytest.raises(ValueError, match=wanted):
        load_model_file(data[: len(data) * 2 // 3])


def zipped(**entries: bytes) -> bytes:
    """A deflated zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def scripted() -> bytes:
    """A TorchScript program, as far as it is looked at."""
    return zipped(**{"m/data.pkl": b"", "m/constants.pkl": b""})


def npz() -> bytes:
    """numpy's archive."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


def npy() -> bytes:
    """numpy's array."""
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def tarred() -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("final_model.pt")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
    return buffer.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "zeros": (lambda: bytes(100), "zeros"),
    "brotli cut off": (lambda: brotli.compress(saved())[:-40], "no container that is known"),
    "brotli that holds more than is allowed": (lambda: brotli.compress(bytes((1 << 30) + 1), quality=1), "more than"),
    "a web page": (lambda: b"\n<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "an error of a bucket": (lambda: b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "web page"),
    "an LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "safetensors": (lambda: safetensors.torch.save({"a": torch.ones(3)}), "safetensors"),
    "an artifact": (lambda: b"GOLF" + bytes(40), "artifact of this project"),
    "numpy's array": (npy, "numpy"),
    "numpy's archive": (npz, "torch.save did not write"),
    "a tar archive": (tarred, "tar"),
    "a short answer": (lambda: b"404: Not Found", "text"),
    "a text with a mark of its order": (lambda: b"\xef\xbb\xbf" + b"words " * 100, "text"),
    "zlib's two bytes by chance": (lambda: b"\x58\x85" + bytes(range(100, 200)), "no container"),
    "JSON": (lambda: json.dumps({"model": [1, 2, 3, 4, 5, 6]}).encode(), "text"),
    "a zip archive cut off": (lambda: saved()[:-40], "cut off"),
    "a TorchScript program": (scripted, "TorchScript"),
    "a zip bomb": (lambda: zipped(**{"m/data.pkl": bytes((1 << 30) + 1)}), "more than"),
    "a module": (lambda: saved(torch.nn.Linear(2, 2)), r"torch\.nn\.modules\.linear\.Linear"),
    "a path": (lambda: saved({"a": torch.ones(2), "where": Path("x")}), "pathlib"),
    "a pickle cut off": (lambda: b"\x80\x02}q\x00X\x05\x00", "damaged"),
}
"""Files that are not read, and the word that says what they are."""


@pytest.mark.long
@pytest.mark.parametrize("packer", [bytes, zlib.compress])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named_and_never_loaded_unsafely(
    kind: str, packer: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: PyTorch's advice to switch its protection off reaches the user, in the message or as its cause."""
    make, message = OTHERS[kind]
    path = tmp_path / "final_model.int6.ptz"
    path.write_bytes(packer(make()))
    with pytest.raises(ValueError, match=message) as caught:
        read_published(path)
    whole = "".join(traceback.format_exception(caught.value))
    assert main(["import", str(path)]) == 2
    for text in (whole, capsys.readouterr().err):
        assert path.name in text
        assert "trusted" not in text
        assert "weights_only set to" not in text
        assert "arbitrary code" not in text
        assert "add_safe_globals" not in text


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    """Fault: a small file stands for terabytes, because one number is repeated."""
    path = tmp_path / "final_model.pt"
    path.write_bytes(saved({"a": torch.ones(1).expand(1 << 20, 1 << 20)}))
    with pytest.raises(ValueError, match="elements"):
        read_published(path)

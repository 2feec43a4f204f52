"""What is seen of a Python file that is not run."""

from golf.submission.record_folder.sources import missing_requirements, reachable, read_source


def test_imports_and_files_are_seen() -> None:
    """Fault: an import in a function or behind a condition is missed; a guarded one passes for needed."""
    source = read_source(b"""
import torch.nn as nn, lzma
from . import near
if nn:
    from flash_attn_interface import f
def g(path="x.bin"):
    import brotli
    try:
        import zstandard
        import fast.codec
    except (ImportError, OSError):
        zstandard = None
    try:
        import always
    except KeyError:
        pass
    with open("out.bin", mode="wb") as file, open("in.bin") as other, open(path):
        return torch.load("w.pt"), Path("table.npy").read_bytes(), open("data/shard.bin"), open(f"{path}.txt")
torch.save({}, "w.pt")
""")
    assert source.error == ""
    assert source.imports == {"torch", "lzma", "near", "brotli", "always"}
    assert source.optional == {"zstandard", "fast", "flash_attn_interface"}
    assert source.conditional == {"flash_attn_interface"}
    assert source.opened == {"in.bin", "table.npy"}
    assert not source.packed
    missing = missing_requirements(source, "brotli==1.1 ; python_version > '3'\nflash-attn-3>=1\n", ["always", "near"])
    assert missing == ([], ["fast", "zstandard"])
    assert missing_requirements(source, "", ["near"]) == (
        ["always", "brotli"],
        ["fast", "flash_attn_interface", "zstandard"],
    )


def test_packed_code_and_no_code_are_told() -> None:
    """Fault: code that unpacks other code passes for looked at; a broken file passes for empty."""
    assert read_source(b"import lzma as L\nexec(L.decompress(b''))\n").packed
    assert "line 2" in read_source(b"x = 1\ndef f(:\n").error
    assert read_source(b"\x00").error
    assert read_source(b"").error == ""


def test_modules_are_followed() -> None:
    """Fault: a module that another one imports is not counted, or a circle never ends."""
    texts = {"a": b"import b, os", "b": b"import c\nimport a", "c": b"", "d": b"import a"}
    assert reachable("a", {name: read_source(text) for name, text in texts.items()}) == ["a", "b", "c"]

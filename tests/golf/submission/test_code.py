"""The shipped file in its forms, and what it needs."""

import base64
import lzma
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from golf.config.config import QuantConfig, RunConfig
from golf.pipeline.bundle import COUNTED, bundle, counted_code
from golf.submission.code import (
    CODE_FILE,
    LOWEST,
    packages_of,
    readable_source,
    requirements_of,
    shipped_code,
    study_code,
)
from golf.submission.record_folder.sources import read_source


def test_the_project_reads_what_it_ships() -> None:
    """Fault: `golf check` and `golf script inspect` see another program than the one that is packed, or none."""
    config = RunConfig(quant=QuantConfig(codec="zstd"))
    code = shipped_code(config)
    source = read_source(code.data)
    assert source.layers == (bundle(config).encode(),)
    assert source.packed
    assert (len(code.data), code.minified_bytes) == (code.num_bytes, len(source.layers[0]))
    assert code.num_bytes < code.minified_bytes < code.raw_bytes
    assert packages_of(code.data.decode(), "zstd") == ("numpy", "sentencepiece", "torch", "zstandard")


def test_code_that_another_encoder_packed_is_that_of_the_study(tmp_path: Path) -> None:
    """Fault: a machine with another liblzma refuses a study, or a file with something added passes for the kept one."""
    config = RunConfig()
    made = counted_code(config)
    assert study_code(config, tmp_path) == made
    first, _, last, _ = made.split(b"\n")
    squeezed = lzma.compress(bundle(config).encode(), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    other = b'%s\ns="%s"\n%s\n' % (first, base64.b85encode(squeezed), last)
    assert len(other) > len(made)
    (tmp_path / CODE_FILE).write_bytes(other)
    assert study_code(config, tmp_path) == other
    another = counted_code(RunConfig(ttt=None))
    for wrong in (
        other + b"print(1)\n",
        other.replace(b"\ns=", b"\nprint(1);s="),
        another,
        b"",
        other.replace(b"exec", b""),
    ):
        (tmp_path / CODE_FILE).write_bytes(wrong)
        assert study_code(config, tmp_path) == made


def test_only_what_is_imported_and_needed_is_required() -> None:
    """Fault: a package is missing in a clean environment, or one is asked for that nothing uses."""
    source = """
import json, torch.nn.functional as F
from numpy import array
try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None
def late():
    import sentencepiece.trainer
"""
    assert packages_of(source, "rans") == ("numpy", "sentencepiece", "torch")
    assert packages_of(source, "zstd") == ("numpy", "sentencepiece", "torch", "zstandard")


def test_requirements_leave_what_a_machine_has() -> None:
    """Fault: a pin replaces a machine's own torch, which was built for its GPUs; or a bound is above what ran."""
    assert requirements_of(("numpy", "torch")) == f"numpy>={LOWEST['numpy']}\ntorch>={LOWEST['torch']}\n"
    for name, lowest in LOWEST.items():
        here = [int(part) for part in metadata.version(name).split("+")[0].split(".")[:2]]
        assert [int(part) for part in lowest.split(".")] <= here, name


def test_the_readable_source_is_that_of_all_modules() -> None:
    """Fault: readers are shown another source than what was joined."""
    text = readable_source()
    for module in COUNTED:
        source = Path(find_spec(module).origin).read_text()  # type: ignore[union-attr,arg-type]
        assert source.rstrip() in text, module

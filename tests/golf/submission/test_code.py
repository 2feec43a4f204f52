"""The shipped file in its forms, and what it needs."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from golf.config.config import QuantConfig, RunConfig
from golf.pipeline.bundle import COUNTED, bundle
from golf.submission.code import LOWEST, packages_of, readable_source, requirements_of, shipped_code
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

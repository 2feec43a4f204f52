"""The file of tensors against the safetensors library, both ways, and against files that somebody bent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from golf.runtime.tensors import (
    TENSOR_TYPES,
    load_optimizer,
    optimizer_tensors,
    read_stored,
    read_tensors,
    write_tensors,
)

PLAIN = {"step": 7, "text": "ü\n", "number": 0.1 + 0.2, "list": [1, None, True, {"a": []}]}


def all_kinds() -> dict[str, Tensor]:
    """Every type, no dimension, no element, odd numbers of bytes, a view that is not contiguous."""
    generator = torch.Generator().manual_seed(3)
    tensors = {
        name: torch.randint(0, 100, (3, 5), generator=generator).to(dtype) for name, dtype in TENSOR_TYPES.items()
    }
    wide = torch.randn(4, 6, generator=generator)
    return {"bytes": tensors.pop("U8")[:, :3], **tensors, "scalar": wide[0, 0], "none": wide[:0], "view": wide.T}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Names, types, shapes and bits."""
    return first.keys() == second.keys() and all(
        a.dtype == second[name].dtype and a.shape == second[name].shape and a.equal(second[name])
        for name, a in first.items()
    )


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    """Fault: a file that other programs refuse or read otherwise; unaligned tensors; plain values that change."""
    write_tensors(tmp_path / "t.safetensors", all_kinds(), PLAIN)
    assert same(load_file(tmp_path / "t.safetensors"), all_kinds())
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        assert json.loads(file.metadata()["plain"]) == PLAIN
    tensors, plain = read_stored(tmp_path / "t.safetensors")
    assert same(tensors, all_kinds())
    assert list(tensors) == list(all_kinds())
    assert plain == PLAIN


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    """Fault: an order of tensors, a metadata or a padding that only our own writer makes."""
    kinds = {name: tensor.contiguous() for name, tensor in all_kinds().items()}
    save_file(kinds, tmp_path / "t.safetensors", metadata={"format": "pt"})
    assert same(read_tensors(tmp_path / "t.safetensors"), kinds)
    save_file({}, tmp_path / "t.safetensors")
    assert read_stored(tmp_path / "t.safetensors") == ({}, {})


def test_numbers_keep_their_bits(tmp_path: Path) -> None:
    """Fault: NaN, infinities, minus zero or subnormal numbers that a way through Python numbers would change."""
    bits = torch.tensor([0, -(2**31), 1, 0x7FC00001, 0x7F800000, 0x7F7FFFFF], dtype=torch.int32)
    half = torch.arange(2**16).to(torch.int16)
    write_tensors(tmp_path / "t", {"a": bits.view(torch.float32), "b": half.view(torch.bfloat16)})
    read = read_tensors(tmp_path / "t")
    assert read["a"].view(torch.int32).equal(bits)
    assert read["b"].view(torch.int16).equal(half)


@pytest.mark.parametrize("value", [torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.bool)])
def test_types_that_the_format_lacks_are_refused(tmp_path: Path, value: Tensor) -> None:
    """Fault: bytes under a wrong type, or half a file."""
    with pytest.raises(ValueError, match="tensor x has type"):
        write_tensors(tmp_path / "t", {"x": value})
    assert not list(tmp_path.iterdir())


def entry(**changes: Any) -> dict[str, Any]:
    """The header's entry of two float32, changed."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def packed(header: Any, data: bytes = bytes(8)) -> bytes:
    """A file of that header, as text where it is text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


HOSTILE = {
    "empty": b"",
    "short": b"\x08\x00\x00",
    "no header": bytes(7) + b"\x80",
    "header beyond the file": packed({"x": entry()})[:40],
    "header of exabytes": (2**63).to_bytes(8, "little") + bytes(100),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins",
    "a zip": b"PK\x03\x04" + bytes(60),
    "not JSON": packed(b'{"x": '),
    "other text": packed(json.dumps({"x": entry()}).encode("utf-16")),
    "a list": packed([entry()]),
    "deep": packed(b'{"x":' + b"[" * 100_000),
    "long number": packed(b'{"x":' + b"9" * 10_000 + b"}"),
    "NaN": packed(b'{"x": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}'),
    "twice": packed(b'{"x": %b, "x": %b}' % ((json.dumps(entry()).encode(),) * 2)),
    "metadata": packed({"__metadata__": [], "x": entry()}),
    "plain": packed({"__metadata__": {"plain": {}}, "x": entry()}),
    "plain text": packed({"__metadata__": {"plain": "[1]"}, "x": entry()}),
    "plain twice": packed({"__metadata__": {"plain": '{"a": 1, "a": 2}'}, "x": entry()}),
    "plain deep": packed({"__metadata__": {"plain": "[" * 100_000}, "x": entry()}),
    "surrogate": packed({"__metadata__": {"plain": "\ud800"}, "x": entry()}),
    "entry": packed({"x": 3}),
    "type": packed({"x": entry(dtype="F33")}),
    "type of type": packed({"x": entry(dtype=["F32"])}),
    "negative": packed({"x": entry(shape=[-2])}),
    "negative twice": packed({"x": entry(shape=[-1, -2])}),
    "fraction": packed({"x": entry(shape=[2.0])}),
    "boolean": packed({"x": entry(shape=[True, 2])}),
    "text": packed({"x": entry(shape="2")}),
    "absurd": packed({"x": entry(shape=[2**40, 2**40], data_offsets=[0, 2**82])}),
    "hidden by zero": packed({"x": entry(shape=[0, 2**47, 2**47], data_offsets=[0, 0])}, b""),
    "dimensions": packed({"x": entry(shape=[1] * 1000 + [2])}),
    "offsets": packed({"x": entry(data_offsets=[0])}),
    "backwards": packed({"x": entry(data_offsets=[8, 0])}),
    "other size": packed({"x": entry(shape=[1])}),
    "hole": packed({"x": entry(data_offsets=[8, 16])}, bytes(16)),
    "overlap": packed({"x": entry(), "y": entry()}),
    "overlap in part": packed({"x": entry(), "y": entry(data_offsets=[4, 12])}, bytes(12)),
    "beyond": packed({"x": entry(), "y": entry(data_offsets=[8, 16])}),
    "left over": packed({"x": entry()}, bytes(9)),
    "nothing but data": packed({}, bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """Fault: memory for absurd sizes, another error than one of input, or numbers from a bent file."""
    path = tmp_path / "bent.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"bent\.safetensors"):
        read_stored(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Fault: waiting for ever on a pipe; an error that does not name the place."""
    with pytest.raises(FileNotFoundError, match="missing"):
        read_tensors(tmp_path / "missing")
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_tensors(tmp_path)
    with pytest.raises(ValueError, match="/dev/zero"):
        read_tensors(Path("/dev/zero"))


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_files_end_in_an_error_of_input(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Fault: any other error than ValueError, or tensors that do not have the file's bytes."""
    path = tmp_path_factory.mktemp("mutated") / "t"
    write_tensors(path, {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(5, dtype=torch.bfloat16)}, PLAIN)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "double", "digit"]))
        if kind == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "digit":
            content[at] = data.draw(st.sampled_from(b'0123456789-.e"[]{},:'))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 20))]
        else:
            content[at:at] = content[at : at + data.draw(st.integers(1, 20))]
        if not content:
            break
    path.write_bytes(content)
    message = ""
    try:
        tensors = read_tensors(path)
    except ValueError as error:
        message = str(error)
    if message:
        assert str(path) in message
    else:
        header = int.from_bytes(content[:8], "little")
        assert sum(tensor.nbytes for tensor in tensors.values()) == len(content) - 8 - header


def stepped(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int) -> torch.optim.Optimizer:
    """An optimiser after some steps over two parameters of which one has no dimension."""
    parameters = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.tensor(2.0))]
    optimizer = make(parameters)
    for step in range(steps):
        for parameter in parameters:
            generator = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return optimizer


MAKERS: list[Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = [
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1),
]


@pytest.mark.parametrize("make", MAKERS)
def test_an_optimisers_state_comes_back(
    tmp_path: Path, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
) -> None:
    """Fault: a step count, momentum or square that is lost or rounded on the way through the file."""
    before, after = stepped(make, 3), stepped(make, 0)
    write_tensors(tmp_path / "t", optimizer_tensors(before.state_dict()))
    load_optimizer(after, read_tensors(tmp_path / "t"))
    wanted, found = before.state_dict(), after.state_dict()
    assert found["param_groups"] == wanted["param_groups"]
    assert same(optimizer_tensors(found), optimizer_tensors(wanted))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("2/exp_avg", torch.ones(3, 2)),
        ("-1/exp_avg", torch.ones(3, 2)),
        ("²/exp_avg", torch.ones(3, 2)),
        ("0/other", torch.ones(3, 2)),
        ("0/exp_avg", torch.ones(2)),
        ("1/step", torch.ones(1)),
        ("1/step", None),
    ],
)
def test_another_optimisers_state_is_refused(key: str, value: Tensor | None) -> None:
    """Fault: a step that fails, or broadcasts, on a stored tensor of no parameter or of another shape."""
    tensors = optimizer_tensors(stepped(MAKERS[0], 1).state_dict())
    tensors.pop(key, None)
    if value is not None:
        tensors[key] = value
    with pytest.raises(ValueError, match=r"optimiser|parameter"):
        load_optimizer(stepped(MAKERS[0], 0), tensors)

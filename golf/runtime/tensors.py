"""Named tensors and plain values in one file, in the public safetensors layout: nothing in it can be executed.

Eight bytes of length, a JSON header, the tensors' bytes; plain values are one JSON text in the header's metadata. Every
size is checked before memory is allocated for it, so a damaged or hostile file raises ValueError naming it, and reading
takes no more memory than the file has bytes (and a bounded header). Never reads pickles.
Source: https://huggingface.co/docs/safetensors
"""

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeVar

import torch
from torch import Tensor

from golf.runtime.files import write_whole

Read = TypeVar("Read")
JsonObject = dict[str, Any]
"""An object of JSON values."""
TENSOR_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
TENSORS_HEADER_LIMIT = 2**24
"""Bytes of the header."""
LARGEST_SIZE = 2**48
"""Elements or bytes beyond which arithmetic on sizes could overflow."""
PLAIN = "plain"
"""Key of the plain values in the header's metadata."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], plain: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Writes named tensors of any device, and JSON values beside them, to `path`, whole.

    Raises: ValueError on a type that the format does not have; OSError naming the path.
    """
    names = {dtype: name for name, dtype in TENSOR_TYPES.items()}
    # Larger elements first: so all are aligned for readers that map the file.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    ends, end = {}, 0
    for name in order:
        begin, end = end, end + tensors[name].numel() * tensors[name].element_size()
        ends[name] = [begin, end]
    header: JsonObject = {"__metadata__": {PLAIN: json.dumps(dict(plain), allow_nan=False)}}
    for name, tensor in tensors.items():
        if tensor.dtype not in names:
            raise ValueError(f"{path}: tensor {name} has type {tensor.dtype}, which cannot be stored")
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends[name]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(_bytes_of(tensors[name].detach().cpu().contiguous()))

    write_whole(path, write)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors in `path`, on the CPU.

    Raises: FileNotFoundError; ValueError naming the file when it is anything but an intact file of tensors.
    """
    return read_stored(path)[0]


def read_stored(path: Path) -> tuple[dict[str, Tensor], JsonObject]:
    """Returns the tensors in `path`, on the CPU, and the plain values beside them.

    Raises: as `read_tensors`.
    """
    return _opened(path, _read)


def read_plain(path: Path) -> JsonObject:
    """Returns the plain values in `path`; its tensors are not read.

    Raises: as `read_tensors`, for what is before the tensors.
    """
    return _opened(path, lambda file, file_bytes: _read_header(file, file_bytes)[1])


def _opened(path: Path, read: Callable[[io.BufferedReader, int], Read]) -> Read:
    """Returns the result of `read` for the file and its number of bytes; its errors name the file."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} must be a file of tensors, not a folder or device")
    with path.open("rb") as file:
        try:
            return read(file, os.fstat(file.fileno()).st_size)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a file of tensors: {error}; delete it to have it made again") from error


def optimizer_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the tensors of an optimiser's state dictionary by "index/name".

    Its parameter groups are left out: their values come from the configuration and, the rates, from the step.
    """
    return {
        f"{index}/{name}": value
        for index, values in state["state"].items()
        for name, value in values.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads what `optimizer_tensors` returned into an optimiser over the same parameters.

    Raises: ValueError when a tensor is of no parameter or has another shape.
    """
    needed = {"step", "exp_avg", "exp_avg_sq"} if isinstance(optimizer, torch.optim.AdamW) else {"momentum_buffer"}
    parameters = [parameter for settings in optimizer.param_groups for parameter in settings["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        owner = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if owner is None or name not in needed or tensor.shape != (torch.Size() if name == "step" else owner.shape):
            raise ValueError(f"optimiser tensor {key[:80]!r} fits to no parameter")
        state.setdefault(int(index), {})[name] = tensor
    if any(values.keys() != needed for values in state.values()):
        raise ValueError(f"a parameter lacks one of the optimiser's {sorted(needed)}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def unprefixed(tensors: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with "folder/", without that."""
    return {name[len(folder) + 1 :]: value for name, value in tensors.items() if name.startswith(folder + "/")}


def prefixed(folder: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors under "folder/name", the inverse of `unprefixed`."""
    return {f"{folder}/{name}": value for name, value in tensors.items()}


def _read_header(file: io.BufferedReader, file_bytes: int) -> tuple[JsonObject, JsonObject, int]:
    """Returns the header's entries unchecked, the plain values, and the header's length."""
    length = int.from_bytes(file.read(8), "little")
    if file_bytes < 8 or length > min(file_bytes - 8, TENSORS_HEADER_LIMIT):
        raise ValueError(f"it has {file_bytes} bytes, the first 8 promise a header of {length}")
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    text = metadata.get(PLAIN, "{}") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError("its metadata must be an object of texts")
    return header, _parse(text.encode()), length


def _read(file: io.BufferedReader, file_bytes: int) -> tuple[dict[str, Tensor], JsonObject]:
    """Returns tensors and plain values; the file is read from front to end."""
    header, plain, length = _read_header(file, file_bytes)
    entries = {name: _checked(name, entry) for name, entry in header.items()}
    order = sorted(entries, key=lambda name: entries[name][2:])
    at = 0
    for name in order:
        _, _, begin, end = entries[name]
        if begin != at:
            raise ValueError(f"tensor {name[:80]!r} begins at byte {begin} of the data, not at {at}")
        at = end
    if at != file_bytes - 8 - length:
        raise ValueError(f"its header describes {at} bytes of tensors, {file_bytes - 8 - length} are there")
    tensors: dict[str, Tensor] = {}
    for name in order:
        dtype, shape, _, _ = entries[name]
        tensors[name] = torch.empty(shape, dtype=dtype)
        view = _bytes_of(tensors[name])
        if file.readinto(view) != len(view):
            raise ValueError(f"tensor {name[:80]!r} is cut short")
    return {name: tensors[name] for name in entries}, plain


def _checked(name: str, entry: Any) -> tuple[torch.dtype, list[int], int, int]:
    """Returns type, shape, begin and end of a header's entry, which fit together."""
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = (fields.get(field) for field in ("dtype", "shape", "data_offsets"))
    dtype = TENSOR_TYPES.get(kind) if isinstance(kind, str) else None
    if dtype and isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 8:
        sizes = all(type(size) is int and 0 <= size < LARGEST_SIZE for size in (*shape, *offsets))
        # A size of 0 must not hide others whose product overflows.
        sizes = sizes and math.prod(max(size, 1) for size in shape) < LARGEST_SIZE
        if sizes and offsets[1] - offsets[0] == math.prod(shape) * dtype.itemsize:
            return dtype, shape, offsets[0], offsets[1]
    raise ValueError(f"tensor {name[:80]!r} has an impossible type, shape or place: {str(entry)[:200]!r}")


def _parse(text: bytes) -> JsonObject:
    """Returns the JSON object in `text`; a repeated key, NaN and infinity are refused."""
    value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refused)
    if not isinstance(value, dict):
        raise ValueError("its header must be a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("its header has a key twice")
    return values


def _refused(constant: str) -> Any:
    raise ValueError(f"its header holds {constant}")


def _bytes_of(tensor: Tensor) -> memoryview:
    """Returns the memory of a contiguous tensor on the CPU."""
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]

"""safetensors files with NumPy alone: a header length of 8 bytes, a JSON header, the arrays. Knows no torch, no model.

The core reads and writes adapters with it, and reads single weights of a bundle; nothing in such a file is executed.
"""

# Not the format's own library: with framework="np" that refuses bfloat16, and it tells no offsets, which ONNX graphs
# need to name slices of a file. It opens a header 1 ms sooner and reads a whole file no faster (200 arrays, 420 MB:
# 0.71 s against 0.65).

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from amused_lite.files.atomic import unfinished
from amused_lite.reading import convert, parse_object

_DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has none: widened to float32 after reading
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
_WRITTEN = {np.dtype(kind): name for name, kind in _DTYPES.items() if name != "BF16"}
_LONGEST_HEADER = 100_000_000  # bytes, the limit of the format's own library
_REMEDY = "get the file again"


@dataclass(frozen=True)
class TensorEntry:
    """Where one array lies."""

    dtype: str  # as the format writes it, such as "F16"
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file
    size: int  # bytes


_Bytes = Annotated[int, Meta(ge=0, le=2**48)]


class _Place(Struct):
    """An entry as the header has it."""

    dtype: Literal["F32", "F16", "BF16", "I64", "I32", "I8", "U8"]
    shape: Annotated[list[_Bytes], Meta(max_length=8)]
    data_offsets: tuple[_Bytes, _Bytes]  # from the end of the header

    def entry(self, data: int) -> TensorEntry:
        """As the file has it, where its arrays start at byte `data`."""
        first, last = self.data_offsets
        return TensorEntry(self.dtype, tuple(self.shape), data + first, last - first)


@dataclass(frozen=True)
class TensorFile:
    """The header of a safetensors file, checked; arrays are read when asked for."""

    path: Path
    entries: dict[str, TensorEntry]
    metadata: dict[str, str]

    def read(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The named arrays, all when None. bfloat16 comes as float32.

        Raises:
            ValueError: the file has no such array.
        """
        wanted = list(self.entries if names is None else names)
        if missing := [name for name in wanted if name not in self.entries]:
            raise ValueError(f"{self.path} has no array {missing[0]!r}; {_REMEDY}")
        arrays = {}
        with self.path.open("rb") as file:
            for name in wanted:
                entry = self.entries[name]
                file.seek(entry.offset)
                array = np.frombuffer(file.read(entry.size), _DTYPES[entry.dtype]).reshape(entry.shape)
                arrays[name] = (array.astype("<u4") << 16).view("<f4") if entry.dtype == "BF16" else array
        return arrays


def open_tensors(path: str | Path) -> TensorFile:
    """Read and check a file's header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, is cut short, or its header contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing or no file; give a .safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"{path} is not a safetensors file, or is cut short; {_REMEDY}")
        text = file.read(length)
    header = parse_object(text, f"{path}: its header", _REMEDY)
    metadata = convert(header.pop("__metadata__", {}), dict[str, str], f"{path}: __metadata__", _REMEDY)
    places = convert(header, dict[str, _Place], str(path), _REMEDY, closed=False)
    end = size - 8 - length  # of the arrays
    for name, place in places.items():
        first, last = place.data_offsets
        if last - first != math.prod(place.shape) * _DTYPES[place.dtype].itemsize or last > end:
            said = f"{name[:60]} of shape {place.shape} does not fit its place, {first} to {last}"
            raise ValueError(f"{path} is damaged or cut short: {said}; {_REMEDY}")
    return TensorFile(path, {name: place.entry(8 + length) for name, place in places.items()}, metadata)


def write_tensors(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a file that appears under its name only when it is complete; one that is there is replaced.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, array in arrays.items():
        kind, end = _WRITTEN[array.dtype.newbyteorder("<")], place + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays start at a whole word
    with unfinished(path) as partial:
        with partial.open("xb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for array in arrays.values():
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

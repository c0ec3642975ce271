"""A saved Core ML package read back: its ML Program and its weights, exactly as they lie on disk.

Of coremltools only the protocol's message classes are used. Its own loader builds the program anew and infers every
shape again, so that a check of shapes would compare coremltools with itself. Weights stay in their file, mapped, until
an operation asks for them. Knows no operation and no torch.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amused_lite.runtimes.coreml import SPECIFICATION, import_coremltools, read_specification

_WEIGHTS = "@model_path/"
_MARK = 0xDEADBEEF  # begins the 64-byte description of each stored array
_DTYPES = {
    "BOOL": np.dtype(bool),
    "FLOAT16": np.dtype(np.float16),
    "FLOAT32": np.dtype(np.float32),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "STRING": np.dtype(object),
}
_PACKED = {"UINT1": 1, "UINT2": 2, "UINT3": 3, "UINT4": 4, "UINT6": 6, "INT4": 4}  # bits of each number


class ArrayType(NamedTuple):
    """What the package declares of a value."""

    dtype: str  # the protocol's word, such as "FLOAT16"
    shape: tuple[int, ...]

    def numpy(self) -> np.dtype:
        """The dtype in memory; numbers of less than a byte take a whole one."""
        if self.dtype in _PACKED:
            return np.dtype(np.int8 if self.dtype.startswith("I") else np.uint8)
        return _DTYPES[self.dtype]


class Constant(NamedTuple):
    """A value written into the program or into its weights file."""

    type: ArrayType
    read: Any  # () -> array of that type


class Named(NamedTuple):
    """The result of an earlier operation, or an input of the function."""

    name: str


Argument = Constant | Named


class Output(NamedTuple):
    """A result and what the package declares of it."""

    name: str
    type: ArrayType


@dataclass(frozen=True)
class Operation:
    """One step of a function."""

    kind: str  # such as "linear"
    inputs: dict[str, list[Argument]]  # most have one argument; `concat` and its like take several
    outputs: list[Output]


@dataclass(frozen=True)
class Function:
    """A callable of the program: inputs, operations in the order they run, names of the results."""

    inputs: dict[str, ArrayType]
    operations: list[Operation]
    outputs: list[str]


def read_program(package: Path) -> dict[str, Function]:
    """The functions of a package; one called "main" where there is a single one.

    Raises:
        FileNotFoundError: there is no such package.
        ValueError: it is no ML Program, or its weights are damaged.
        MissingExtraError: coremltools is not installed.
    """
    specification = read_specification(package)
    reader = _ProgramReader(package)
    return {name: reader.function(entry) for name, entry in specification.mlProgram.functions.items()}


class _ProgramReader:
    """Turns the protocol's messages of one package into the classes above."""

    def __init__(self, package: Path) -> None:
        self.folder = (package / SPECIFICATION).parent
        self.files: dict[str, np.ndarray] = {}
        self.name_dtype = import_coremltools().proto.MIL_pb2.DataType.Name

    def function(self, entry: Any) -> Function:
        block = entry.block_specializations[entry.opset]
        constants: dict[str, Any] = {}
        operations = []
        for message in block.operations:
            arguments = dict(self._arguments(message, constants))
            if message.type == "const":
                (constant,) = arguments["val"]
                constants[message.outputs[0].name] = constant
            else:
                outputs = [Output(item.name, self._type(item.type)) for item in message.outputs]
                operations.append(Operation(message.type, arguments, outputs))
        inputs = {item.name: self._type(item.type) for item in entry.inputs}
        return Function(inputs, operations, list(block.outputs))

    def _arguments(self, message: Any, constants: Mapping[str, Constant]) -> Iterator[tuple[str, list[Argument]]]:
        for key, value in message.attributes.items():
            if key != "name":
                yield key, [self._constant(value)]
        for key, argument in message.inputs.items():
            found: list[Argument] = []
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "value":
                    found.append(self._constant(binding.value))
                else:
                    found.append(constants.get(binding.name, Named(binding.name)))
            yield key, found

    def _type(self, message: Any) -> ArrayType:
        tensor = message.tensorType
        # An axis of unknown length has no constant and reads as 0, which no array of ours can have.
        return ArrayType(self.name_dtype(tensor.dataType), tuple(axis.constant.size for axis in tensor.dimensions))

    def _constant(self, value: Any) -> Constant:
        kind = self._type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            name, offset = value.blobFileValue.fileName, value.blobFileValue.offset
            return Constant(kind, lambda: self._stored(name, offset, kind))
        return Constant(kind, lambda: _immediate(value.immediateValue.tensor, kind))

    def _stored(self, name: str, offset: int, kind: ArrayType) -> np.ndarray:
        """An array of a weights file, not copied unless it is packed."""
        if name not in self.files:
            path = self.folder / name.removeprefix(_WEIGHTS)
            if not path.resolve().is_relative_to(self.folder.resolve()) or not path.is_file():
                raise ValueError(f"the program in {self.folder} wants weights from {name!r}, which is not there")
            self.files[name] = np.memmap(path, np.uint8, "c")  # private: torch wants memory it may write to
        data = self.files[name]
        mark, _, size, start = struct.unpack("<IIQQ", data[offset : offset + 24].tobytes().ljust(24))
        if mark != _MARK or start + size > len(data):
            path = self.folder / name.removeprefix(_WEIGHTS)
            raise ValueError(f"{path} is damaged at byte {offset}; export it again")
        return _unpack(data[start : start + size], kind)


def _immediate(tensor: Any, kind: ArrayType) -> np.ndarray:
    """An array written out in the program itself."""
    form = tensor.WhichOneof("value")
    if form is None:
        return np.zeros(kind.shape, kind.numpy())
    values = getattr(tensor, form).values
    if form == "bytes":
        return _unpack(np.frombuffer(bytearray(values), np.uint8), kind)
    return np.array(values, kind.numpy()).reshape(kind.shape)


def _unpack(data: np.ndarray, kind: ArrayType) -> np.ndarray:
    """Bytes to the array they spell."""
    bits = _PACKED.get(kind.dtype)
    if bits is None:
        return data.view(kind.numpy()).reshape(kind.shape)
    count = int(np.prod(kind.shape))
    digits = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    numbers = digits.astype(np.int16) @ (1 << np.arange(bits, dtype=np.int16))
    if kind.dtype.startswith("I"):
        numbers = np.where(numbers >= 1 << (bits - 1), numbers - (1 << bits), numbers)
    return numbers.astype(kind.numpy()).reshape(kind.shape)

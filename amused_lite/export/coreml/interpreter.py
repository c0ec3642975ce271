"""Runs a saved Core ML package in torch, operation by operation: the judge of that export where there is no Core ML.

It proves the graph, the weights and their compression, with every result rounded to the type that the program declares.
It does not prove Apple's kernels: they may add up in another order and precision, and drop what they fuse.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amused_lite.bundle import Bundle
from amused_lite.export.coreml.arithmetic_ops import ARITHMETIC
from amused_lite.export.coreml.data_ops import MOVES
from amused_lite.export.coreml.program import ArrayType, Constant, Function, Named, Operation, read_program
from amused_lite.runtimes.coreml import CoreMLRuntime

_DTYPES = {
    "BOOL": torch.bool,
    "FLOAT16": torch.float16,
    "FLOAT32": torch.float32,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "UINT8": torch.uint8,
    "UINT16": torch.int32,  # torch can do little with its own
}


class InterpretedRuntime(CoreMLRuntime):
    """A bundle's Core ML packages without Core ML, on any system: to prove them, not to be fast."""

    name = "coreml-interpreter"

    def __init__(self, bundle: Bundle) -> None:
        """See `CoreMLRuntime`."""
        super().__init__(bundle, load=lambda package, function, _: InterpretedPackage(package, function))


class InterpretedPackage:
    """One function of a package: arrays in, arrays out. Weights are read from their file at each call."""

    def __init__(self, package: Path, function: str = "main") -> None:
        """Raises FileNotFoundError, ValueError, MissingExtraError: see `program.read_program`."""
        self.name = package.stem
        functions = read_program(package)
        if function not in functions:
            raise ValueError(f"{package} has no function {function!r}, only {', '.join(functions)}")
        self._function: Function = functions[function]
        self._uses = Counter(
            argument.name
            for operation in self._function.operations
            for arguments in operation.inputs.values()
            for argument in arguments
            if isinstance(argument, Named)
        )
        self._uses.update(self._function.outputs)

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run it.

        Raises:
            ValueError: the inputs are not those declared, a result has another shape than declared, or an operation is
                unknown here; the module and the operation are named.
        """
        declared = self._function.inputs
        if set(inputs) != set(declared):
            raise ValueError(f"{self.name}: got inputs {sorted(inputs)}, the package takes {sorted(declared)}")
        values = {
            name: self._fitting(name, torch.from_numpy(np.require(inputs[name], requirements=["C", "W"])), kind)
            for name, kind in declared.items()
        }
        left = Counter(self._uses)
        for operation in self._function.operations:
            for output, result in zip(operation.outputs, self._run(operation, values), strict=True):
                if left[output.name]:
                    values[output.name] = self._fitting(f"{operation.kind} {output.name}", result, output.type)
            for arguments in operation.inputs.values():
                for argument in arguments:
                    if isinstance(argument, Named):
                        left[argument.name] -= 1
                        if not left[argument.name]:
                            del values[argument.name]  # the largest grids are 100 MB each
        return {name: values[name].contiguous().numpy() for name in self._function.outputs}

    def _run(self, operation: Operation, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        arithmetic = operation.kind in ARITHMETIC
        function: Any = ARITHMETIC.get(operation.kind) or MOVES.get(operation.kind)
        if function is None:
            what = f"operation {operation.kind!r} ({operation.outputs[0].name})"
            raise ValueError(
                f"{self.name}: {what} is not known to the interpreter; add it to export/coreml/arithmetic_ops.py"
            )

        def value(argument: Constant | Named) -> Any:
            if isinstance(argument, Named):
                tensor = values[argument.name]
            elif argument.type.dtype == "STRING":
                return argument.read().item()
            else:
                tensor = torch.from_numpy(argument.read())
            return tensor.float() if arithmetic and tensor.dtype == torch.float16 else tensor

        arguments = {
            key: [value(item) for item in items] if key == "values" else value(items[0])
            for key, items in operation.inputs.items()
        }
        try:
            results = function(**arguments)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.name}: {operation.kind} {operation.outputs[0].name}: {reason}") from error
        return (results,) if isinstance(results, Tensor) else tuple(results)

    def _fitting(self, what: str, result: Tensor, kind: ArrayType) -> Tensor:
        """The result as declared: shapes must agree, numbers are rounded."""
        if tuple(result.shape) != kind.shape:
            raise ValueError(f"{self.name}: {what} has shape {tuple(result.shape)}, the package declares {kind.shape}")
        return result.to(_DTYPES[kind.dtype])

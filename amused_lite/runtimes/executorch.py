"""ExecuTorch: runs a bundle's programs as a phone would, here through its Python binding, which is built on torch."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.bundle import Bundle, check_inputs
from amused_lite.runtimes.graphs import OUTPUTS, Arrays, GraphRuntime, ModuleCall
from amused_lite.system.extras import require_extra

_DTYPES = {3: "int32", 6: "float32"}  # ExecuTorch's ScalarType


@contextmanager
def silenced() -> Iterator[None]:
    """While inside, ExecuTorch's warnings about optional files and libraries are not printed."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)  # part of it comes from C++
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)
        logging.disable(before)


def load_program(path: Path) -> Any:
    """A program's one method, ready to execute.

    Raises:
        ValueError: ExecuTorch cannot load it.
        MissingExtraError: ExecuTorch is not installed.
    """
    require_extra("executorch", "ExecuTorch", "executorch", "torch")
    try:
        with silenced():
            from executorch.runtime import Runtime

            program = Runtime.get().load_program(path)
            return program.load_method("forward"), program  # the program owns the memory of its method
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: ExecuTorch cannot load it ({reason}); export the bundle again") from error


def execute(method: Any, inputs: Arrays, names: Sequence[str]) -> list[np.ndarray]:
    """Run a method on named arrays in the order of `names`, which is the order of the exported module."""
    import torch

    arrays = [np.ascontiguousarray(inputs[name]) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays that may not be written to; nothing writes to them
        return [result.numpy() for result in method.execute([torch.from_numpy(array) for array in arrays])]


class ExecuTorchRuntime(GraphRuntime):
    """A bundle on ExecuTorch."""

    name = "executorch"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Prepare, and load nothing yet.

        Args:
            bundle: exported for the target "executorch".
            threads: processor threads, for every program of this process; None leaves the choice to ExecuTorch.

        Raises:
            MissingExtraError: ExecuTorch is not installed.
        """
        super().__init__(bundle)
        require_extra("executorch", "ExecuTorch", "executorch", "torch")
        self._threads = threads

    def _load(self, module: str) -> ModuleCall:
        path = self._bundle.path(f"{module}.pte")
        method, program = load_program(path)
        if self._threads:
            from executorch.extension.pybindings import portable_lib

            with silenced():
                portable_lib._unsafe_reset_threadpool(self._threads)
        promised = self._bundle.manifest.inputs[module]
        check_inputs(self._bundle.manifest, module, _inputs(method, list(promised)), str(path))
        given = OUTPUTS[module]

        def run(inputs: Arrays, outputs: Sequence[str], program: Any = program) -> Sequence[np.ndarray]:
            results = dict(zip(given, execute(method, inputs, list(promised)), strict=False))
            return [results[name] for name in outputs]

        return run


def _inputs(method: Any, names: Sequence[str]) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """What a program takes, as `check_inputs` wants it. Its inputs have an order and no names; those are `names`."""
    metadata = method.metadata
    found = {}
    for index in range(metadata.num_inputs()):
        item = metadata.input_tensor_meta(index)
        name = names[index] if index < len(names) else f"number {index}"
        found[name] = (_DTYPES.get(item.dtype(), str(item.dtype())), tuple(item.sizes()))
    return found

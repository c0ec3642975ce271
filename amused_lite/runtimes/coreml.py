"""Core ML: runs a bundle's packages on Apple's processors, graphics processors and Neural Engines. Knows no torch."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.bundle import Bundle, check_inputs
from amused_lite.conditioning import Conditioning
from amused_lite.runtimes.graphs import Arrays, GraphRuntime, ModuleCall
from amused_lite.system.extras import require_extra

COMPUTE_UNITS = ("all", "cpu_and_ne", "cpu_and_gpu", "cpu_only")
FUNCTIONS = {1: "unguided", 2: "guided"}  # of `unmask` by its rows of conditioning, in packages that have both
SPECIFICATION = Path("Data/com.apple.CoreML/model.mlmodel")
_DTYPES = {65552: "float16", 65568: "float32", 131104: "int32"}  # the protocol's numbers for them

Call = Callable[[Arrays], Mapping[str, np.ndarray]]  # one function of a package, ready to run
Load = Callable[[Path, str, str], Call]  # (package, function, compute units) -> Call


def advised_units(module: str, precision: str) -> str:
    """Compute units for a module, by documentation and reasoning; measured on no device.

    The Neural Engine computes in float16 only, so float32 packages go elsewhere. Its compiler takes longest, which is
    worth it for what runs at every step or on large grids, and not for what runs once per prompt.
    """
    if precision != "float16" or module in ("encode_prompt", "embed_text"):
        return "cpu_and_gpu"
    return "cpu_and_ne" if module == "unmask" else "all"


@contextmanager
def silenced() -> Iterator[None]:
    """While inside, coremltools shows no progress bars and no warnings about untested library versions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_coremltools() -> Any:
    """The library, quietly.

    Raises:
        MissingExtraError: it is not installed.
    """
    require_extra("coreml", "Core ML", "coremltools")
    with silenced():
        import coremltools
    return coremltools


def read_specification(package: Path) -> Any:
    """A package's protocol message: its program without the weights.

    Raises:
        FileNotFoundError: there is no such package.
        ValueError: it is damaged, or holds no ML Program.
        MissingExtraError: coremltools is not installed.
    """
    from google.protobuf.message import DecodeError

    specification = import_coremltools().proto.Model_pb2.Model()
    path = package / SPECIFICATION
    if not path.is_file():
        raise FileNotFoundError(f"{package} is no Core ML package: it has no {SPECIFICATION.name}; export it again")
    try:
        specification.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); export it again") from error
    if specification.WhichOneof("Type") != "mlProgram":
        raise ValueError(f"{path} holds no ML Program; export it again")
    return specification


def inputs_of(specification: Any) -> dict[str, dict[str, tuple[str, tuple[Any, ...]]]]:
    """What each function of a package takes, as `check_inputs` wants it: function -> input name -> (dtype, shape)."""
    description = specification.description
    functions = {item.name: item.input for item in description.functions} or {"main": description.input}
    return {
        name: {
            item.name: (
                _DTYPES.get(item.type.multiArrayType.dataType, "another"),
                tuple(item.type.multiArrayType.shape),
            )
            for item in inputs
        }
        for name, inputs in functions.items()
    }


def load_package(package: Path, function: str, compute_units: str) -> Call:
    """One function of a package on Core ML itself, which compiles it first: seconds, or minutes for a Neural Engine.

    Raises:
        ValueError: Core ML cannot load it.
    """
    ct = import_coremltools()
    name = None if function == "main" else function
    try:
        model = ct.models.MLModel(str(package), compute_units=ct.ComputeUnit[compute_units.upper()], function_name=name)
    except MemoryError:
        raise
    except Exception as error:  # Core ML's own arrive as RuntimeError and as plain Exception
        reason = str(error).splitlines()[0]
        raise ValueError(f"{package}: Core ML cannot load it ({reason}); export the bundle again") from error
    return model.predict


class CoreMLRuntime(GraphRuntime):
    """A bundle on Core ML."""

    name = "coreml"

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        compute_units: str | None = None,
        load: Load | None = None,
    ) -> None:
        """Prepare, and load nothing yet.

        Args:
            bundle: exported for the target "coreml".
            threads: of no account; Core ML chooses.
            compute_units: one of `COMPUTE_UNITS` for every module; None takes what the bundle advises for each.
            load: runs packages in the place of Core ML, on any system.

        Raises:
            ValueError: this is no Mac, or the compute units are unknown.
            MissingExtraError: coremltools is not installed.
        """
        super().__init__(bundle)
        if load is None and sys.platform != "darwin":
            elsewhere = "export the model to onnx or openvino for this machine"
            raise ValueError(f"Core ML runs on macOS 13 and later, this is {sys.platform}; {elsewhere}")
        if compute_units not in (None, *COMPUTE_UNITS):
            raise ValueError(f"compute_units {compute_units!r} is unknown; choose one of {', '.join(COMPUTE_UNITS)}")
        import_coremltools()
        self.first_step = self.first_step and "whole"  # it computes in float16; some packages are for pairs only
        self._units, self.device = compute_units, compute_units or "all"
        self._load_package = load or load_package

    def _load(self, module: str) -> ModuleCall:
        package = Path(f"{module}.mlpackage")
        path = self._bundle.path((package / SPECIFICATION).as_posix()).parents[2]
        functions = inputs_of(read_specification(path))
        both = set(functions) == set(FUNCTIONS.values())
        calls: dict[str, Call] = {}
        for found in functions.values():
            if both:  # whichever fits is called, so that from outside the number of rows is free
                rows = {name: (found[name][0], ("rows", *found[name][1][1:])) for name in Conditioning._fields}
                found = {**found, **rows}
            check_inputs(self._bundle.manifest, module, found, str(path))
        advice = self._bundle.manifest.options.get("compute_units", {})
        units = self._units or advice.get(module, "all")

        def run(inputs: Arrays, outputs: Sequence[str]) -> Sequence[np.ndarray]:
            function = FUNCTIONS[len(inputs["block_text"])] if both else next(iter(functions))
            if function not in calls:
                calls[function] = self._load_package(path, function, units)
            results = calls[function](inputs)
            return [results[name] for name in outputs]

        return run

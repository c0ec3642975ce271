"""Core ML packages with 8-bit linear weights or palettes, by coremltools; functions of a package are taken apart for it
and put together again. Results are proven by the interpreter."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amused_lite.bundle import Bundle
from amused_lite.config import ModelConfig
from amused_lite.export.coreml.convert import merge_functions
from amused_lite.models.networks import PARTS, empty_part
from amused_lite.runtimes.coreml import SPECIFICATION, import_coremltools, inputs_of, read_specification, silenced

from .scheme import CONVOLUTION, LINEAR, TABLE, TRANSPOSED, QuantizationScheme

_KINDS = {"linear": LINEAR, "gather": TABLE, "conv": CONVOLUTION, "conv_transpose": TRANSPOSED}
_GROUP = 16  # rows that share a palette, from iOS18 on; before, a whole weight shares one
_UNIFORM = 8  # bits from which on palettes are evenly spaced: 256 values found by k-means take long and win nothing


def quantize_modules(bundle: Bundle, modules: list[str], folder: Path, scheme: QuantizationScheme) -> None:
    """Write the packages of these modules, one function in memory at a time."""
    names = _names(bundle.config)
    for module in modules:
        source, package = (place / f"{module}.mlpackage" for place in (bundle.folder, folder))
        functions = list(inputs_of(read_specification(source)))
        if functions == ["main"]:
            _compress(module, source, package, scheme, names)
            continue
        parts = {function: folder / f".{function}.mlpackage" for function in functions}
        try:
            for number, (function, part) in enumerate(parts.items()):
                single = folder / ".single.mlpackage"
                _take_out(source, function, single)
                _compress(module, single, part, scheme, names, remember=number == 0)
                shutil.rmtree(single)
            merge_functions(parts, package)
        finally:
            for part in (*parts.values(), folder / ".single.mlpackage"):
                shutil.rmtree(part, ignore_errors=True)


def _names(config: ModelConfig) -> dict[str, str]:
    """The weights' names as coremltools writes them -> ours; it puts underscores for dots."""
    found = {}
    for part in PARTS:
        if part != "ranker" or config.ranker:
            for name, _ in empty_part(config, part).named_parameters():
                found[f"{part.rpartition('.')[2]}.{name}".replace(".", "_")] = f"{part}.{name}"
    return found


def _take_out(package: Path, function: str, single: Path) -> None:
    """One function of a package as a package without functions, which are the only ones coremltools compresses."""
    ct = import_coremltools()
    descriptor = ct.utils.MultiFunctionDescriptor()
    descriptor.add_function(str(package), src_function_name=function, target_function_name="main")
    descriptor.default_function_name = "main"
    with silenced():
        ct.utils.save_multifunction(descriptor, str(single))
    specification = read_specification(single)
    description = specification.description
    description.input.extend(description.functions[0].input)
    description.output.extend(description.functions[0].output)
    del description.functions[:]
    description.ClearField("defaultFunctionName")
    (single / SPECIFICATION).write_bytes(specification.SerializeToString())


def _compress(
    module: str, source: Path, package: Path, scheme: QuantizationScheme, names: dict[str, str], remember: bool = True
) -> None:
    ct = import_coremltools()
    optimize = _optimizer()
    with silenced():
        model: Any = ct.models.MLModel(str(source), skip_model_load=True)
        grouped = model.get_spec().specificationVersion >= ct.target.iOS18
        linear: dict[str, Any] = {}
        palettes: dict[str, Any] = {}
        for weight, bits in _chosen(module, model, scheme, names, remember):
            if scheme.options.method == "palette" and bits == scheme.options.bits:
                palettes[weight] = _palette(optimize, bits, grouped)
            else:
                linear[weight] = optimize.OpLinearQuantizerConfig(
                    mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0
                )
        if palettes:
            model = optimize.palettize_weights(model, optimize.OptimizationConfig(op_name_configs=palettes))
        if linear:
            model = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(op_name_configs=linear))
        model.save(str(package))
    for path in package.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _optimizer() -> Any:
    with silenced():
        import coremltools.optimize.coreml as optimize
    return optimize


def _palette(optimize: Any, bits: int, grouped: bool) -> Any:
    values: dict[str, Any] = {"nbits": bits, "mode": "uniform" if bits == _UNIFORM else "kmeans", "weight_threshold": 0}
    if grouped:
        values |= {"granularity": "per_grouped_channel", "group_size": _GROUP, "channel_axis": 0}
    return optimize.OpPalettizerConfig(**values)


def _chosen(
    module: str, model: Any, scheme: QuantizationScheme, names: dict[str, str], remember: bool
) -> Iterator[tuple[str, int]]:
    """The weights of a package that the scheme rounds: coremltools' name, bits."""
    for weight, metadata in _optimizer().get_weights_metadata(model, weight_threshold=1).items():
        plain = weight.removeprefix("p_").removesuffix("_to_fp16")
        kinds = {_KINDS.get(operation.op_type) for operation in metadata.child_ops}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None or plain not in names or metadata.val.ndim < 2:
            continue
        form = scheme.format_of(module, names[plain], kind, tuple(metadata.val.shape), remember=remember)
        if form is not None:
            yield weight, form.bits

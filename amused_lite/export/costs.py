"""Estimates of the memory and disk space of an export, in bytes, before it starts."""

import psutil

from amused_lite.config import ModelConfig
from amused_lite.export.modules import module_names
from amused_lite.export.options import NEEDS, ExportOptions
from amused_lite.models.networks import empty_part
from amused_lite.runtimes.torch import PARTS_OF

_BYTES = {"float32": 4, "float16": 2}
_LIBRARIES = 8e8  # bytes: torch and an engine with nothing to do
_GRAPHS = 2e7  # bytes on disk beside the weights


def weights_of(config: ModelConfig, module: str) -> int:
    """How many weights a module holds."""
    parts = (empty_part(config, part) for part in PARTS_OF[module])
    return sum(weight.numel() for part in parts for weight in part.parameters())


def memory_needed(config: ModelConfig, options: ExportOptions) -> int:
    """Peak memory of an export in bytes, estimated from its largest module."""
    largest = max(weights_of(config, module) for module in module_names(config))
    return int(_LIBRARIES + NEEDS[options.target].memory * 4 * largest)


def disk_needed(config: ModelConfig, options: ExportOptions) -> int:
    """Disk space of a bundle in bytes while it is made, estimated from its weights."""
    names = module_names(config)
    sizes = {module: weights_of(config, module) * _BYTES[options.precision_of(module)] for module in names}
    sizes["encode_image"] = 0  # the VQ-GAN's weights are counted once: each of its modules holds half of them
    if options.target == "coreml":
        sizes["unmask"] *= 3  # its two functions, before they become one package
    return int(1.05 * sum(sizes.values()) + _GRAPHS)


def available_memory() -> int:
    """Bytes that programs can still get without swapping."""
    return psutil.virtual_memory().available

"""A published folder to a float16 ONNX bundle that nothing was compared with yet, one weight in memory at a time.

Graphs know shapes and names of weights only, so they are traced over weights that no memory stands behind.
"""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.adapters.lora import FINGERPRINT, base_hash
from amused_lite.bundle import COLOURS, TOKENIZER, WEIGHTS, Bundle, write_manifest
from amused_lite.config import ModelConfig
from amused_lite.export import onnx
from amused_lite.export.bundle import staging, unproven_manifest
from amused_lite.export.modules import examples, load_module
from amused_lite.export.options import ExportOptions
from amused_lite.export.weights import SourceModel
from amused_lite.files.safetensors import open_tensors
from amused_lite.models.networks import empty_part


class UntouchedWeights:
    """`Weights` of any numbers; the system gives no memory to what is never written."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`."""
        return empty_part(self.config, name).to_empty(device="cpu").eval()


def write_float_bundle(
    source: SourceModel, tensors: onnx.Tensors, colours: np.ndarray, out: Path, name: str, done: Callable[[str], object]
) -> Bundle:
    """Write the bundle; it appears when it is complete.

    Args:
        source: of the tokenizer and the configuration.
        tensors: the weights.
        colours: (K, 3) uint8.
        out: the folder to make.
        name: what the bundle calls itself.
        done: is given what comes next.
    """
    config, options = source.weights.config, ExportOptions("onnx")
    with staging(out) as folder:
        shutil.copyfile(source.tokenizer, folder / TOKENIZER)
        np.save(folder / COLOURS, colours, allow_pickle=False)
        done("weights")
        onnx.write_weights(config, tensors, folder, options)
        untouched = UntouchedWeights(config)
        inputs = examples(untouched)
        for module in inputs:
            done(f"graph of {module}")
            onnx.write_module(module, load_module(module, untouched), inputs[module], folder, options)
            gc.collect()
        base = base_hash(open_tensors(folder / WEIGHTS).read(FINGERPRINT))
        manifest = write_manifest(folder, unproven_manifest(source, inputs, folder, options, name, base))
    return Bundle(out, manifest)

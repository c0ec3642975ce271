"""Export a model to a bundle, for any target: modules are written one by one, run, and compared with torch.

A folder under another name grows beside the place of the bundle and takes its name when all of it has been proven, so
that half a bundle never opens. One module's weights are in memory at a time.
"""

import gc
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from amused_lite.adapters.lora import preset_of
from amused_lite.adapters.torch import hash_of
from amused_lite.bundle import (
    COLOURS,
    MANIFEST,
    TOKENIZER,
    Bundle,
    Manifest,
    open_bundle,
    record_files,
    write_manifest,
)
from amused_lite.conditioning import Conditioning
from amused_lite.config import PRESETS
from amused_lite.export.colours import colour_table
from amused_lite.export.costs import disk_needed
from amused_lite.export.modules import OUTPUTS, examples, input_specs, load_module, module_names
from amused_lite.export.options import ExportOptions, require_target
from amused_lite.export.parity import AGREEMENT_STEPS, agreement, compare
from amused_lite.export.weights import RoundedWeights, SourceModel
from amused_lite.files.atomic import staging
from amused_lite.models.networks import Weights
from amused_lite.runtimes.base import Runtime
from amused_lite.runtimes.torch import TorchRuntime


def export_bundle(source: SourceModel, out: str | Path, options: ExportOptions, name: str | None = None) -> Manifest:
    """Write a bundle folder and prove it: every module is read back, run by its engine and compared with torch.

    Args:
        source: weights, tokenizer and what is known of them.
        out: the folder to make; a bundle that is there is replaced once the new one is complete.
        options: target, precision and what else the target offers.
        name: what the bundle calls itself; the source's name, the preset's or the folder's when None.

    Raises:
        ValueError: `out` holds something else, the disk is too small, a weight does not fit the precision, or a module
            differs from torch by more than `parity` allows.
        MissingExtraError: the target's libraries are not installed.
    """
    out, weights = Path(out), source.weights
    require_target(options.target)
    check_out(out)
    check_disk(out, disk_needed(weights.config, options))
    modules = len(module_names(weights.config))
    with staging(out) as folder, tqdm(total=2 * modules + AGREEMENT_STEPS, disable=None, leave=False) as bar:
        shutil.copyfile(source.tokenizer, folder / TOKENIZER)
        if source.colours is None:
            np.save(folder / COLOURS, _colours(weights), allow_pickle=False)
        else:
            shutil.copyfile(source.colours, folder / COLOURS)
        inputs = examples(weights)
        parity = _write_modules(source, inputs, folder, options, bar)
        preset = preset_of(weights.config)
        named = name or source.name or (preset if preset in PRESETS else out.name)
        base = hash_of(weights.part("uvit.token_side"))
        manifest = unproven_manifest(source, inputs, folder, options, named, base)
        parity |= _agreement(source, Bundle(folder, manifest), inputs, options, bar)
        manifest = write_manifest(folder, replace(manifest, parity=parity))
        open_bundle(folder)
    return manifest


def _colours(weights: Weights) -> np.ndarray:
    codebook = weights.part("vqgan").codebook.detach().numpy()
    return colour_table(TorchRuntime(weights).decode_image, codebook, weights.config.uvit.grid)


def unproven_manifest(
    source: SourceModel,
    inputs: dict[str, dict[str, Tensor]],
    folder: Path,
    options: ExportOptions,
    name: str,
    base: str,
) -> Manifest:
    """What a folder with all its files says about itself, without parity.

    base: which base this is (`adapters.lora.base_hash`), since graphs hide the weights that tell it.
    """
    config = source.weights.config
    said = options.record() | {"base_hash": base} | ({"draft": source.draft} if source.draft else {})
    return Manifest(
        name=name,
        preset=preset_of(config),
        config=config,
        image_size=config.image_size,
        precision={module: options.precision_of(module) for module in inputs},
        inputs=input_specs(inputs, options.free_rows),
        target=options.target,
        options=said,
        files=record_files(folder),
        adapter=source.adapter,
        weights_licence=source.licence,
    )


def _target(name: str) -> Any:
    """The module that writes one of `TARGETS`; only its own libraries are loaded."""
    match name:
        case "onnx":
            from amused_lite.export import onnx as target
        case "openvino":
            from amused_lite.export import openvino as target
        case "coreml":
            from amused_lite.export.coreml import convert as target
        case _:
            from amused_lite.export import executorch as target
    return target


def _write_modules(
    source: SourceModel, inputs: dict[str, dict[str, Tensor]], folder: Path, options: ExportOptions, bar: Any
) -> dict[str, float]:
    """Every module to the folder, and from there through its engine; returns the parity figures."""
    target = _target(options.target)
    rounded = RoundedWeights(source.weights)
    if options.target == "onnx" and not options.single_file:
        target.write_weights(source.weights.config, target.tensors_of(source.weights), folder, options)
    parity: dict[str, float] = {}
    for name in inputs:
        bar.set_description(f"{name}: writing")
        stored = rounded if options.precision_of(name) == "float16" else source.weights
        module = load_module(name, stored)
        target.write_module(name, module, inputs[name], folder, options)
        bar.update()
        bar.set_description(f"{name}: comparing")
        for given in _cases(name, inputs[name], options):
            expected = _expected(name, module, given, options)
            got = target.run_module(name, {key: array.numpy() for key, array in given.items()}, folder)
            figures = compare(name, expected, got, options.computes_in_half(name))
            parity |= {what: max(error, parity.get(what, 0.0)) for what, error in figures.items()}
        bar.update()
        del module
        gc.collect()
    return parity


def _cases(name: str, inputs: dict[str, Tensor], options: ExportOptions) -> Iterator[dict[str, Tensor]]:
    """The inputs to compare a module on: as exported, and without guidance where the rows are free."""
    yield inputs
    if name == "unmask" and options.free_rows:
        yield {key: array[1:] if key in Conditioning._fields else array for key, array in inputs.items()}


@torch.no_grad()
def _expected(name: str, module: Any, inputs: dict[str, Tensor], options: ExportOptions) -> dict[str, np.ndarray]:
    results = module(**inputs)
    results = (results,) if isinstance(results, Tensor) else results
    named = dict(zip(OUTPUTS[name], results, strict=True))
    return {output: array.numpy() for output, array in named.items() if options.log_probs or output != "log_probs"}


def _agreement(
    source: SourceModel, bundle: Bundle, inputs: dict[str, dict[str, Tensor]], options: ExportOptions, bar: Any
) -> dict[str, float]:
    """Teacher-forced agreement with torch on the unrounded weights, of each step of a whole picture."""
    bar.set_description("a picture, beside torch")
    arrays = {name: array.numpy() for name, array in inputs["unmask"].items()}
    pair = Conditioning(*(arrays[name] for name in Conditioning._fields))
    shares = {}
    follower = engine_of(bundle)
    for step, share in enumerate(
        agreement(TorchRuntime(source.weights), follower, pair, options.precision == "float16")
    ):
        shares[f"unmask.agreement.step_{step + 1:02}"] = share
        bar.update()
    return shares


def engine_of(bundle: Bundle) -> Runtime:
    """The runtime that proves a bundle; Core ML's is the interpreter, on every system alike."""
    if bundle.manifest.target == "coreml":
        from amused_lite.export.coreml.interpreter import InterpretedRuntime

        return InterpretedRuntime(bundle)
    from amused_lite.runtimes.open import open_engine

    return open_engine(bundle)


def check_out(out: Path) -> None:
    """Raise ValueError when something is in the place of the bundle that is none."""
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out} exists and is no bundle; give a new folder")


def check_disk(out: Path, needed: int) -> None:
    """Raise ValueError when the disk of a folder that may not exist yet has less room than this, in bytes."""
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        sizes = f"needs {needed / 1e9:.1f} GB on the disk of {existing}, {free / 1e9:.1f} GB are free"
        raise ValueError(f"this export {sizes}; make room, or give a folder on another disk")

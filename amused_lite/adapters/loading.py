"""Find, read and check adapters for an opened model, and merge them into its weights. Torch only for foreign files."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amused_lite.adapters.file import ForeignAdapterError, load_adapter
from amused_lite.adapters.lora import (
    FINGERPRINT,
    Adapter,
    WeightedAdapter,
    base_hash,
    changed_weights,
    check_adapter,
    merge_into,
    merge_weight,
    parse_weighted_adapter,
)
from amused_lite.bundle import MODULES, QUANTIZED, WEIGHTS, Bundle
from amused_lite.config import ModelConfig
from amused_lite.files.safetensors import open_tensors
from amused_lite.quantization import SCALE, requantize
from amused_lite.system.extras import require_extra
from amused_lite.system.paths import as_path

AdapterSpec = str | Path | tuple[str | Path, float]  # "FILE", "FILE:WEIGHT", or both apart


class LoadedAdapters(NamedTuple):
    """Adapters that fit a model, with weights, and remarks for the user."""

    weighted_adapters: tuple[WeightedAdapter, ...]
    remarks: tuple[str, ...]


def open_adapters(wanted: Sequence[AdapterSpec], config: ModelConfig, base: str = "") -> LoadedAdapters:
    """Read adapters and compare them with the model.

    Args:
        wanted: our files, files of diffusers or folders of peft (the `torch` extra), each with a weight or without.
        config: the model's.
        base: the model's `base_hash`, "" when it is not known.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a weight is out of range, a file is damaged, or an adapter does not fit.
        MissingExtraError: a foreign file needs the torch extra.
    """
    chosen, remarks = [], []
    for choice in wanted:
        path, weight = parse_weighted_adapter(str(choice)) if isinstance(choice, str | Path) else choice
        adapter, said = read_adapter(as_path(path), config)
        chosen.append(WeightedAdapter(adapter, weight))
        remarks += [*said, *check_adapter(adapter, config, base)]
    return LoadedAdapters(tuple(chosen), tuple(remarks))


def read_adapter(path: Path, config: ModelConfig) -> tuple[Adapter, list[str]]:
    """One adapter of any known form, and what a user should know; see `open_adapters`."""
    try:
        if not path.is_dir():
            return load_adapter(path), []
    except ForeignAdapterError:
        pass
    require_extra("torch", f"{path}, an adapter of another program,", "torch", "safetensors")
    from amused_lite.adapters.convert import read_foreign

    adapter, unused = read_foreign(path, config)
    listed = ", ".join(unused[:3]) + (f" and {len(unused) - 3} more" if len(unused) > 3 else "")
    return adapter, [
        f"{path}: {len(unused)} keys have no place in this model and are left out: {listed}"
    ] if unused else []


def hash_of_bundle(bundle: Bundle) -> str:
    """`base_hash` of a bundle: from its weights, or what its manifest says where graphs hide them; "" if neither."""
    name = next((name for name in (WEIGHTS, QUANTIZED) if name in bundle.manifest.files), None)
    if name is None:
        return str(bundle.manifest.options.get("base_hash", ""))
    file = open_tensors(bundle.path(name))
    return base_hash(file.read(FINGERPRINT)) if all(name in file.entries for name in FINGERPRINT) else ""


def stored_dtype(bundle: Bundle, weighted_adapters: Sequence[WeightedAdapter]) -> np.dtype:
    """How a bundle stores the weights that adapters change."""
    names = changed_weights(weighted_adapters)
    entries = open_tensors(bundle.path(WEIGHTS)).entries if names else {}
    half = any(name in entries and entries[name].dtype == "F16" for name in names)
    return np.dtype(np.float16 if half else np.float32)


def check_mergeable(weighted_adapters: Sequence[WeightedAdapter], runtime: str) -> None:
    """Raise ValueError for an adapter that a runtime of exported graphs cannot take in."""
    for adapter, weight in weighted_adapters:
        if weight and adapter.record.kind != "low_rank":
            kind = f"adapter {adapter.record.name!r} is a {adapter.record.kind}, which cannot be merged into a graph"
            raise ValueError(f"{kind}; use --runtime torch instead of {runtime}")


def changed_weights_of_module(module: str, weighted_adapters: Sequence[WeightedAdapter]) -> list[str]:
    """Names of the weights of one exported module that adapters change."""
    # The ranker's own copy of the text tower stays as it is.
    return [name for name in changed_weights(weighted_adapters) if name.startswith(MODULES.get(module, ()))]


def merged_weights(bundle: Bundle, module: str, weighted_adapters: Sequence[WeightedAdapter]) -> dict[str, np.ndarray]:
    """The weights of one module that adapters change, merged and in the bundle's own dtype: name -> array.

    Raises:
        FileNotFoundError: the bundle has no weights file of its own.
    """
    names = changed_weights_of_module(module, weighted_adapters)
    if names and QUANTIZED in bundle.manifest.files:
        return _merged_in_low_bits(bundle, names, weighted_adapters)
    return merge_into(open_tensors(bundle.path(WEIGHTS)).read(names), weighted_adapters) if names else {}


def _merged_in_low_bits(
    bundle: Bundle, names: Sequence[str], weighted_adapters: Sequence[WeightedAdapter]
) -> dict[str, np.ndarray]:
    """The same for a quantized ONNX bundle: widened, merged and rounded again, with new scales.

    Raises:
        ValueError: a kernel of a convolution lies in 4 bits.
    """
    file = open_tensors(bundle.path(QUANTIZED))
    pairs = {name: pair for choice in weighted_adapters for name, pair in choice.adapter.pairs.items()}
    shapes = {f"{name}.weight": (len(pair.up), pair.down.shape[1]) for name, pair in pairs.items()}
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        stored = file.read([name])[name]
        if name + SCALE not in file.entries:
            arrays |= merge_into({name: stored}, weighted_adapters)
            continue
        (scale,) = file.read([name + SCALE]).values()
        if stored.dtype == np.uint8 and name.startswith("vqgan."):
            # ONNX Runtime takes no 4-bit arrays in place of a file's.
            remedy = "use 8 bits, or export the model with --adapter and quantize that"
            raise ValueError(f"{bundle.folder} has a decoder of 4 bits, which takes no adapters; {remedy}")
        change = partial(merge_weight, name, weighted_adapters=weighted_adapters)
        if stored.dtype == np.uint8:
            integers, new = requantize(stored, scale, change, 8 * stored.size // math.prod(shapes[name]))
        elif scale.ndim == 1 and stored.ndim == 2:  # a linear layer, its rows along the second axis
            integers, new = requantize(stored, scale[None], lambda weight: change(weight.T).T)  # noqa: B023  # run at once
        else:
            integers, new = requantize(stored, scale.reshape(-1, *[1] * (stored.ndim - 1)), change)
        arrays |= {name: integers, name + SCALE: new.reshape(scale.shape)}
    return arrays

"""A model to an ONNX bundle. The graphs hold no weights: each names slices of the one `weights.safetensors`.

Where that file is float16, a Cast in the graph makes float32 of each slice; ONNX Runtime does it once, at loading.
"""

import argparse
import json
import shutil
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from amused_lite.bundle import COLOURS, MANIFEST, TOKENIZER, WEIGHTS, Manifest, open_bundle, write_manifest
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.export.modules import (
    OUTPUTS,
    colour_table,
    examples,
    exportable,
    free_axes,
    input_specs,
    modules,
)
from amused_lite.export.parity import compare
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import Networks, SavedWeights, load_networks, save_networks
from amused_lite.tokenizer import Tokenizer

OPSET = 20  # the first with Gelu
PRECISIONS = {"float16": torch.float16, "float32": torch.float32}


def export_onnx(
    networks: Networks,
    tokenizer_file: str | Path,
    out: str | Path,
    precision: str = "float16",
    name: str | None = None,
    weights_licence: str = "",
    adapter: str | None = None,
) -> Manifest:
    """Write a bundle folder and prove it: every module is run by ONNX Runtime and compared with torch.

    Args:
        networks: the whole model, with weights.
        tokenizer_file: its `tokenizer.json`.
        out: the folder to make; a bundle that is there is replaced once the new one is complete.
        precision: how the weights are stored, "float16" or "float32"; arithmetic is float32 either way.
        name: what the bundle calls itself; the preset's name, or the folder's, when None.
        weights_licence: licence of the weights, for the manifest.
        adapter: name of the adapter that was merged into the weights, if any.

    Raises:
        ValueError: the precision is unknown, `out` holds something else, a weight does not fit the precision, or a
            module differs from torch by more than `parity` allows.
    """
    out = Path(out)
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out} exists and is no bundle; give a new folder")
    partial = out.absolute().parent / f".{out.absolute().name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        preset = next((key for key, value in PRESETS.items() if value == networks.config), "custom")
        parity, inputs = _write_modules(networks, partial, PRECISIONS[precision])
        shutil.copyfile(tokenizer_file, partial / TOKENIZER)
        np.save(partial / COLOURS, colour_table(networks).numpy(), allow_pickle=False)
        manifest = Manifest(
            name=name or (preset if preset in PRESETS else out.name),
            preset=preset,
            config=networks.config.to_dict(),
            image_size=networks.config.image_size,
            precision=dict.fromkeys(OUTPUTS, precision),
            inputs=inputs,
            parity=parity,
            defaults={
                "steps": 12,
                "guidance_scale": networks.config.guidance_scale,
                "mask_temperature": [2.0, 0.0],
                "token_temperature": networks.config.token_temperature,
            },
            adapter=adapter,
            weights_licence=weights_licence,
        )
        manifest = write_manifest(partial, manifest)
        open_bundle(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _write_modules(
    networks: Networks, folder: Path, dtype: torch.dtype
) -> tuple[dict[str, float], dict[str, dict[str, list]]]:
    """Weights and graphs; returns the parity figures and the input specs."""
    save_networks(networks, folder / WEIGHTS, dtype)
    stored = load_networks(SavedWeights(folder / WEIGHTS, networks.config))  # what a reader will get, rounded
    names = {id(weight): name for name, weight in stored.named_parameters()}
    slices = _slices(folder / WEIGHTS)
    inputs = examples(stored)
    parity: dict[str, float] = {}
    for module_name, module in modules(stored).items():
        weights = {path: slices[names[id(weight)]] for path, weight in module.named_parameters()}
        path = folder / f"{module_name}.onnx"
        _write_graph(exportable(module), inputs[module_name], OUTPUTS[module_name], weights, path)
        parity |= _check(module_name, module, inputs[module_name], path)
    return parity, input_specs(inputs)


class _Slice(ir.ExternalTensor):
    """Where a weight lies in the weights file."""


def _slices(path: Path) -> dict[str, _Slice]:
    """Weight name -> its bytes in a safetensors file: an 8-byte header length, the JSON header, the data."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    kinds = {"F16": ir.DataType.FLOAT16, "F32": ir.DataType.FLOAT}
    return {
        name: _Slice(
            path.name,
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
            kinds[entry["dtype"]],
            shape=ir.Shape(entry["shape"]),
            name=name,
            base_dir=path.parent,
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


@torch.no_grad()
def _write_graph(
    module: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...], weights: dict[str, _Slice], path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=free_axes(inputs),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # only the writing form of the call returns nothing
    model = program.model
    graph = model.graph
    _name_nodes(graph)
    # The optimizer folds whatever is constant, weights too. Disguised as inputs they stay what they are.
    initializers = list(graph.initializers.values())
    for value in initializers:
        del graph.initializers[str(value.name)]
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize(model)
    del graph.inputs[len(inputs) :]
    casts = []
    for value in initializers:
        if value.uses():  # the two VQ-GAN modules each use half of it
            casts += _point_to(graph, value, weights[str(value.name)])
    if casts:
        graph.insert_before(graph[0], casts)
    _strip(model)
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def _point_to(graph: ir.Graph, value: ir.Value, weight: _Slice) -> list[ir.Node]:
    """Let an initializer name its slice of the weights file; returns the Cast it needs, if any."""
    stored = ir.Value(name=weight.name, type=ir.TensorType(weight.dtype), shape=weight.shape, const_value=weight)
    casts = []
    replacement = stored
    if weight.dtype != ir.DataType.FLOAT:
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"cast/{weight.name}")
        replacement = cast.outputs[0]
        replacement.name, replacement.type, replacement.shape = f"{weight.name}/float32", value.type, weight.shape
        casts.append(cast)
    ir.convenience.replace_all_uses_with(value, replacement)
    graph.register_initializer(stored)
    return casts


def _name_nodes(graph: ir.Graph) -> None:
    """Put the module's path before each node's name: quantizers leave out what begins with `tail/`."""
    for node in graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']")
        inner = [part.strip(" '\"") for part in scopes.strip("[]").split(",")][:-1]
        node.name = f"{inner[-1] or 'main'}/{node.name}"


def _strip(model: ir.Model) -> None:
    """Drop what the exporter remembers: stack traces with this machine's paths, and the shapes of inner values.

    Readers infer those shapes again, and ONNX Runtime's quantizer stumbles over stale ones.
    """
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = model.doc_string = None
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        if "/" not in str(node.name):
            node.name = f"main/{node.name}"  # made by the optimizer
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in graph.outputs:
                value.shape = value.type = None
    for value in (*graph.inputs, *graph.initializers.values(), *graph.outputs):
        value.metadata_props.clear()


@torch.no_grad()
def _check(name: str, module: nn.Module, inputs: dict[str, Tensor], path: Path) -> dict[str, float]:
    results = module(**inputs)
    results = (results,) if isinstance(results, Tensor) else results
    expected = {output: array.numpy() for output, array in zip(OUTPUTS[name], results, strict=True)}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(list(expected), {key: array.numpy() for key, array in inputs.items()})
    return compare(name, expected, {output: np.asarray(array) for output, array in zip(expected, got, strict=True)})


def open_for_export(folder: Path, scratch: Path) -> tuple[Networks, Path]:
    """Networks and `tokenizer.json` of a bundle or of a folder in diffusers' layout, whose tokenizer goes to `scratch`.

    Raises:
        FileNotFoundError, ValueError: see `open_bundle` and `PublishedWeights`.
    """
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        return load_networks(SavedWeights(bundle.path(WEIGHTS), bundle.config)), bundle.path(TOKENIZER)
    weights = PublishedWeights(folder)
    _published_tokenizer(folder / "tokenizer", weights.config).save(scratch / TOKENIZER)
    return load_networks(weights), scratch / TOKENIZER


def _published_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    text = config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    return Tokenizer.from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt", *ids)


def main(arguments: list[str] | None = None) -> int:
    """`python -m amused_lite.export.to_onnx MODEL OUT`; returns the exit code."""
    import tempfile

    from amused_lite.runtimes.open import find_model

    parser = argparse.ArgumentParser(description="Export a model to an ONNX bundle.")
    parser.add_argument("model", help='"tiny", a bundle folder, a folder in diffusers\' layout, or a hub id')
    parser.add_argument("out", type=Path, help="the bundle folder to make")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="float16", help="how weights are stored")
    parser.add_argument("--name", help="what the bundle calls itself")
    parser.add_argument("--licence", default="", help="licence of the weights")
    chosen = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            networks, tokenizer = open_for_export(find_model(chosen.model), Path(scratch))
            manifest = export_onnx(networks, tokenizer, chosen.out, chosen.precision, chosen.name, chosen.licence)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(record.size for record in manifest.files.values())
    print(f"{chosen.out}: {size / 1e6:.1f} MB")
    for name, figure in manifest.parity.items():
        print(f"  {name}: {figure:.1e} from torch")
    return 0


if __name__ == "__main__":
    sys.exit(main())

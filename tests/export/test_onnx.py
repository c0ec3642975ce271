"""An exported bundle: ONNX Runtime against torch, one copy of the weights, nothing of this machine inside."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import published
import pytest
import torch
from onnx import external_data_helper
from small import small_source

from amused_lite.adapters.torch import hash_of
from amused_lite.bundle import MODULES, WEIGHTS, Bundle, open_bundle
from amused_lite.cli import main
from amused_lite.conditioning import MicroConditioning, stack_pair
from amused_lite.export import onnx as to_onnx
from amused_lite.export.bundle import export_bundle
from amused_lite.export.costs import disk_needed
from amused_lite.export.modules import OUTPUTS, examples, exportable, load_module, module_names
from amused_lite.export.options import OPSETS, ExportOptions
from amused_lite.export.weights import open_source
from amused_lite.models.checkpoint import PublishedWeights, save_diffusers
from amused_lite.models.networks import SavedWeights, load_networks
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=["float16", "float32"])
def bundle(request: pytest.FixtureRequest, small_bundle: Callable[..., Path]) -> Bundle:
    """A bundle of random weights in each precision."""
    bundle = open_bundle(small_bundle(ranker=request.param == "float32", precision=request.param))
    print(f"{request.param}: {json.dumps(bundle.manifest.parity)}")
    return bundle


def test_whole_generations_equal_torch(bundle: Bundle) -> None:
    onnx_model = AmusedPipeline(*open_model(bundle.folder, "onnx"), keep_loaded=True)
    torch_model = AmusedPipeline(*open_model(bundle.folder, "torch"), keep_loaded=True)
    for prompt in ("a red star", "a blue boat", "a red boat above a blue star"):
        ours = onnx_model.generate(prompt, steps=8, seed=3)
        reference = torch_model.generate(prompt, steps=8, seed=3)
        assert (ours.recipe.tokens == reference.recipe.tokens).all()
    tokens = ours.recipe.tokens[None].astype(np.int32)
    pixels = onnx_model.runtime.decode_image(tokens)
    error = np.abs(pixels - torch_model.runtime.decode_image(tokens)).max()
    codes = [model.runtime.encode_image(pixels) for model in (onnx_model, torch_model)]
    print(f"{bundle.manifest.precision['unmask']}: 3 prompts, tokens equal, pixels within {error:.1e}")
    assert error <= 1e-3
    assert (codes[0] == codes[1]).mean() >= 0.99


def test_torch_runtime_loads_parts_again_after_release(bundle: Bundle) -> None:
    runtime = TorchRuntime.from_bundle(bundle)
    micro = MicroConditioning(256, 256).array()
    text = bundle.config.text
    ids = np.full((1, text.context_length), text.end_token_id, np.int32)
    first = runtime.encode_prompt(ids, micro)
    pair = stack_pair(first, first)
    *_, last = unmask_tokens(runtime, pair, GenerateOptions(steps=3, guidance_scale=2.0))
    for module in MODULES:
        runtime.release(module)
    assert not runtime._parts
    *_, again = unmask_tokens(runtime, pair, GenerateOptions(steps=3, guidance_scale=2.0))
    assert (again.tokens == last.tokens).all()
    with pytest.raises(ValueError, match="no module 'unet'"):
        runtime.release("unet")


def test_weights_are_stored_once(bundle: Bundle) -> None:
    stored = (bundle.folder / "weights.safetensors").stat().st_size
    kinds = {"float16": onnx.TensorProto.FLOAT16, "float32": onnx.TensorProto.FLOAT}
    named = set()
    for module in module_names(bundle.config):
        path = bundle.folder / f"{module}.onnx"
        assert path.stat().st_size < 0.3 * stored
        graph = onnx.load(path, load_external_data=False).graph
        for tensor in graph.initializer:
            if tensor.external_data:
                where = external_data_helper.ExternalDataInfo(tensor)
                assert where.location == "weights.safetensors"
                assert tensor.data_type == kinds[bundle.manifest.precision[module]]
                named.add(tensor.name)
            else:
                assert len(tensor.raw_data) <= 4096, f"{tensor.name} is a second copy of a weight"
    networks = load_networks(SavedWeights(bundle.path("weights.safetensors"), bundle.config))
    assert named == {name for name, _ in networks.named_parameters()}


def test_the_weights_file_is_that_of_safetensors(tmp_path: Path) -> None:
    source = small_source(tmp_path, ranker=True)
    networks = load_networks(source.weights)
    for precision, dtype in (("float16", torch.float16), ("float32", torch.float32)):
        tensors = to_onnx.tensors_of(source.weights)
        to_onnx.write_weights(source.weights.config, tensors, tmp_path, ExportOptions(precision=precision))
        published.save_weights(networks, tmp_path / "reference", dtype)
        assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "reference").read_bytes()


def test_slices_hold_the_weights_they_name(bundle: Bundle) -> None:
    networks = load_networks(SavedWeights(bundle.path("weights.safetensors"), bundle.config))
    weights = networks.state_dict()
    model = onnx.load(bundle.folder / "unmask.onnx")  # reads the external data itself
    names = [tensor.name for tensor in model.graph.initializer if tensor.name.startswith("uvit.")]
    assert len(names) > 20
    for tensor in model.graph.initializer:
        if tensor.name in names:
            assert np.array_equal(onnx.numpy_helper.to_array(tensor).astype(np.float32), weights[tensor.name].numpy())


def test_graphs_say_nothing_of_this_machine(bundle: Bundle) -> None:
    for path in bundle.folder.iterdir():
        content = path.read_bytes()
        for trace in (str(Path.cwd()), str(Path.home()), "site-packages", str(bundle.folder), ".py"):
            assert trace.encode() not in content, f"{path.name} holds {trace}"


def test_tail_is_named_for_quantizers(bundle: Bundle) -> None:
    """All that follows the logits is called `tail/...` and owns no weights; nothing before them is."""
    graph = onnx.load(bundle.folder / "unmask.onnx", load_external_data=False).graph
    behind = set()
    for node in graph.node:
        inside = node.op_type == "LogSoftmax" or any(name in behind for name in node.input)
        if inside:
            behind.update(node.output)
            assert node.name.startswith("tail/"), node.name
            assert not any(name.startswith("uvit.") for name in node.input)
        assert len(node.name) > 5
    assert {"next_tokens", "guess"} <= behind
    assert not {"TopK", "Multinomial", "RandomUniform", "CumSum"} & {node.op_type for node in graph.node}


def test_manifest_says_what_the_graphs_take(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for module in module_names(bundle.config):
        graph = onnx.load(bundle.folder / f"{module}.onnx", load_external_data=False).graph
        kinds = {onnx.TensorProto.INT32: "int32", onnx.TensorProto.FLOAT: "float32"}
        found = {
            item.name: (
                kinds[item.type.tensor_type.elem_type],
                [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim],
            )
            for item in graph.input
        }
        assert found == manifest.inputs[module]
    assert set(manifest.parity) >= {"unmask.guess", "decode_image.image", "encode_prompt.layer_text"}
    assert bundle.colours().shape == (128, 3)


def test_published_folder_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command, on a model built like the published ones; its tokens are those of the folder in torch."""
    text = published.make_text(vocab_size=600, bos_token_id=598, eos_token_id=599, pad_token_id=599)
    uvit = published.make_uvit(downsample=True, upsample=True)
    weights = PublishedWeights(published.save(tmp_path / "original", uvit, text=text))
    Tokenizer.train(["a dog on a boat", "a red star"], 600, 11).save(tmp_path / "tokenizer.json")
    save_diffusers(load_networks(weights), tmp_path / "folder", tmp_path / "tokenizer.json")
    target = tmp_path / "bundle"
    words = ["--to", "onnx", "--precision", "float32", "--licence", "openrail++", "--name", "mine", "--json"]
    assert main(["export", str(tmp_path / "folder"), str(target), *words]) == 0
    printed, manifest = capsys.readouterr(), open_bundle(target).manifest
    report = json.loads(printed.out)
    assert "unmask.guess" in report["parity"] and report["parity"] == manifest.parity
    assert "this export needs about" in printed.err
    disk = disk_needed(manifest.config, ExportOptions(precision="float32"))
    assert report["bytes"] <= disk <= 2 * report["bytes"] + 2e7
    assert manifest.name == "mine" and manifest.weights_licence == "openrail++"
    tokens = [
        AmusedPipeline(*open_model(model, runtime)).generate("a red dog", steps=6, guidance_scale=4.0).recipe.tokens
        for model, runtime in ((tmp_path / "folder", "torch"), (target, "onnx"), (target, "torch"))
    ]
    assert (tokens[0] == tokens[1]).all()
    assert (tokens[0] == tokens[2]).all()
    assert open_bundle(target).manifest.preset == "custom"


@torch.no_grad()
def test_every_other_choice_together(tmp_path: Path) -> None:
    """An old operator set, weights inside, no log-probabilities: what torch gives."""
    source = small_source(tmp_path)
    options = ExportOptions(precision="float32", opset=18, single_file=True, log_probs=False)
    manifest = export_bundle(source, tmp_path / "bundle", options)
    assert WEIGHTS not in manifest.files and manifest.options == {
        "base_hash": hash_of(source.weights.part("uvit.token_side")),
        "opset": 18,
        "single_file": True,
        "log_probs": False,
    }
    assert manifest.inputs["unmask"]["tokens"][1] == [1, 256]
    assert manifest.inputs["unmask"]["block_text"][1][0] == "rows"
    for name, inputs in examples(source.weights, seed=4).items():
        expected = load_module(name, source.weights)(**inputs)
        expected = (expected,) if isinstance(expected, torch.Tensor) else expected
        got = to_onnx.run_module(name, {key: array.numpy() for key, array in inputs.items()}, tmp_path / "bundle")
        assert list(got) == [output for output in OUTPUTS[name] if output != "log_probs"]
        for (output, array), wanted in zip(got.items(), expected, strict=False):
            assert np.abs(array - wanted.numpy()).max() <= 1e-4 * float(wanted.abs().max()), f"{name}.{output}"
    engine = AmusedPipeline(*open_model(tmp_path / "bundle"))
    assert engine.generate("a red star", steps=3).image.size == (256, 256)
    with pytest.raises(ValueError, match="gives no log_probs"):
        engine.generate("a red star", steps=3, top_k=4)
    with pytest.raises(ValueError, match="no weights for torch; leave --runtime out"):
        open_model(tmp_path / "bundle", "torch")
    with pytest.raises(ValueError, match="to export from; give the model it was made from"):
        open_source(tmp_path / "bundle", tmp_path)


def test_graphs_use_standard_operators_only(bundle: Bundle) -> None:
    """Nothing but ONNX's own: what DirectML, CUDA and the phones' builds of ONNX Runtime know."""
    for name in module_names(bundle.config):
        model = onnx.load(bundle.folder / f"{name}.onnx", load_external_data=False)
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
        assert {node.domain for node in model.graph.node} == {""}


@torch.no_grad()
def test_the_newest_operator_set(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    options = ExportOptions(precision="float32", opset=OPSETS[-1], single_file=True)
    module, inputs = load_module("decode_image", source.weights), examples(source.weights)["decode_image"]
    to_onnx.write_module("decode_image", module, inputs, tmp_path, options)
    (found,) = onnx.load(tmp_path / "decode_image.onnx").opset_import
    assert found.version == OPSETS[-1]
    got = to_onnx.run_module("decode_image", {"tokens": inputs["tokens"].numpy()}, tmp_path)
    assert np.abs(got["image"] - module(**inputs).numpy()).max() < 1e-4  # of 0...1; sums in another order


@torch.no_grad()
def test_group_norms_are_exported_exactly(tmp_path: Path) -> None:
    """A large grid with a mean far from 0, where ONNX Runtime's own norm loses digits."""
    norm = published.shake(torch.nn.GroupNorm(4, 16, eps=1e-6))
    module = torch.nn.Sequential(norm).eval()
    x = torch.randn(1, 16, 512, 512, generator=torch.Generator().manual_seed(0)) + 3
    exact = norm.double()(x.double()).numpy()
    norm.float()
    errors = []
    for name, kind in (("plain", module), ("exportable", exportable(module))):
        path = tmp_path / f"{name}.onnx"
        torch.onnx.export(kind, (x,), path, dynamo=True, opset_version=20, verbose=False)
        got = onnxruntime.InferenceSession(path).run(None, {"input": x.numpy()})[0]
        errors.append(np.abs(got - exact).max())
    print(f"group norm in ONNX Runtime: {errors[0]:.1e} off, as exported {errors[1]:.1e}")
    assert errors[1] < 3e-6 < errors[0]
    assert [weight.data_ptr() for weight in exportable(module).parameters()] == [
        weight.data_ptr() for weight in module.parameters()
    ]

"""An exported bundle: ONNX Runtime against torch, one copy of the weights, nothing of this machine inside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import published
import pytest
import torch
from onnx import external_data_helper

from amused_lite.bundle import MODULES, Bundle, open_bundle
from amused_lite.conditioning import MicroConditioning, stack_pair
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.export import to_onnx
from amused_lite.export.modules import colour_table, exportable
from amused_lite.export.parity import compare
from amused_lite.generate import Amused
from amused_lite.models.checkpoint import PublishedWeights, save_diffusers
from amused_lite.models.networks import Networks, SavedWeights, load_networks
from amused_lite.options import GenerateOptions
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.torch_runtime import TorchRuntime
from amused_lite.tokenizer import Tokenizer
from amused_lite.unmasking import unmask_tokens


def small_config() -> ModelConfig:
    """The tiny preset's kinds of parts, and fewer of them."""
    tiny = PRESETS["tiny"]
    return replace(
        tiny,
        text=replace(tiny.text, vocab_size=600, start_token_id=598, end_token_id=599, layers=2),
        uvit=replace(tiny.uvit, grid=16, codebook_size=128, vocab_size=136, layers=2, res_blocks=1),
        vqgan=replace(tiny.vqgan, codebook_size=128),
    )


@pytest.fixture(scope="module", params=["float16", "float32"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights in each precision."""
    folder = tmp_path_factory.mktemp(request.param)
    config = small_config()
    networks = Networks(config).eval()
    published.shake(networks.uvit, 1)
    with torch.no_grad():
        networks.vqgan.codebook.normal_(generator=torch.Generator().manual_seed(3))
    text = config.text
    Tokenizer.train(["a red star", "a blue boat"], text.vocab_size, text.context_length).save(folder / "t.json")
    manifest = to_onnx.export_onnx(networks, folder / "t.json", folder / "bundle", precision=request.param)
    print(f"{request.param}: {json.dumps(manifest.parity)}")
    return open_bundle(folder / "bundle")


def test_whole_generations_equal_torch(bundle: Bundle) -> None:
    onnx_model = Amused(*open_model(bundle.folder, "onnx"), keep_loaded=True)
    torch_model = Amused(*open_model(bundle.folder, "torch"), keep_loaded=True)
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
    for module in MODULES:
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
    for module in MODULES:
        graph = onnx.load(bundle.folder / f"{module}.onnx", load_external_data=False).graph
        kinds = {onnx.TensorProto.INT32: "int32", onnx.TensorProto.FLOAT: "float32"}
        found = {
            item.name: [
                kinds[item.type.tensor_type.elem_type],
                [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim],
            ]
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
    assert (
        to_onnx.main([str(tmp_path / "folder"), str(target), "--precision", "float32", "--licence", "openrail++"]) == 0
    )
    assert "unmask.guess" in capsys.readouterr().out
    assert open_bundle(target).manifest.weights_licence == "openrail++"
    tokens = [
        Amused(*open_model(model, runtime)).generate("a red dog", steps=6, guidance_scale=4.0).recipe.tokens
        for model, runtime in ((tmp_path / "folder", "torch"), (target, "onnx"), (target, "torch"))
    ]
    assert (tokens[0] == tokens[1]).all()
    assert (tokens[0] == tokens[2]).all()
    assert to_onnx.main([str(tmp_path / "nowhere"), str(target)]) == 2
    assert "not found" in capsys.readouterr().err
    assert open_bundle(target).manifest.preset == "custom"


def test_parity_above_its_bound_is_refused() -> None:
    exact = {"tokens": np.zeros((1, 50), np.int32)}
    off = {"tokens": np.array([[1, *[0] * 49]], np.int32)}
    assert compare("unmask", exact, exact) == {"unmask.tokens": 0}
    with pytest.raises(ValueError, match=r"unmask\.tokens is 2\.0e-02 away"):
        compare("unmask", exact, off)
    with pytest.raises(ValueError, match="layer_text is nan away"):
        compare("encode_prompt", {"layer_text": np.ones(3)}, {"layer_text": np.full(3, np.nan)})


def test_bad_requests_leave_nothing_behind(tmp_path: Path) -> None:
    networks = Networks(small_config())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(ValueError, match="no bundle"):
        to_onnx.export_onnx(networks, tmp_path / "t.json", tmp_path / "mine")
    with pytest.raises(ValueError, match="float8"):
        to_onnx.export_onnx(networks, tmp_path / "t.json", tmp_path / "new", precision="float8")
    with torch.no_grad():
        networks.uvit.token_side.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"token_side\.head\.weight holds values .* torch\.float16"):
        to_onnx.export_onnx(networks, tmp_path / "t.json", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


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
        torch.onnx.export(kind, (x,), path, dynamo=True, opset_version=to_onnx.OPSET, verbose=False)
        got = onnxruntime.InferenceSession(path).run(None, {"input": x.numpy()})[0]
        errors.append(np.abs(got - exact).max())
    print(f"group norm in ONNX Runtime: {errors[0]:.1e} off, as exported {errors[1]:.1e}")
    assert errors[1] < 3e-6 < errors[0]
    assert [weight.data_ptr() for weight in exportable(module).parameters()] == [
        weight.data_ptr() for weight in module.parameters()
    ]


@torch.no_grad()
def test_colours_are_those_of_the_decoder() -> None:
    networks = Networks(small_config()).eval()
    published.shake(networks.vqgan, 5)
    networks.vqgan.codebook.normal_(generator=torch.Generator().manual_seed(3))
    table = colour_table(networks).numpy() / 255
    picture = networks.vqgan.decode_image(torch.full((1, 256), 7))[0]
    middle = picture[:, 96:160, 96:160].mean((1, 2)).numpy()
    print(f"code 7 in the table {table[7]}, in a plain picture {middle}")
    assert np.abs(table[7] - middle).max() < 0.1
    assert table.std(0).max() > 0.02

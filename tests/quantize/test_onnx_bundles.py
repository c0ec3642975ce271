"""ONNX bundles in 8 and 4 bits: they draw, they keep the sampler's tail, they take adapters, they say what they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from amused_lite.adapters.file import save_adapter
from amused_lite.adapters.loading import merged_weights, open_adapters
from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair, merge_weight, shapes_of
from amused_lite.bundle import QUANTIZED, Bundle, open_bundle
from amused_lite.files.safetensors import open_tensors
from amused_lite.pipeline import AmusedPipeline
from amused_lite.quantization import SCALE, dequantize_blocks, dequantize_rows, unpack
from amused_lite.runtimes.open import find_model
from amused_lite.sampling.settings import GenerateOptions

Make = Callable[..., Bundle]
FORMS = [(8, "weights"), (8, "dynamic"), (4, "weights")]
HEAD = "uvit.token_side.head.weight"
QUERY = "uvit.token_side.layers.1.self_attention.query"


def graph_of(bundle: Bundle, module: str) -> onnx.GraphProto:
    return onnx.load(str(bundle.path(f"{module}.onnx")), load_external_data=False).graph


@pytest.mark.parametrize(("bits", "method"), FORMS)
def test_draws_a_picture_and_keeps_the_tail(make: Make, bits: int, method: str) -> None:
    bundle = make("onnx", bits, method)
    picture = AmusedPipeline.open(bundle.folder).generate("a red star", steps=4, seed=1)
    assert picture.image.size == (512, 512) and np.asarray(picture.image).std() > 5
    before, after = (graph_of(b, "unmask") for b in (open_bundle(find_model("tiny")), bundle))
    tails = [[(n.name, n.op_type) for n in graph.node if n.name.startswith("tail/")] for graph in (before, after)]
    assert tails[0] and tails[0] == tails[1]
    # No integers come near it: what it reads was made by the head's product, an input, or itself.
    inner = {output for node in after.node if node.name.startswith("tail/") for output in node.output}
    makers = {output: node.op_type for node in after.node for output in node.output}
    read = {value for node in after.node if node.name.startswith("tail/") for value in node.input} - inner
    assert not {makers.get(value) for value in read} & {"MatMulInteger", "QuantizeLinear", "DynamicQuantizeLinear"}


def test_the_recipe_is_in_the_manifest_and_true(make: Make) -> None:
    bundle = make("onnx", 8, "dynamic")
    record = bundle.manifest.options["quantization"]
    assert (record["bits"], record["method"]) == (8, "dynamic")
    assert "vqgan.codebook" not in str(record["recipe"]["unmask"])
    entries = open_tensors(bundle.path(QUANTIZED)).entries
    in_float = set(record["recipe"]["decode_image"]["float16"])
    assert "vqgan.decoder.out.weight" in in_float
    assert {entries[name].dtype for name in in_float} == {"F16"}
    assert entries[HEAD].dtype == "U8"  # as MatMulNBits has it
    rounded = [node.input[1] for node in graph_of(bundle, "unmask").node if node.op_type == "MatMulInteger"]
    assert rounded and all(name.startswith("uvit.token_side.layers.") for name in rounded)
    report = record["report"]
    assert report["agreement"] >= 0.95 and len(report["agreement_of_steps"]) == 12
    assert report["bytes"]["all"] < 0.6 * report["bytes_of_float"]["all"]
    assert set(bundle.manifest.precision.values()) == {"int8"}


def test_4_bits_are_smaller(make: Make) -> None:
    small, smaller = (make("onnx", bits, "weights") for bits in (8, 4))
    sizes = [bundle.manifest.options["quantization"]["report"]["bytes"]["unmask"] for bundle in (small, smaller)]
    assert sizes[1] < 0.65 * sizes[0]
    blocks = [node for node in graph_of(smaller, "unmask").node if node.op_type == "MatMulNBits"]
    bits = [item.i for node in blocks for item in node.attribute if item.name == "bits"]
    assert set(bits) == {4, 8} and bits.count(8) == 2  # the head and the embedding's projection
    assert make("onnx", 4, "weights").manifest.options["quantization"]["report"]["agreement"] >= 0.8


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strong adapter on attention, the same every time."""
    config = open_bundle(find_model("tiny")).config
    rng = np.random.default_rng(5)
    pairs = {
        name: Pair(*(0.3 * rng.standard_normal(shape).astype(np.float32) for shape in ((4, inside), (out, 4))))
        for name, (out, inside) in shapes_of(config, ("attention",)).items()
    }
    path = tmp_path_factory.mktemp("adapter") / "style.safetensors"
    save_adapter(Adapter(AdapterRecord("noise", 4, 4.0, ("attention",), "tiny", "tiny", ""), pairs), path)
    return path


def log_probs_of(model: Path, adapters: list[str]) -> np.ndarray:
    """What the model expects of a picture that is all masked."""
    amused = AmusedPipeline.open(model, adapters=adapters)
    pair = amused.condition("a red star", "", GenerateOptions())
    uvit = amused.runtime.config.uvit
    return amused.runtime.predict(np.full((1, uvit.num_tokens), uvit.mask_token_id, np.int32), pair, 3.0)


@pytest.mark.parametrize("method", ["weights", "dynamic"])
def test_adapters_are_merged_into_rounded_weights(make: Make, adapter: Path, method: str) -> None:
    small, model = make("onnx", 8, method).folder, find_model("tiny")
    plain, styled = log_probs_of(small, []), log_probs_of(small, [str(adapter)])
    wanted = log_probs_of(model, [str(adapter)])
    change = np.abs(styled - plain).mean()
    assert np.abs(styled - wanted).mean() < 0.25 * change  # what is left is rounding, not the style
    assert np.array_equal(log_probs_of(small, [f"{adapter}:0"]), plain)


def test_a_merged_weight_is_the_sum_rounded_again(make: Make, adapter: Path) -> None:
    bundle, name = make("onnx", 8, "weights"), f"{QUERY}.weight"
    chosen = open_adapters([adapter], bundle.config).weighted_adapters
    got = merged_weights(bundle, "unmask", chosen)
    file = open_tensors(bundle.path(QUANTIZED))
    packed, scale = file.read([name, name + SCALE]).values()
    before = dequantize_rows(unpack(packed, 8).reshape(len(packed), -1), scale)
    expected = merge_weight(name, before, chosen)
    after = dequantize_rows(unpack(got[name], 8).reshape(len(packed), -1), got[name + SCALE])
    assert got[name].shape == packed.shape and np.abs(expected - before).max() > 0.1
    assert (np.abs(after - expected) <= got[name + SCALE].astype(np.float32) * (0.5 + 127 * 2**-11)).all()


def test_a_merged_weight_of_4_bits(make: Make, adapter: Path) -> None:
    bundle, name = make("onnx", 4, "weights"), f"{QUERY}.weight"
    chosen = open_adapters([adapter], bundle.config).weighted_adapters
    got = merged_weights(bundle, "unmask", chosen)
    packed, scale = open_tensors(bundle.path(QUANTIZED)).read([name, name + SCALE]).values()
    expected = merge_weight(name, dequantize_blocks(unpack(packed, 4), scale), chosen)
    after = dequantize_blocks(unpack(got[name], 4), got[name + SCALE])
    assert got[name].shape == packed.shape
    # A step of 4 bits is a seventh of a block's largest value, so a tenth is lost; another weight would be 1.4 away.
    assert np.linalg.norm(after - expected) < 0.15 * np.linalg.norm(expected)
    amused = AmusedPipeline.open(bundle.folder, adapters=[str(adapter)])
    assert np.asarray(amused.generate("a red star", steps=2).image).std() > 5


def test_without_the_encoder_editing_says_what_to_do(make: Make) -> None:
    bundle = make("onnx", 8, "weights", encoder=False)
    assert "encode_image.onnx" not in bundle.manifest.files
    assert not any(name.startswith("vqgan.encoder.") for name in open_tensors(bundle.path(QUANTIZED)).entries)
    amused = AmusedPipeline.open(bundle.folder)
    with pytest.raises(ValueError, match=r"was made without encode_image.+quantized without --no-encoder"):
        amused.runtime.encode_image(np.zeros((1, 3, 512, 512), np.float32))
    with pytest.raises(ValueError, match="no weights for torch"):
        AmusedPipeline.open(bundle.folder, runtime="torch")

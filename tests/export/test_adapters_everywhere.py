"""One adapter file on torch, ONNX Runtime, OpenVINO and Core ML, merged at loading or at export: equal pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import small_config, small_source

from amused_lite.adapters.file import load_adapter, save_adapter
from amused_lite.adapters.lora import TARGETS, Adapter, AdapterRecord, Pair, shapes_of
from amused_lite.adapters.torch import hash_of
from amused_lite.bundle import TOKENIZER, open_bundle
from amused_lite.export.bundle import export_bundle
from amused_lite.export.coreml.interpreter import InterpretedRuntime
from amused_lite.export.options import ExportOptions
from amused_lite.export.weights import open_source, with_adapters
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(small_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`onnx` and `openvino`, bundles of the same float16 weights, and `gold.safetensors`."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "onnx").symlink_to(small_bundle())
    (folder / "openvino").symlink_to(small_bundle(ranker=True, target="openvino"))
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(*(rng.normal(0, 0.1, size).astype(np.float32) for size in ((4, inside), (outside, 4))))
        for module, (outside, inside) in shapes_of(small_config(), TARGETS).items()
    }
    save_adapter(Adapter(AdapterRecord("gold", 4, 4.0, TARGETS, "custom", "", ""), pairs), folder / "gold.safetensors")
    return folder


def drawn(folder: Path, runtime: str = "auto", *adapters: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and pixels of one picture."""
    amused = AmusedPipeline.open(folder, runtime, threads=1, keep_loaded=True, adapters=adapters)
    picture = amused.generate("a red star", seed=3, steps=4)
    return picture.recipe.tokens, np.asarray(picture.image, int)


def assert_same(got: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(got[0], expected[0])
    assert np.abs(got[1] - expected[1]).max() <= 1  # of 255: engines add up in orders of their own


@pytest.mark.parametrize("weight", [0.7, -0.5])
def test_merged_at_loading(weight: float, folder: Path) -> None:
    choice = f"{folder / 'gold.safetensors'}:{weight}"
    expected = drawn(folder / "onnx", "torch", choice)
    assert_same(drawn(folder / "onnx", "onnx", choice), expected)
    assert_same(drawn(folder / "openvino", "auto", choice), expected)
    plain = drawn(folder / "openvino")
    assert (plain[0] != expected[0]).mean() > 0.1
    assert_same(drawn(folder / "openvino", "auto", f"{folder / 'gold.safetensors'}:0"), plain)


def test_another_base_is_mentioned_on_every_runtime(folder: Path) -> None:
    """Also where graphs hide the weights that tell it."""
    known = load_adapter(folder / "gold.safetensors")
    exact = hash_of(small_source(folder).weights.part("uvit.token_side"))
    rounded = AmusedPipeline.open(folder / "onnx", "torch").runtime.base_hash()
    for bundle, own in (("onnx", rounded), ("openvino", exact)):
        for base, remarks in ((own, 0), ("0" * 64, 1)):
            choice = save_adapter(
                replace(known, record=replace(known.record, base_hash=base)), folder / f"{base[:6]}.safetensors"
            )
            assert len(AmusedPipeline.open(folder / bundle, adapters=[str(choice)]).info.remarks) == remarks


def test_a_decoder_alone_paints_the_same_tokens_otherwise(folder: Path) -> None:
    adapter = load_adapter(folder / "gold.safetensors")
    pairs = {path: pair for path, pair in adapter.pairs.items() if path.startswith("vqgan.")}
    record = replace(adapter.record, name="painter", targets=("decoder",))
    choice = str(save_adapter(Adapter(record, pairs), folder / "painter.safetensors"))
    plain, expected = drawn(folder / "onnx", "onnx"), drawn(folder / "onnx", "torch", choice)
    np.testing.assert_array_equal(plain[0], expected[0])
    assert np.abs(plain[1] - expected[1]).mean() > 1  # of 255
    for runtime, bundle in (("onnx", "onnx"), ("auto", "openvino")):
        assert_same(drawn(folder / bundle, runtime, choice), expected)


def test_merged_at_export_is_the_same(folder: Path) -> None:
    choice = f"{folder / 'gold.safetensors'}:0.7"
    source, remarks = with_adapters(open_source(folder / "onnx", folder), [choice])
    assert remarks == ()
    manifest = export_bundle(source, folder / "gold", ExportOptions())
    assert manifest.adapter == "gold:0.7"
    colours = [np.load(folder / name / "colours.npy").astype(int) for name in ("onnx", "gold")]
    assert (colours[0] != colours[1]).mean() > 0.3  # previews are painted as the adapter paints
    assert_same(drawn(folder / "gold"), drawn(folder / "onnx", "onnx", choice))


def test_merged_into_core_ml_packages(folder: Path) -> None:
    """The packages' own programs, computed by the interpreter."""
    choice = f"{folder / 'gold.safetensors'}:0.7"
    source, _ = with_adapters(open_source(folder / "onnx", folder), [choice])
    export_bundle(source, folder / "phone", ExportOptions("coreml", precision="float32"))
    bundle = open_bundle(folder / "phone")
    text = bundle.config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    tokenizer = Tokenizer.from_file(bundle.path(TOKENIZER), *ids)
    amused = AmusedPipeline(
        InterpretedRuntime(bundle), tokenizer, ModelInfo(bundle.manifest.name, ""), keep_loaded=True
    )
    picture = amused.generate("a red star", seed=3, steps=4)
    assert_same((picture.recipe.tokens, np.asarray(picture.image, int)), drawn(folder / "onnx", "torch", choice))

"""OpenVINO bundles: what torch computes, any number of pictures, and clear words about wrong bundles and settings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small import small_source

from amused_lite.bundle import MANIFEST, Bundle, open_bundle
from amused_lite.export.modules import load_module
from amused_lite.export.weights import RoundedWeights
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.openvino import OpenVINORuntime
from amused_lite.runtimes.torch import TorchRuntime


@pytest.fixture(scope="module")
def bundle(small_bundle: Callable[..., Path]) -> Bundle:
    """Random weights with a ranker, stored as float16."""
    bundle = open_bundle(small_bundle(ranker=True, target="openvino"))
    print(json.dumps(bundle.manifest.parity))
    return bundle


def test_whole_generations_equal_torch(bundle: Bundle, tmp_path: Path) -> None:
    """With the weights that float16 files hold; guided, unguided, and with a distribution of the host's own."""
    ours = AmusedPipeline(*open_model(bundle.folder), keep_loaded=True)
    assert ours.runtime.name == "openvino"
    reference = TorchRuntime(RoundedWeights(small_source(tmp_path, ranker=True).weights))
    theirs = AmusedPipeline(reference, ours.tokenizer, ModelInfo("reference", ""), keep_loaded=True)
    for prompt, options in (("a red star", {}), ("a blue boat", {"guidance_scale": 1.0}), ("a boat", {"top_k": 20})):
        made, expected = (amused.generate(prompt, steps=6, seed=3, **options) for amused in (ours, theirs))
        assert np.array_equal(made.recipe.tokens, expected.recipe.tokens), prompt
    pixels, wanted = (np.asarray(picture.image, float) for picture in (made, expected))
    assert np.abs(pixels - wanted).max() <= 1  # of 255: both round the same numbers, give or take 1e-5
    text_ids = ours.tokenizer.encode(["a red star"])
    vectors = [runtime.embed_text(text_ids) for runtime in (ours.runtime, reference)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5  # vectors of length 1


def test_files_hold_half_precision_and_say_nothing_of_this_machine(bundle: Bundle, tmp_path: Path) -> None:
    module = load_module("unmask", small_source(tmp_path).weights)
    weights = sum(weight.numel() for weight in module.parameters())
    assert 2 * weights <= bundle.manifest.files["unmask.bin"].size <= 2.1 * weights
    for path in bundle.folder.iterdir():
        content = path.read_bytes()
        for trace in (str(Path.cwd()), str(Path.home()), "site-packages", str(bundle.folder)):
            assert trace.encode() not in content, f"{path.name} holds {trace}"


def test_settings(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision 'int2' is unknown; choose one of float32, bfloat16"):
        OpenVINORuntime(bundle, precision="int2")
    tokens = np.zeros((1, 256), np.int32)
    images = [
        OpenVINORuntime(bundle, threads, precision, tmp_path / "cache").decode_image(tokens)
        for threads, precision in ((1, "float32"), (2, "auto"))
    ]
    assert any((tmp_path / "cache").iterdir())
    assert np.abs(images[0] - images[1]).max() < 0.05  # "auto" may compute in bfloat16, of 8 bits


LIES = [
    ({"tokens": ["int64", [1, 256]]}, r"input tokens is int32 \[1, 256\], the manifest says int64"),
    ({"tokens": ["int32", [1, 64]]}, r"input tokens is int32 \[1, 256\], the manifest says int32 \[1, 64\]"),
    ({"codes": ["int32", [1, 256]]}, r"got inputs \['tokens'\], the manifest says \['codes'\]"),
]


@pytest.mark.parametrize(("inputs", "message"), LIES)
def test_a_manifest_that_promises_other_inputs(bundle: Bundle, inputs: dict, message: str, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "lying")
    path = tmp_path / "lying" / MANIFEST
    values = json.loads(path.read_text())
    values["inputs"]["decode_image"] = inputs
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        OpenVINORuntime(open_bundle(path.parent)).decode_image(np.zeros((1, 256), np.int32))


def test_a_graph_that_is_none(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "decode_image.xml").write_text("<net/>")
    (tmp_path / "decode_image.bin").write_bytes(b"")
    lost = Bundle(tmp_path, bundle.manifest)
    with pytest.raises(ValueError, match=r"decode_image.xml: OpenVINO cannot load it \(.+\); export the bundle again"):
        OpenVINORuntime(lost).decode_image(np.zeros((1, 256), np.int32))


def test_other_runtimes_refuse_it(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"was exported for openvino, which onnx cannot run; leave --runtime out"):
        open_model(bundle.folder, "onnx")
    with pytest.raises(ValueError, match="no weights for torch"):
        open_model(bundle.folder, "torch")
    with pytest.raises(ValueError, match=r"was exported for onnx, which openvino cannot run; .* --to openvino"):
        open_model("tiny", "openvino")

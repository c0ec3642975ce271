"""ExecuTorch programs: what torch computes, and clear words about wrong bundles. Lowering to XNNPACK takes its time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import small_source

from amused_lite.bundle import TOKENIZER, Bundle, Manifest, write_manifest
from amused_lite.export import executorch
from amused_lite.export.bundle import export_bundle
from amused_lite.export.modules import examples, input_specs, load_module
from amused_lite.export.options import ExportOptions
from amused_lite.export.parity import compare
from amused_lite.models.layers import RMSNorm, ScaleNorm
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.runtimes.executorch import ExecuTorchRuntime
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.torch import TorchRuntime

OPTIONS = ExportOptions(target="executorch", precision="float32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with the decoder alone, which lowers quickly."""
    folder = tmp_path_factory.mktemp("executorch")
    source = small_source(folder)
    shutil.move(source.tokenizer, folder / TOKENIZER)
    weights = source.weights
    inputs = examples(weights)
    executorch.write_module(
        "decode_image", load_module("decode_image", weights), inputs["decode_image"], folder, OPTIONS
    )
    manifest = Manifest(
        name="test",
        preset="custom",
        config=weights.config,
        image_size=weights.config.image_size,
        precision={"decode_image": "float32"},
        inputs=input_specs(inputs, free_rows=False),
        target="executorch",
    )
    return Bundle(folder, write_manifest(folder, manifest))


@torch.no_grad()
def test_the_decoder_equals_torch_and_says_nothing_of_this_machine(bundle: Bundle, tmp_path: Path) -> None:
    weights = small_source(tmp_path).weights
    runtime, _, _ = open_model(bundle.folder, threads=1)
    assert runtime.name == "executorch"
    codes = np.random.default_rng(0).integers(0, 128, (2, 256)).astype(np.int32)
    expected = weights.part("vqgan").decode_image(torch.from_numpy(codes)).numpy()
    got = runtime.decode_image(codes)
    compare("decode_image", {"image": expected}, {"image": got})
    content = (bundle.folder / "decode_image.pte").read_bytes()
    for trace in (str(Path.cwd()), str(Path.home()), "site-packages", str(bundle.folder)):
        assert trace.encode() not in content
    assert b"XnnpackBackend" in content


def test_wrong_bundles_are_explained(bundle: Bundle, tmp_path: Path) -> None:
    tokens = np.zeros((1, 256), np.int32)
    specs = {**bundle.manifest.inputs, "decode_image": {"tokens": ("int32", [1, 64])}}
    lying = replace(bundle, manifest=replace(bundle.manifest, inputs=specs))
    with pytest.raises(ValueError, match=r"input tokens is int32 \[1, 256\], the manifest says int32 \[1, 64\]"):
        ExecuTorchRuntime(lying).decode_image(tokens)
    (tmp_path / "decode_image.pte").write_bytes(b"nothing" * 100)
    with pytest.raises(
        ValueError, match=r"decode_image.pte: ExecuTorch cannot load it \(.+\); export the bundle again"
    ):
        ExecuTorchRuntime(Bundle(tmp_path, bundle.manifest)).decode_image(tokens)
    with pytest.raises(ValueError, match="was exported for executorch, which onnx cannot run"):
        open_model(bundle.folder, "onnx")


@pytest.mark.parametrize("kind", [RMSNorm, ScaleNorm])
@torch.no_grad()
def test_norms_are_rewritten_exactly(kind: type[torch.nn.Module]) -> None:
    norm = kind(192)  # type: ignore[call-arg]
    norm.weight.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[operator]
    x = 5 * torch.randn(2, 7, 192, generator=torch.Generator().manual_seed(2)) + 3
    (rewritten,) = executorch._delegable(torch.nn.Sequential(norm))
    assert type(rewritten) is not kind and rewritten.weight is norm.weight
    exact = norm.double()(x.double())
    assert (rewritten.float()(x) - exact).abs().max() < 1e-5 * exact.abs().max()  # float32 has 6e-8


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_whole_bundles(tmp_path: Path, precision: str) -> None:
    """float32 draws torch's tokens; float16 keeps its bounds, which the export itself checks."""
    source = small_source(tmp_path, ranker=True)
    options = ExportOptions(target="executorch", precision=precision)
    manifest = export_bundle(source, tmp_path / "bundle", options)
    print(f"{precision}: {json.dumps(manifest.parity)}")
    assert manifest.precision["decode_image"] == "float32" and manifest.precision["unmask"] == precision
    assert manifest.inputs["unmask"]["block_text"][1][0] == 2
    ours = AmusedPipeline(*open_model(tmp_path / "bundle"), keep_loaded=True)
    theirs = AmusedPipeline(TorchRuntime(source.weights), ours.tokenizer, ModelInfo("reference", ""), keep_loaded=True)
    for prompt, guidance_scale in (("a red star", 3.0), ("a blue boat", 1.0)):
        made, expected = (
            amused.generate(prompt, steps=6, guidance_scale=guidance_scale).recipe.tokens for amused in (ours, theirs)
        )
        if precision == "float32":
            assert np.array_equal(made, expected), prompt
    assert ours.generate("a red star", steps=3, top_k=4).image.size == (256, 256)

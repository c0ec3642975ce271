"""One adapter file on torch, ONNX Runtime and OpenVINO, merged at loading or at export: equal tokens."""

from pathlib import Path

import numpy as np
import pytest
from small import small_config, small_source

from amused_lite.adapter_files import save_adapter
from amused_lite.adapters import TARGETS, Adapter, AdapterRecord, Pair, shapes_of
from amused_lite.export.export import export_bundle
from amused_lite.export.options import ExportOptions
from amused_lite.export.weights import open_source, with_adapters
from amused_lite.generate import Amused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`onnx` and `openvino`, bundles of the same float16 weights, and `gold.safetensors`."""
    folder = tmp_path_factory.mktemp("adapters")
    export_bundle(small_source(folder), folder / "onnx", ExportOptions())
    export_bundle(open_source(folder / "onnx", folder), folder / "openvino", ExportOptions(target="openvino"))
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(*(rng.normal(0, 0.1, size).astype(np.float32) for size in ((4, inside), (outside, 4))))
        for module, (outside, inside) in shapes_of(small_config(), TARGETS).items()
    }
    count = small_config().uvit.codebook_size
    codes = np.where(rng.random(count) < 0.3, rng.integers(count, size=count), np.arange(count)).astype(np.int32)
    record = AdapterRecord("gold", 4, 4.0, TARGETS, "custom", "", "")
    save_adapter(Adapter(record, pairs, codes=codes), folder / "gold.safetensors")
    return folder


def tokens(folder: Path, runtime: str = "auto", *adapters: str) -> np.ndarray:
    amused = Amused.open(folder, runtime, threads=1, keep_loaded=True, adapters=adapters)
    return amused.generate("a red star", seed=3, steps=4).recipe.tokens


@pytest.mark.parametrize("weight", [0.7, -0.5])
def test_merged_at_loading(weight: float, folder: Path) -> None:
    choice = f"{folder / 'gold.safetensors'}:{weight}"
    expected = tokens(folder / "onnx", "torch", choice)
    np.testing.assert_array_equal(tokens(folder / "onnx", "onnx", choice), expected)
    np.testing.assert_array_equal(tokens(folder / "openvino", "auto", choice), expected)
    plain = tokens(folder / "openvino")
    assert (plain != expected).mean() > 0.1
    np.testing.assert_array_equal(tokens(folder / "openvino", "auto", f"{folder / 'gold.safetensors'}:0"), plain)


def test_merged_at_export_is_the_same(folder: Path) -> None:
    choice = f"{folder / 'gold.safetensors'}:0.7"
    source, remarks = with_adapters(open_source(folder / "onnx", folder), [choice])
    assert remarks == ()
    manifest = export_bundle(source, folder / "gold", ExportOptions())
    assert manifest.adapter == "gold:0.7"
    np.testing.assert_array_equal(tokens(folder / "gold"), tokens(folder / "onnx", "onnx", choice))

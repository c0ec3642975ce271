"""OpenVINO bundles in 8 and 4 bits, and with 8-bit activations; a small untrained model, and the bundled one slowly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair, WeightedAdapter, merge_weight
from amused_lite.bundle import Bundle, open_bundle
from amused_lite.export.bundle import export_bundle
from amused_lite.export.options import ExportOptions
from amused_lite.pipeline import AmusedPipeline
from amused_lite.quantization import SCALE, dequantize_rows
from amused_lite.runtimes.open import find_model
from amused_lite.runtimes.openvino import OpenVINORuntime, import_openvino

Make = Callable[..., Bundle]
QUERY = "uvit.token_side.layers.1.self_attention.query"


@pytest.fixture(scope="module")
def floats(small_bundle: Callable[..., Path]) -> Path:
    return small_bundle(ranker=True, target="openvino")


def constants(path: Path) -> dict:
    model = import_openvino().Core().read_model(path)
    return {item.get_friendly_name(): item for item in model.get_ops() if item.get_type_name() == "Constant"}


@pytest.mark.parametrize("bits", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_opens_draws_and_keeps_the_tail(make: Make, floats: Path, bits: int) -> None:
    from amused_lite.quantize.openvino_full import HEAD, tail_of

    bundle = make("openvino", bits, "weights", floats, force=True)  # untrained logits agree on little
    assert AmusedPipeline.open(bundle.folder).generate("a red star", steps=3, seed=1).image.size == (256, 256)
    model = import_openvino().Core().read_model(bundle.path("unmask.xml"))
    tail = set(tail_of(model))
    assert len(tail) > 20
    kinds = {
        output.get_element_type().get_type_name()
        for item in model.get_ops()
        if item.get_friendly_name() in tail
        for output in item.outputs()
    }
    assert kinds <= {"f32", "i32", "i64", "boolean"}
    stored = constants(bundle.path("unmask.xml"))
    assert stored[HEAD].get_element_type().get_type_name() == "i8"  # the head stays at 8 bits in 4-bit bundles
    assert stored[f"{QUERY}.weight"].get_element_type().get_type_name() == f"i{bits}"
    sizes = [open_bundle(folder).manifest.files["unmask.bin"].size for folder in (bundle.folder, floats)]
    assert sizes[0] < (0.6 if bits == 8 else 0.4) * sizes[1]


@pytest.mark.parametrize("bits", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_adapters_are_rounded_again(make: Make, floats: Path, bits: int) -> None:
    bundle = make("openvino", bits, "weights", floats, force=True)
    rng = np.random.default_rng(5)
    down, up = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 192), (192, 4)))
    record = AdapterRecord("noise", 4, 4.0, ("attention",), "custom", "small", "")
    chosen = [WeightedAdapter(Adapter(record, {QUERY: Pair(down, up)}))]
    off, small = [WeightedAdapter(chosen[0].adapter, 0.0)], bundle.folder
    exact, plain, styled, nothing = (
        log_probs_of(OpenVINORuntime(open_bundle(folder), adapters=adapters))
        for folder, adapters in ((floats, chosen), (small, []), (small, chosen), (small, off))
    )
    assert np.array_equal(plain, nothing)
    float_change = exact - log_probs_of(OpenVINORuntime(open_bundle(floats)))
    # The same change, give or take what rounding adds; weights read in a wrong order would change something else.
    assert np.corrcoef((styled - plain).ravel(), float_change.ravel())[0, 1] > (0.98 if bits == 8 else 0.6)
    if bits == 8:
        stored = constants(bundle.path("unmask.xml"))
        before = dequantize_rows(stored[f"{QUERY}.weight"].data, stored[f"{QUERY}.weight{SCALE}"].data)
        assert np.abs(merge_weight(f"{QUERY}.weight", before, chosen) - before).max() > 1


def log_probs_of(runtime: OpenVINORuntime) -> np.ndarray:
    config = runtime.config
    ids = np.full((1, config.text.context_length), config.text.end_token_id, np.int32)
    pair = runtime.encode_prompt(ids, np.array([[256, 256, 0, 0, 6]], np.float32))
    tokens = np.full((1, config.uvit.num_tokens), config.uvit.mask_token_id, np.int32)
    return runtime.predict(tokens, pair, 3.0)


@pytest.mark.slow
def test_full_int8_of_the_bundled_model(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    from amused_lite.quantize.openvino_full import tail_of

    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("tiny") / "openvino"
    from amused_lite.export.weights import open_source

    export_bundle(open_source(find_model("tiny"), folder.parent), folder, ExportOptions(target="openvino"))
    bundle = make("openvino", 8, "full", folder)
    record = bundle.manifest.options["quantization"]
    assert record["report"]["agreement"] >= 0.95 and len(record["calibration"]["prompts"]) == 1
    model = import_openvino().Core().read_model(bundle.path("unmask.xml"))
    tail = set(tail_of(model))
    kinds = {item.get_type_name(): item.get_friendly_name() in tail for item in model.get_ops()}
    assert kinds["FakeQuantize"] is False
    assert np.asarray(AmusedPipeline.open(bundle.folder).generate("a red star", steps=4).image).std() > 5
    with pytest.raises(ValueError, match="ranges found for its own weights and takes no adapters"):
        OpenVINORuntime(bundle, adapters=[WeightedAdapter(Adapter(AdapterRecord("x", 1, 1.0, (), "tiny", "", ""), {}))])

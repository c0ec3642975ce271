"""An adapter of the decoder on rounded bundles: what it changes in a picture is what it changes on float weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from amused_lite.quantize import scheme
from amused_lite.quantize.bundle import float_bundle

from amused_lite.adapters.file import save_adapter
from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair, shapes_of
from amused_lite.bundle import Bundle
from amused_lite.runtimes.open import find_model, open_model

Make = Callable[..., Bundle]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise on every convolution of the bundled decoder, enough to be seen."""
    rng = np.random.default_rng(4)
    config = open_model("tiny", "onnx")[0].config
    pairs = {
        path: Pair(*(rng.normal(0, 0.04, size).astype(np.float32) for size in ((4, inside), (outside, 4))))
        for path, (outside, inside) in shapes_of(config, ("decoder",)).items()
    }
    path = tmp_path_factory.mktemp("adapter") / "noise.safetensors"
    return save_adapter(Adapter(AdapterRecord("noise", 4, 4.0, ("decoder",), "tiny", "tiny", ""), pairs), path)


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, exported once for both numbers of bits."""
    return float_bundle(find_model("tiny"), "openvino", tmp_path_factory.mktemp("openvino")).folder


def decoded(model: Path | str, *adapters: str) -> np.ndarray:
    runtime, _, _ = open_model(model, adapters=adapters)
    tokens = np.random.default_rng(1).integers(1024, size=(1, 1024)).astype(np.int32)
    return runtime.decode_image(tokens)


@pytest.mark.parametrize(
    ("target", "bits", "method"),
    [("onnx", 8, "weights"), ("onnx", 4, "weights"), ("openvino", 8, "weights"), ("openvino", 4, "weights"),
     ("torch", 8, "int8"), ("torch", 4, "nf4")],
)  # fmt: skip
def test_a_rounded_decoder_changes_as_a_float_one_does(
    target: str,
    bits: int,
    method: str,
    make: Make,
    adapter: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip({"torch": "bitsandbytes"}.get(target, target if target != "onnx" else "onnxruntime"))
    monkeypatch.setitem(scheme._SMALLEST_IN_4, scheme.CONVOLUTION, 0)  # the bundled decoder is too small for 4 bits
    model = request.getfixturevalue("openvino") if target == "openvino" else None
    small = make(target, bits, method, model, encoder=False, force=True, keep=("no such weight",)).folder
    change = decoded(find_model("tiny"), str(adapter)) - decoded(find_model("tiny"))
    if (target, bits) == ("onnx", 4):
        with pytest.raises(ValueError, match="has a decoder of 4 bits, which takes no adapters; use 8 bits"):
            decoded(small, str(adapter))
        return
    got = decoded(small, str(adapter)) - decoded(small)
    assert np.abs(change).mean() > 0.01  # of 1
    # Rounding adds noise of its own; a kernel read in a wrong order would change something else.
    assert np.corrcoef(change.ravel(), got.ravel())[0, 1] > (0.99 if bits == 8 else 0.9)
    assert np.array_equal(decoded(small, f"{adapter}:0"), decoded(small))

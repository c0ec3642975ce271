"""bitsandbytes: saved, read back, the same numbers, and no float matrix in between."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from amused_lite.quantize.bundle import tokenizer_of

from amused_lite.bundle import QUANTIZED, WEIGHTS, Bundle, open_bundle
from amused_lite.models.networks import SavedWeights
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.bitsandbytes import LowBitWeights
from amused_lite.runtimes.open import find_model
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.settings import GenerateOptions

bitsandbytes = pytest.importorskip("bitsandbytes")
Make = Callable[..., Bundle]
LAYER = "layers.2.feedforward.widen"


@pytest.mark.parametrize("bits", [8, 4])
def test_draws_a_picture_and_holds_no_float_matrix(make: Make, bits: int) -> None:
    bundle = make("torch", bits)
    assert set(bundle.manifest.files) == {QUANTIZED, "tokenizer.json", "colours.npy"}
    amused = AmusedPipeline.open(bundle.folder)
    assert amused.runtime.name == "torch"
    assert np.asarray(amused.generate("a red star", steps=4, seed=1).image).std() > 5
    part = LowBitWeights(bundle.path(QUANTIZED), bundle.config).part("uvit.token_side")
    large = [w for w in (*part.parameters(), *part.buffers()) if w.ndim >= 2 and w.numel() >= 10_000]
    matrices = [w for w in large if w.is_floating_point() and w.shape != part.positions.shape]
    assert len(large) > 60 and not matrices


def test_8_bits_come_back_as_bitsandbytes_rounds_them(make: Make) -> None:
    """Against its own layer, quantized in memory from the float weights."""
    bundle, source = make("torch", 8), open_bundle(find_model("tiny"))
    ours = LowBitWeights(bundle.path(QUANTIZED), bundle.config).part("uvit.token_side").get_submodule(LAYER)
    exact = SavedWeights(source.path(WEIGHTS), source.config).part("uvit.token_side").get_submodule(LAYER)
    theirs = bitsandbytes.nn.Linear8bitLt(192, 1024, bias=False, has_fp16_weights=False)
    theirs.load_state_dict({"weight": exact.weight.detach()})
    theirs = theirs.to("cpu")
    assert torch.equal(ours.weight.data, theirs.weight.data)
    x = torch.randn(7, 192, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got, expected, float_result = ours(x), theirs.train()(x), exact(x)
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert (got - float_result).norm() < 0.01 * float_result.norm()  # 8 bits of weights; activations stay float


def test_a_damaged_file_is_named(make: Make, tmp_path) -> None:
    from amused_lite.files.safetensors import open_tensors, write_tensors

    bundle = make("torch", 8)
    arrays = open_tensors(bundle.path(QUANTIZED)).read()
    arrays.pop("uvit.token_side.in_norm.weight")
    write_tensors(tmp_path / QUANTIZED, arrays, {})
    with pytest.raises(ValueError, match=r"does not fit its configuration .*in_norm.*quantize the model again"):
        LowBitWeights(tmp_path / QUANTIZED, bundle.config).part("uvit.token_side")


def test_other_precisions_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="8- or 4-bit weights, which are computed in float32"):
        AmusedPipeline.open(make("torch", 8).folder, runtime="torch:bfloat16")


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [8, 4])
def test_cuda(make: Make, bits: int) -> None:
    """LLM.int8 proper, and NF4, on a CUDA device: as the processor, nearly; 8 bits round activations there."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    bundle = make("torch", bits)
    weights = LowBitWeights(bundle.path(QUANTIZED), bundle.config)
    tokens = np.random.default_rng(0).integers(0, 1024, (1, 1024)).astype(np.int32)
    tokens[:, ::2] = bundle.config.uvit.mask_token_id
    ids = tokenizer_of(bundle).encode(["a red star above a house"])
    micro = GenerateOptions().complete(bundle.config).micro_conditioning.array()
    likely = []
    for device in ("cpu", "cuda"):
        runtime = TorchRuntime(weights, device=device)
        likely.append(runtime.predict(tokens, runtime.encode_prompt(ids, micro), 1.0)[0, ::2])  # (N / 2, K)
    away = np.abs(likely[0] - likely[1]).mean() / likely[0].std()
    assert away < (0.1 if bits == 8 else 0.02)  # NF4 differs by the order of its sums alone
    assert (likely[0].argmax(-1) == likely[1].argmax(-1)).mean() > 0.9

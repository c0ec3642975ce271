"""The torch runtime's own ways: heads for masked tokens only, and bfloat16."""

import numpy as np
import pytest
import torch

from amused_lite.conditioning import Conditioning
from amused_lite.models.networks import SavedWeights
from amused_lite.models.unmask import UnmaskStep
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import StepControls, StepNoise
from amused_lite.runtimes.open import find_model, open_model
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.settings import GenerateOptions

PROMPT = "a red balloon above a blue house in a meadow"


@torch.inference_mode()
def test_a_sparse_step_is_a_step() -> None:
    runtime, tokenizer, _ = open_model("tiny", "torch")
    folder = find_model("tiny")
    step = UnmaskStep(SavedWeights(folder / "weights.safetensors", runtime.config).part("uvit.token_side"))
    rng = np.random.default_rng(0)
    micro = np.array([[512, 512, 0, 0, 6]] * 2, np.float32)
    conditioning = Conditioning(*map(torch.from_numpy, runtime.encode_prompt(tokenizer.encode(["", PROMPT]), micro)))
    tokens = torch.from_numpy(rng.integers(0, 1024, (1, 1024), dtype=np.int32))
    tokens[0, rng.permutation(1024)[:600]] = 1087
    numbers = [torch.tensor([value]) for value in (3.0, 0.5, 1.5)]
    noise = [torch.from_numpy(rng.gumbel(size=shape).astype(np.float32)) for shape in ((1, 1024, 1024), (1, 1024))]
    left = torch.tensor([350], dtype=torch.int32)
    whole = step(tokens, *conditioning, *numbers, left, *noise)
    sparse = step.sparse(tokens, conditioning, *numbers, left, *noise)
    assert torch.equal(sparse[0], whole[0])
    assert torch.equal(sparse[1], whole[1])
    nothing_hidden = whole[1]
    assert torch.equal(step.sparse(nothing_hidden, conditioning, *numbers, left * 0, *noise)[0], nothing_hidden)


def test_bfloat16_draws_nearly_the_same() -> None:
    exact = AmusedPipeline.open("tiny", "torch", keep_loaded=True)
    rough = AmusedPipeline.open("tiny", "torch:bfloat16", keep_loaded=True)
    assert (exact.runtime.name, rough.runtime.name) == ("torch", "torch:bfloat16")
    options = GenerateOptions(seed=5, steps=6)
    pairs = [amused.condition(PROMPT, "", options) for amused in (exact, rough)]
    settings = options.complete(exact.runtime.config)
    rng = np.random.default_rng(1)
    tokens = np.full((1, 1024), 1087, np.int32)
    same = total = 0
    for left in (900, 600, 300, 0):  # teacher-forced: the exact one leads
        noise = StepNoise(
            rng.gumbel(size=(1, 1024, 1024)).astype(np.float32), rng.gumbel(size=(1, 1024)).astype(np.float32)
        )
        controls = StepControls(3.0, settings.token_temperature, 1.0, np.array([left], np.int32))
        hidden = tokens == 1087
        runtimes = zip((exact.runtime, rough.runtime), pairs, strict=True)
        leads, follows = (runtime.unmask(tokens, pair, controls, noise) for runtime, pair in runtimes)
        same, total = same + int((leads[1] == follows[1])[hidden].sum()), total + int(hidden.sum())
        tokens = leads[0]
    assert same / total > 0.97  # 8 bits of mantissa turn a draw only where two codes are nearly as likely
    assert same < total  # else it computed in float32
    pixels = [amused.runtime.decode_image(tokens) for amused in (exact, rough)]
    assert 1e-5 < np.abs(pixels[0] - pixels[1]).mean() < 0.01
    np.testing.assert_array_equal(*(amused.runtime.encode_image(pixels[0]) for amused in (exact, rough)))


@pytest.mark.parametrize("runtime", ["torch:int8", "onnx:bfloat16", "fast", "openvino:", "torch:float32:x"])
def test_precisions_are_checked(runtime: str) -> None:
    with pytest.raises(ValueError, match="choose one of"):
        open_model("tiny", runtime)


def test_the_recipe_says_what_a_picture_was_computed_in() -> None:
    picture = AmusedPipeline.open("tiny", "torch:bfloat16").generate(PROMPT, seed=3, steps=2)
    assert picture.recipe.runtime == "torch:bfloat16"


def test_networks_in_memory_stay_as_they_are() -> None:
    networks = open_model("tiny", "torch")[0].networks()
    before = {name: (weight.stride(), weight.is_inference()) for name, weight in networks.named_parameters()}
    runtime = TorchRuntime.from_networks(networks)
    runtime.decode_image(np.zeros((1, 1024), np.int32))
    assert {name: (weight.stride(), weight.is_inference()) for name, weight in networks.named_parameters()} == before

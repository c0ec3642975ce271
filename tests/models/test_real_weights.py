"""A prompt to pixels with the published random numbers: against diffusers' own pipeline, and its recorded pictures."""

import os
import warnings
from pathlib import Path

import numpy as np
import published
import pytest
import torch

from amused_lite.conditioning import MicroConditioning, stack_pair
from amused_lite.models.checkpoint import PublishedWeights, save_diffusers
from amused_lite.models.networks import load_networks
from amused_lite.runtimes.base import StepControls, StepNoise
from amused_lite.runtimes.open import open_model
from amused_lite.sampling.schedule import mask_schedule
from amused_lite.tokenizer import Tokenizer

REAL = os.environ.get("AMUSED_512_PATH", "")
# diffusers 0.33.1, tests/pipelines/amused: "dog", CPU generator with seed 0, 2 steps, guidance 10, blue channel.
CORNER_512 = [0.1199, 0.1171, 0.1229, 0.1188, 0.1210, 0.1147, 0.1260, 0.1346, 0.1152]


def draw(folder: Path, prompt: str, steps: int, guidance: float, seed: int) -> np.ndarray:
    """(H, W, 3) in 0...1, as AmusedPipeline draws it from a torch generator of this seed."""
    runtime, tokenizer, _ = open_model(folder, "torch")
    config = runtime.config
    uvit = config.uvit
    micro = MicroConditioning(config.image_size, config.image_size).array()
    halves = [runtime.encode_prompt(tokenizer.encode([text]), micro) for text in ("", prompt)]
    pair = stack_pair(*halves)
    runtime.release("encode_prompt")
    noise = published.PublishedNoise(seed)
    tokens = np.full((1, uvit.num_tokens), uvit.mask_token_id, np.int32)
    temperatures = torch.linspace(2, 0, steps)
    for index, num_masked in enumerate(mask_schedule(uvit.num_tokens, steps)):
        drawn = noise.draw(1, uvit.num_tokens, uvit.codebook_size, last=index == steps - 1)
        controls = StepControls(guidance, 1.0, float(temperatures[index]), np.array([num_masked], np.int32))
        tokens, _ = runtime.unmask(tokens, pair, controls, StepNoise(*(array.numpy() for array in drawn)))
    runtime.release("unmask")
    return runtime.decode_image(tokens)[0].transpose(1, 2, 0)


@pytest.mark.parametrize("steps", [2, 12])
@pytest.mark.parametrize("resample", [False, True])
def test_pictures_equal_diffusers_pipeline(resample: bool, steps: int, tmp_path: Path) -> None:
    """Random weights, the whole way: tokenizer, text, guidance, sampler, decoder."""
    from diffusers import AmusedPipeline

    text = published.make_text(vocab_size=600, bos_token_id=598, eos_token_id=599, pad_token_id=599)
    # Logits that choose and a picture that shows the choice; the default random weights are all but even.
    uvit, vqgan = published.make_uvit(downsample=resample, upsample=resample), published.make_vqgan()
    with torch.no_grad():
        uvit.mlm_layer.conv2.weight.mul_(2)
        vqgan.quantize.embedding.weight.mul_(2)
    original = PublishedWeights(published.save(tmp_path / "original", uvit, vqgan, text))
    Tokenizer.train(["a dog on a boat", "a red star"], 600, 11).save(tmp_path / "tokenizer.json")
    save_diffusers(load_networks(original), tmp_path / "model", tmp_path / "tokenizer.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = AmusedPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    expected = pipeline(
        "dog", height=16, width=16, num_inference_steps=steps, generator=generator, output_type="np"
    ).images[0]
    picture = draw(tmp_path / "model", "dog", steps, 10.0, seed=0)
    error = np.abs(picture - expected).max()
    print(f"resample {resample}, {steps} steps: pixels max abs error {error:.1e}, spread {expected.std():.2f}")
    assert error <= 1e-4
    assert expected.std() > 0.02
    assert np.abs(draw(tmp_path / "model", "dog", steps, 10.0, seed=1) - expected).max() > 0.02


@pytest.mark.skipif(not REAL, reason="AMUSED_512_PATH is not set: the published amused-512 weights are not here")
def test_published_amused_512_reproduces_its_recorded_corner() -> None:
    picture = draw(Path(REAL), "dog", steps=2, guidance=10.0, seed=0)
    assert picture.shape == (512, 512, 3)
    corner = picture[-3:, -3:, -1].flatten()
    error = np.abs(corner - CORNER_512).max()
    print(f"amused-512 corner {corner.round(4).tolist()}, {error:.4f} from the recorded one")
    assert error < 3e-3

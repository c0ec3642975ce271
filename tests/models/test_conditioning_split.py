"""Encoding the prompt once and unmasking with what it left is the published one-piece forward."""

from pathlib import Path

import numpy as np
import published
import pytest
import torch
from diffusers import AmusedScheduler

from amused_lite.conditioning import Conditioning, stack_pair
from amused_lite.config import PRESETS
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import empty_part, load_networks
from amused_lite.runtimes.base import StepControls, StepNoise
from amused_lite.runtimes.torch import TorchRuntime


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("resample", [False, True])
@torch.no_grad()
def test_two_sides_equal_one_piece(resample: bool, batch: int, tmp_path: Path) -> None:
    theirs = published.make_uvit(downsample=resample, upsample=resample)
    uvit = load_networks(PublishedWeights(published.save(tmp_path, theirs))).uvit
    inputs = published.prompt_inputs(batch, theirs)
    conditioning = uvit.prompt_side(*inputs)
    for seed in range(3):  # one conditioning, several steps
        tokens = published.random_tokens(batch, 8, 72, seed)
        expected = theirs(tokens.unflatten(1, (8, 8)), *inputs).flatten(2).transpose(1, 2)
        error = (uvit.token_side(tokens, conditioning) - expected).abs().max().item()
        print(f"resample {resample}, batch {batch}: {error:.1e}")
        assert error <= 2e-5


@torch.no_grad()
def test_runtime_steps_equal_diffusers_guided_steps(tmp_path: Path) -> None:
    """Text ids to tokens through the protocol, every grid against diffusers' network, guidance and scheduler."""
    text, uvit, steps, guidance = published.make_text(), published.make_uvit(), 6, 5.0
    runtime = TorchRuntime.from_folder(published.save(tmp_path, uvit, text=text))
    ids = np.array([[97, 98, *[98] * 9], [97, 5, 6, 7, *[98] * 7]], np.int32)
    micro = np.array([[128, 128, 0, 0, 6]], np.float32)
    pair = stack_pair(runtime.encode_prompt(ids[:1], micro), runtime.encode_prompt(ids[1:], micro))
    runtime.release("encode_prompt")

    features = text(torch.from_numpy(ids).long(), output_hidden_states=True)
    scheduler = AmusedScheduler(mask_token_id=71)
    scheduler.set_timesteps(steps, (2, 0))
    generator, noise = torch.Generator().manual_seed(0), published.PublishedNoise(0)
    tokens, theirs = np.full((1, 64), 71, np.int32), torch.full((1, 8, 8), 71)
    for index in range(steps):
        logits = uvit(
            torch.cat([theirs, theirs]),
            features.hidden_states[-2],
            features.text_embeds,
            torch.from_numpy(micro).repeat(2, 1),
        )
        negative, prompted = logits.chunk(2)
        guided = negative + guidance * (prompted - negative)
        theirs = scheduler.step(guided, scheduler.timesteps[index], theirs, generator=generator).prev_sample
        num_masked = (theirs == 71).flatten(1).sum(1).int().numpy()
        controls = StepControls(guidance, 1.0, float(scheduler.temperatures[index]), num_masked)
        drawn = noise.draw(1, 64, 64, last=index == steps - 1)
        tokens, sampled_tokens = runtime.unmask(tokens, pair, controls, StepNoise(*(array.numpy() for array in drawn)))
        assert (tokens == theirs.flatten(1).numpy()).all(), f"step {index}"
        assert (sampled_tokens < 64).all()
    assert isinstance(pair, Conditioning)


def test_parameters_of_the_full_model() -> None:
    counts = {}
    for name in ("amused-256", "amused-512"):
        for part in ("uvit.prompt_side", "uvit.token_side", "text", "vqgan"):
            counts[name, part] = sum(p.numel() for p in empty_part(PRESETS[name], part).parameters())
    once, step = counts["amused-512", "uvit.prompt_side"], counts["amused-512", "uvit.token_side"]
    print(f"amused-512: {step:,} parameters run at each step, {once:,} once per prompt")
    assert step == 391_463_680
    assert once + step == 608_257_792
    assert counts["amused-256", "uvit.prompt_side"] + counts["amused-256", "uvit.token_side"] == 603_537_664
    assert counts["amused-512", "text"] == 123_650_304
    assert counts["amused-512", "vqgan"] == 146_244_675

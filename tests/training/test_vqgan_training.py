"""The codebook's moving averages and the crops keep their rules."""

from functools import partial

import torch

from amused_lite.config import VQGANConfig
from amused_lite.models.vqgan import VQGAN
from amused_lite.training.pixels.vqgan import Codebook, VQGANTrainConfig, crops, initialize
from amused_lite.training.scenes.world import Scenes
from amused_lite.training.world import codebook_picture

SMALL = VQGANConfig(
    channels=(8, 8, 8),
    layers_per_block=1,
    latent_channels=4,
    codebook_size=8,
    norm="none",
    patch_size=4,
    spherical=True,
)


def on_sphere(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True))


def test_codes_move_to_the_mean_of_their_latents() -> None:
    torch.manual_seed(0)
    codes = Codebook(VQGAN(SMALL), decay=0.9)
    centres = on_sphere(torch.randn(8, 4))
    latents = on_sphere(centres.repeat_interleave(50, 0) + 0.02 * torch.randn(400, 4))
    with torch.no_grad():
        codes.model.codebook.copy_(on_sphere(centres + 0.1 * torch.randn(8, 4)))
        codes.model.codebook[0] = -centres[1:].mean(0)  # far from every latent: unused until it is restarted
    for _ in range(200):
        codes.update(latents, codes.model.nearest(latents), restart=True)
    distance = torch.cdist(centres, codes.model.codebook).min(1).values
    assert distance.max() < 0.1  # noise of 0.02 over 50 latents: a mean is off by 0.01 at most
    assert codes.model.codebook.square().mean(-1).sub(1).abs().max() < 1e-4


def test_start_keeps_scales_and_is_linear() -> None:
    torch.manual_seed(0)
    model = VQGAN(SMALL)
    initialize(model)
    pixels = torch.rand(2, 3, 64, 64)
    made = model.decode_latents(model.latents(pixels))
    assert 0.05 < made.std() < 1.0
    assert abs(made.mean() - 0.5) < 0.2


def test_crops_are_the_same_for_the_same_step_only() -> None:
    train_config = VQGANTrainConfig(batch=6, steps=10, whole_steps=2)
    draw = partial(codebook_picture, Scenes())
    assert crops(train_config, 3, draw).equal(crops(train_config, 3, draw))
    assert not crops(train_config, 3, draw).equal(crops(train_config, 4, draw))
    assert crops(train_config, 9, draw).shape[-1] == 512


def test_no_training_caption_has_the_meaning_of_a_scored_prompt() -> None:
    world = Scenes()
    stream = [world.is_scored(world.scene(world.seed, index)) for index in range(2000)]
    assert any(stream), "nothing to reserve: the rule would be untested"

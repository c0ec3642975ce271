"""The codebook's moving averages, the crops and the token pool keep their rules."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from amused_lite.config import VQGANConfig
from amused_lite.models.vqgan import VQGAN
from amused_lite.training import scenes
from amused_lite.training.scenes.world import Scenes
from amused_lite.training.tokens import SHARD, TokenPool, encode_pictures, shard_path
from amused_lite.training.vqgan import Codebook, VQGANTrainConfig, crops, initialize
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


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VQGAN]:
    torch.manual_seed(0)
    folder, model = tmp_path_factory.mktemp("tokens"), VQGAN(SMALL)
    initialize(model)
    with torch.no_grad():
        model.codebook.copy_(on_sphere(torch.randn(8, 4)))
    encode_pictures(model, folder, lambda index: scenes.draw(scenes.random_scene(3, index, "train")), SHARD)
    return folder, model


def test_shards_hold_the_scenes_of_their_numbers(encoded: tuple[Path, VQGAN]) -> None:
    folder, model = encoded
    tokens = np.load(shard_path(folder, 0), allow_pickle=False)
    assert tokens.shape == (SHARD, 1024)
    picture = scenes.draw(scenes.random_scene(3, 17, "train"))
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model.encode_image(pixels)[0].numpy()
    # bfloat16 rounds differently in a batch of 16; a code next to a border may change.
    assert (tokens[17] == expected).mean() > 0.99


def test_pool_grows_with_the_step_and_skips_what_is_reserved(encoded: tuple[Path, VQGAN]) -> None:
    folder, _ = encoded
    tokens = np.load(shard_path(folder, 0), allow_pickle=False)
    pool = TokenPool(folder, first=SHARD, per_step=1.0, pictures=SHARD, reserved=lambda index: index % 2 == 0)
    indices, rows = pool.batch(seed=0, step=5, size=64)
    assert all(index % 2 for index in indices)
    assert np.array_equal(rows, tokens[indices])
    assert pool.batch(seed=0, step=5, size=64)[0] == indices
    assert pool.batch(seed=0, step=6, size=64)[0] != indices


def test_no_training_caption_has_the_meaning_of_a_scored_prompt() -> None:
    world = Scenes()
    stream = [world.is_scored(world.scene(world.seed, index)) for index in range(2000)]
    assert any(stream), "nothing to reserve: the rule would be untested"

"""Our VQ-GAN against diffusers' VQModel: same codes, same pixels."""

from pathlib import Path

import published
import pytest
import torch

from amused_lite.models.checkpoint import PublishedWeights

FIVE = {
    "block_out_channels": (8, 12, 12, 16, 24),
    "down_block_types": ("DownEncoderBlock2D",) * 5,
    "up_block_types": ("UpDecoderBlock2D",) * 5,
    "layers_per_block": 2,
}
CONFIGS = {
    "two levels": {},
    "five levels, as published": FIVE,
    "one level": {
        "block_out_channels": (16,),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
    },
    "three blocks a level": {"layers_per_block": 3, "block_out_channels": (8, 8), "norm_num_groups": 2},
    "named code width": {"vq_embed_dim": 6, "latent_channels": 6},
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_codes_and_pixels_equal_diffusers(name: str, batch: int, tmp_path: Path) -> None:
    theirs = published.make_vqgan(**CONFIGS[name])
    # Codes where the latents are, so that a wrong latent changes the code.
    picture = torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    latents = theirs.encode(picture).latents
    z = latents.shape[1]
    chosen = torch.randperm(latents[:, 0].numel(), generator=torch.Generator().manual_seed(4))[:64]
    codes = latents.permute(0, 2, 3, 1).reshape(-1, z)[chosen]
    theirs.quantize.embedding.weight[: len(codes)] = codes
    ours = PublishedWeights(published.save(tmp_path, vqgan=theirs)).part("vqgan")

    expected = theirs.quantize(latents)[2][2].view(batch, -1)
    got = ours.encode_image(picture)
    equal = (got == expected).float().mean().item()
    side = latents.shape[-1]
    pixels = theirs.decode(expected, force_not_quantize=True, shape=(batch, side, side, z)).sample.clip(0, 1)
    error = (ours.decode_image(expected) - pixels).abs().max().item()
    print(f"{name}, batch {batch}: {equal:.2%} of codes equal, pixels max abs error {error:.1e}")
    assert equal == 1
    assert expected.unique().numel() > min(20, expected.numel() // 3)
    assert error <= 1e-4
    assert pixels.std() > 0.05


@torch.no_grad()
def test_encoder_and_decoder_agree_on_the_grid(tmp_path: Path) -> None:
    ours = PublishedWeights(published.save(tmp_path)).part("vqgan")
    tokens = torch.arange(64, dtype=torch.int32)[None]
    pixels = ours.decode_image(tokens)
    assert pixels.shape == (1, 3, 16, 16)
    assert ours.encode_image(pixels).shape == tokens.shape

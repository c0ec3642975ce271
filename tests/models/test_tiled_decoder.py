"""The decoder in strips: the same picture, without seams, in less memory."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from amused_lite.config import PRESETS, VQGANConfig
from amused_lite.models.tiled_decoder import COUNT, SMALLEST, decode_tiled
from amused_lite.models.vqgan import VQGAN

GROUPED = VQGANConfig(channels=(16, 32, 32), layers_per_block=1, latent_channels=4, codebook_size=8, norm_groups=8)


@pytest.mark.parametrize(
    ("config", "smallest"),
    [(GROUPED, 64), (GROUPED, 128), (replace(GROUPED, norm="none", patch_size=2), 64), (PRESETS["tiny"].vqgan, 128)],
)
def test_the_same_picture_as_whole(config: VQGANConfig, smallest: int) -> None:
    torch.manual_seed(0)
    decoder = VQGAN(config).decoder.eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5)
    latents = torch.randn(2, config.latent_channels, 32, 32)
    with torch.no_grad():
        whole, strips = decoder(latents), decode_tiled(decoder, latents, smallest)
    # The means of a norm are added up in another order; a seam or a forgotten line would be far above that.
    torch.testing.assert_close(strips, whole, rtol=0, atol=2e-5 * whole.abs().max().item())


def test_a_norm_far_from_zero_keeps_its_variance() -> None:
    """Strips whose means differ, on a large offset: the variance is that of the whole."""
    torch.manual_seed(0)
    decoder = VQGAN(GROUPED).decoder.eval()
    latents = torch.randn(1, 4, 32, 32) + torch.linspace(-30, 30, 32)[:, None]
    with torch.no_grad():
        whole, strips = decoder(latents), decode_tiled(decoder, latents, 64)
    torch.testing.assert_close(strips, whole, rtol=0, atol=2e-5 * whole.abs().max().item())


def test_maps_are_large_enough_for_the_strips() -> None:
    assert SMALLEST % COUNT == 0 and SMALLEST // 2 >= COUNT  # of the map that is cut before it is upsampled


MEMORY = """
import sys, torch
from amused_lite.config import VQGANConfig
from amused_lite.models.tiled_decoder import decode_tiled
from amused_lite.models.vqgan import VQGAN
from amused_lite.system.memory import peak_memory
decoder = VQGAN(VQGANConfig(channels=(64, 64), layers_per_block=1, latent_channels=4)).decoder.eval()
latents = torch.zeros(1, 4, 384, 384)
before = peak_memory()
with torch.inference_mode():
    decode_tiled(decoder, latents) if sys.argv[1] == "strips" else decoder(latents)
print((peak_memory() - before) / 2**20)
"""


@pytest.mark.slow
def test_less_memory() -> None:
    """One map of the last level takes 144 MiB here."""
    needed = {}
    for how in ("whole", "strips"):
        done = subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, check=True, text=True)
        needed[how] = float(done.stdout)
    assert needed["strips"] < 0.75 * needed["whole"], needed

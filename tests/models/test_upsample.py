"""Doubling a grid with 16 products in place of 36 is the same doubling."""

import pytest
import torch
import torch.nn.functional as F

from amused_lite.export.modules import transposed
from amused_lite.models.vqgan import Upsample


@pytest.mark.parametrize("shape", [(1, 6, 5, 7), (2, 3, 1, 1), (1, 16, 32, 32)])
@torch.no_grad()
def test_upsampling_is_nearest_and_a_convolution(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    upsample = Upsample(shape[1])
    for weight in upsample.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator))
    x = torch.randn(shape, generator=generator)
    doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = F.conv2d(doubled, upsample.weight, upsample.bias, padding=1)
    # Sums of 144 products of standard normals reach 60; float32 is good to a few parts in ten million of that.
    torch.testing.assert_close(upsample(x), expected, rtol=0, atol=6e-5)
    torch.testing.assert_close(transposed(upsample)(x), expected, rtol=0, atol=6e-5)

"""What judges a VQ-GAN's pictures where errors of single pixels do not: a discriminator of patches, and VGG-16.

As Esser et al. 2021: hinge losses, and a weight that lets the discriminator pull on the decoder's last layer about as
hard as the other errors do. The discriminator is Isola et al.'s (2017), with group norms, since batches are small here.
VGG-16's features are compared as by Zhang et al. 2018, without the weights that they fitted to people's answers.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.files.safetensors import open_tensors
from amused_lite.system.extras import require_extra
from amused_lite.training.loop.state import optimizer_state, restore_optimizer, subset

_WEIGHT = 0.8  # of the discriminator beside the other errors, as published
_LARGEST = 1e4


class Discriminator(nn.Sequential):
    """Pixels (B, 3, H, W) in 0...1 to a score for each patch (B, 1, h, w): above 0 for given, below for made."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, stride in ((1, 2), (2, 2), (3, 1)):
            before, after = width * 2 ** (level - 1), width * 2**level
            layers += [nn.Conv2d(before, after, 4, stride, 1), nn.GroupNorm(width // 4, after), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(after, 1, 4, 1, 1))


class PerceptualError(nn.Module):
    """Mean squared difference of VGG-16's features at five depths, each pixel's of length 1."""

    def __init__(self, weights: Path) -> None:
        """`weights`: a safetensors file with torchvision's names, as timm publishes it (vgg16.tv_in1k).

        Raises:
            FileNotFoundError, ValueError: it cannot be read, or is another network's.
            MissingExtraError: timm is not installed.
        """
        super().__init__()
        require_extra("train", "the features of VGG-16", "timm")
        from amused_lite.models.torchvision_shim import ensure_torchvision

        ensure_torchvision()
        import timm

        self.vgg: Any = timm.create_model("vgg16", pretrained=False, features_only=True, out_indices=range(5))
        names = {name: name.replace("features_", "features.") for name in self.vgg.state_dict()}
        found = open_tensors(weights).read(names.values())
        try:
            self.vgg.load_state_dict({name: torch.tensor(found[own]) for name, own in names.items()})
        except RuntimeError as error:
            raise ValueError(f"{weights} has other sizes than VGG-16; give the weights of vgg16.tv_in1k") from error
        self.requires_grad_(False).eval()
        self.mean, self.std = (
            nn.Buffer(torch.tensor(self.vgg.pretrained_cfg[name]).view(3, 1, 1)) for name in ("mean", "std")
        )

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in 0...1, twice -> a scalar."""
        both = self.vgg((torch.cat([made, wanted]) - self.mean) / self.std)
        pairs = (F.normalize(features.float(), dim=1, eps=1e-6).chunk(2) for features in both)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()


class AdversarialLoss:
    """A discriminator that learns beside a decoder from step `begins` on, and a perceptual error where one is given."""

    def __init__(
        self, last: Tensor, begins: int, rate: float, perceptual: PerceptualError | None = None, seed: int = 0
    ) -> None:
        """`last`: the weights of the decoder's last layer; `rate`: at which the discriminator learns."""
        torch.manual_seed(seed)
        self.last, self.begins = last, begins
        self.perceptual = perceptual.to(last.device) if perceptual else None
        width = max(4, min(64, last.shape[1]) // 4 * 4)  # of a small decoder's own kind, of 64 otherwise
        self.discriminator = Discriminator(width).to(last.device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=(0.5, 0.9))

    def __call__(self, made: Tensor, wanted: Tensor, error: Tensor, number: int) -> Tensor:
        """The error of pixels (a scalar), with what is judged of pictures added."""
        with torch.autocast(made.device.type, torch.bfloat16):
            if self.perceptual:
                error = error + self.perceptual(made, wanted)
            if number < self.begins:
                return error
            doubt = -self.discriminator.requires_grad_(False)(2 * made - 1).float().mean()
        pulls = [torch.autograd.grad(part, self.last, retain_graph=True)[0].norm() for part in (error, doubt)]
        return error + _WEIGHT * (pulls[0] / (pulls[1] + 1e-4)).clamp(max=_LARGEST) * doubt

    def learn(self, made: Tensor, wanted: Tensor, number: int) -> dict[str, float]:
        """One step of the discriminator; its hinge loss, 2 where it knows nothing, for the log."""
        if number < self.begins:
            return {}
        self.discriminator.requires_grad_(True)
        with torch.autocast(made.device.type, torch.bfloat16):
            real, false = (self.discriminator(2 * pixels - 1).float() for pixels in (wanted, made))
        loss = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"discriminator": loss.item()}

    def state(self) -> dict[str, Any]:
        """Nested dicts of tensors and numbers, for a checkpoint."""
        return {"model": self.discriminator.state_dict(), "optimizer": optimizer_state(self.optimizer)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave, from a checkpoint's flat names."""
        self.discriminator.load_state_dict(subset(tensors, "adversarial.model"))
        restore_optimizer(self.optimizer, tensors, "adversarial.optimizer")

"""Train a small CLIP on scenes, so that its text tower can be frozen under the U-ViT. Model and loss are open_clip's.

A pooled CLIP vector can match pictures as a bag of words. Captions that are wrong in one respect only (NegCLIP,
Yuksekgonul et al. 2023) make word order and binding pay, and they are drawn here by the caption grammar.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from amused_lite.config import TextConfig
from amused_lite.tokenizer import Tokenizer
from amused_lite.training import scenes
from amused_lite.training.loop.fit import ModuleTrainer, TrainingRun, fit, step_generator


@dataclass(frozen=True)
class CLIPTrainConfig:
    """How the small CLIP is trained."""

    steps: int = 700
    batch: int = 64
    image_size: int = 96
    patch_size: int = 12
    vision_width: int = 192
    vision_layers: int = 3
    wrong_captions: int = 2
    learning_rate: float = 1e-3
    warmup: int = 100
    seed: int = 2


def build_clip(config: TextConfig, train_config: CLIPTrainConfig) -> nn.Module:
    """open_clip's CLIP with a text tower of the given shape and a small vision transformer."""
    from amused_lite.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    model = open_clip.CLIP(
        embed_dim=config.projection_width,
        vision_cfg=CLIPVisionCfg(
            layers=train_config.vision_layers,
            width=train_config.vision_width,
            head_width=32,
            patch_size=train_config.patch_size,
            image_size=train_config.image_size,
        ),
        text_cfg=CLIPTextCfg(
            context_length=config.context_length,
            vocab_size=config.vocab_size,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            mlp_ratio=config.feedforward_width / config.width,
        ),
        quick_gelu=config.activation == "quick_gelu",
    )
    # The U-ViT reads states, not the pooled vector. open_clip's 0.02 drowns a word in what the layers add: kind was
    # then read from the states by a linear probe in 86 % of captions, and the U-ViT did not listen to it at all.
    parameters = dict(model.named_parameters())
    nn.init.normal_(parameters["token_embedding.weight"], std=1.0)
    nn.init.normal_(parameters["positional_embedding"], std=0.3)
    return model


def clip_batch(train_config: CLIPTrainConfig, tokenizer: Tokenizer, step: int) -> tuple[Tensor, Tensor]:
    """pixels (B, 3, S, S) in -1...1 and text ids (B, 1 + wrong, T): the true caption first, then wrong ones."""
    pictures, captions = [], []
    for i in range(train_config.batch):
        index = step * train_config.batch + i
        scene = scenes.random_scene(train_config.seed, index, "train")
        rng = random.Random(f"caption/{train_config.seed}/{index}")
        pictures.append(scenes.draw(scene, train_config.image_size))
        wrong = scenes.hard_negatives(scene, rng)
        rng.shuffle(wrong)
        wrong = (wrong * train_config.wrong_captions)[: train_config.wrong_captions]
        captions += [scenes.caption(scene, rng), *wrong]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    ids = torch.from_numpy(tokenizer.encode(captions)).long()
    return pixels, ids.unflatten(0, (train_config.batch, -1))


def contrastive_loss(model: nn.Module, pixels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, float]]:
    """open_clip's symmetric loss on the true pairs, plus each picture's choice among its own captions."""
    import open_clip

    batch, choices, _ = ids.shape
    image, text, scale = model(pixels, ids.flatten(0, 1))
    text = text.unflatten(0, (batch, choices))
    loss = open_clip.ClipLoss()(image, text[:, 0], scale)
    among_own = scale * torch.einsum("bd,bcd->bc", image, text)
    hard = F.cross_entropy(among_own, torch.zeros(batch, dtype=torch.long))
    with torch.no_grad():
        matched = (image @ text[:, 0].T).argmax(1) == torch.arange(batch)
        resisted = among_own.argmax(1) == 0
    return loss + hard, {"matched": matched.float().mean().item(), "resisted": resisted.float().mean().item()}


class CLIPTrainer(ModuleTrainer):
    """The small CLIP, both towers."""

    def __init__(self, config: TextConfig, train_config: CLIPTrainConfig, tokenizer: Tokenizer) -> None:
        self.train_config, self.tokenizer = train_config, tokenizer
        torch.manual_seed(train_config.seed)
        model = build_clip(config, train_config)
        rate = train_config.learning_rate
        super().__init__(model, torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05))

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config = self.train_config
        torch.manual_seed(step_generator(train_config.seed, number).initial_seed())
        left = (train_config.steps - number) / train_config.steps
        rate = train_config.learning_rate * min(1.0, (number + 1) / train_config.warmup, 0.02 + 1.5 * left)
        pixels, ids = clip_batch(train_config, self.tokenizer, number)
        # The fused attention's backward takes 40 % of a step at these lengths; plain products do not.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            loss, scores = contrastive_loss(self.module, pixels, ids)
            self.update(loss, rate, number)
        with torch.no_grad():
            dict(self.module.named_parameters())["logit_scale"].clamp_(0, 4.6052)  # CLIP's own limit of 100
        return {"loss": loss.item(), **scores}


def train_clip(config: TextConfig, train_config: CLIPTrainConfig, tokenizer: Tokenizer, folder: Path) -> nn.Module:
    """Train, or go on training, the small CLIP in `folder`; returns it in evaluation mode."""
    trainer = CLIPTrainer(config, train_config, tokenizer)
    fit(TrainingRun(folder), trainer, train_config.steps)
    return trainer.module.eval()

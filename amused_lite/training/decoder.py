"""Go on with the decoder alone. The codes stay, so every token grid made before still means the same picture.

Muse (Chang et al. 2023) fine-tunes its decoder this way for finer detail. It may run while the U-ViT trains.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from amused_lite.models.vqgan import VQGAN
from amused_lite.training.loop import Ema, Run, optimizer_state, restore_optimizer, subset
from amused_lite.training.vqgan import DrawPicture, VQGANRecipe, crops, draw_picture, psnr, reconstruction_loss


@dataclass(frozen=True)
class DecoderRecipe:
    """How the decoder is finished; pictures and crops are the VQ-GAN's own, from a seed of their own."""

    steps: int = 2400
    learning_rate: float = 6e-4
    warmup: int = 50
    scene_share: float = 0.8
    ema_decay: float = 0.998
    seed: int = 11


def train_decoder(
    model: VQGAN, recipe: DecoderRecipe, source: VQGANRecipe, folder: Path, draw: DrawPicture = draw_picture
) -> VQGAN:
    """Train, or go on training, `model`'s decoder in `folder`; returns it with averaged weights, ready for use."""
    run = Run(folder)
    pictures = replace(source, steps=recipe.steps, seed=recipe.seed, scene_share=recipe.scene_share)
    model.requires_grad_(False)
    trained = nn.ModuleList([model.post_quant, model.decoder]).requires_grad_(True)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    ema = Ema(trained, recipe.ema_decay)
    first = 0
    if saved := run.resume():
        first, tensors, _ = saved
        with run.restoring():
            trained.load_state_dict(subset(tensors, "model"))
            ema.shadow = subset(tensors, "ema")
            restore_optimizer(optimizer, tensors, "optimizer")
    for step in run.steps(first, recipe.steps):
        left = (recipe.steps - step) / recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min((step + 1) / recipe.warmup, left**0.5)
        wanted = crops(pictures, step, draw).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                codes = model.codebook[model.nearest(model.latents(wanted).float())]
            made = model.decode_latents(codes)
        loss = reconstruction_loss(made.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        ema.update(trained, step)
        if step % 50 == 0 or step == recipe.steps - 1:
            run.log(step, loss=loss.item(), psnr=psnr(made.detach().float().clamp(0, 1), wanted))
        if run.due() or step == recipe.steps - 1:
            state = {"model": trained.state_dict(), "ema": ema.shadow, "optimizer": optimizer_state(optimizer)}
            run.save(step + 1, state)
    ema.copy_to(trained)
    return model.requires_grad_(False).eval()

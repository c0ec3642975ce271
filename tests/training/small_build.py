"""Builds of models that are nothing but quick: every stage for real, in seconds."""

from dataclasses import replace
from pathlib import Path

import torch

from amused_lite.config import ModelConfig
from amused_lite.training import build as building
from amused_lite.training import presets
from amused_lite.training.build import Build
from amused_lite.training.loop.fit import TrainingRun

SHARD = 16  # pictures of a file; the pool hands out whole ones
RESUMED_STEPS = 30


def little_config(config: ModelConfig) -> ModelConfig:
    """The same kinds of parts in the smallest sizes."""
    text = replace(
        config.text, vocab_size=700, width=32, heads=2, layers=2, feedforward_width=32, projection_width=32,
        start_token_id=698, end_token_id=699,
    )  # fmt: skip
    uvit = replace(
        config.uvit, codebook_size=64, vocab_size=72, token_width=16, block_width=24, res_blocks=1, hidden_size=32,
        heads=2, layers=2, feedforward_width=40, text_width=32, pooled_width=32,
    )  # fmt: skip
    channels = (8, 8, 8)
    vqgan = replace(config.vqgan, channels=channels, decoder_channels=channels, latent_channels=4, codebook_size=64)
    return replace(config, text=text, uvit=uvit, vqgan=vqgan)


def little(build: Build) -> Build:
    """A build of `presets.small` whose stages take a second or a few."""
    parts = {}
    for name, part in build.parts.items():
        train_config = replace(part.train_config, steps=2)
        parts[name] = replace(part, train_config=train_config, pictures=SHARD, first_pictures=SHARD)
    return replace(
        build,
        config=little_config(build.config),
        parts=parts,
        captions=2000,
        vqgan=replace(build.vqgan, steps=3, whole_steps=1, plain_steps=1),
        decoder=replace(build.decoder, steps=1),
        ranker=replace(build.ranker, steps=1),
    )


def scenes(folder: Path) -> Build:
    """A U-ViT of a few more steps, so that it can be killed between them."""
    build = little(presets.small(presets.scenes(folder)))
    part = build.parts[""]
    train_config = replace(part.train_config, steps=RESUMED_STEPS, log_every=1)
    return replace(build, parts={"": replace(part, train_config=train_config)})


def train_uvit(folder: Path) -> None:
    """In a process of its own: a checkpoint after every step, so that a kill can land between any two."""
    torch.set_num_threads(1)
    building.SHARD = SHARD
    TrainingRun.due = lambda self: True  # type: ignore[method-assign]
    scenes(folder).run("uvit")

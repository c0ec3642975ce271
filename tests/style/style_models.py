"""A small model, pictures of noise and a training of seconds, for the tests of styles. Imports no other library."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amused_lite.adapters.lora import AdapterRecord
from amused_lite.adapters.torch import AttachedAdapter
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.models.networks import Networks
from amused_lite.style.config import StyleTrainConfig
from amused_lite.style.train import StyleBatches, StyleStep, prepare, train_style
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.base_model import CropTokens
from amused_lite.training.loop.fit import TrainingRun

TINY = PRESETS["tiny"]
CONFIG = replace(
    TINY,
    text=replace(TINY.text, vocab_size=600, context_length=16, width=24, heads=3, layers=2, feedforward_width=32,
                 projection_width=24, start_token_id=598, end_token_id=599),
    uvit=replace(TINY.uvit, grid=8, codebook_size=32, vocab_size=40, token_width=20, block_width=28, hidden_size=36,
                 layers=2, feedforward_width=40, text_width=24, pooled_width=24),
    vqgan=replace(TINY.vqgan, channels=(8, 8), latent_channels=4, codebook_size=32),
)  # fmt: skip
RECIPE = StyleTrainConfig(steps=12, batch=2, rank=3, alpha=3.0, sample_every=4, tell_crop=False, precision="float32")


def model(config: ModelConfig = CONFIG, seed: int = 0) -> Networks:
    torch.manual_seed(seed)
    made = Networks(config)
    for parameter in made.uvit.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return made.eval()


def tokenizer(length: int = 16) -> Tokenizer:
    return Tokenizer.train(["a red star", "a boat in gold style"], 600, length)


def data(pictures: int = 3, crops: int = 2, seed: int = 0, codes: int = 32) -> CropTokens:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(codes, (pictures, crops, 64), generator=generator)
    micro = torch.randint(1, 60, (pictures, crops, 5), generator=generator).float()
    return CropTokens(tokens, micro, tuple(f"a boat {k}" for k in range(pictures)))


def record(train_config: StyleTrainConfig) -> AdapterRecord:
    values = {
        "rank": train_config.rank,
        "alpha": train_config.alpha,
        "targets": train_config.targets,
        "kind": train_config.kind,
    }
    return AdapterRecord("x", preset="custom", base_model="", base_hash="", **values)  # type: ignore[arg-type]


def training(train_config: StyleTrainConfig, pictures: int = 3) -> tuple[StyleStep, AttachedAdapter, StyleBatches]:
    networks = model()
    batches = StyleBatches(train_config, data(pictures), "gold", 64)
    attached = prepare(networks, record(train_config), train_config)
    return StyleStep(networks, tokenizer(), batches.captions, train_config), attached, batches


def run_all(train_config: StyleTrainConfig, folder: Path, **options: Any) -> tuple[AttachedAdapter, str | None]:
    step, attached, batches = training(train_config)
    return attached, train_style(step, attached, batches, TrainingRun(folder), **options)

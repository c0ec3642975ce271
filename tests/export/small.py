"""A model with the tiny preset's kinds of parts, and fewer of them, that every target can export in seconds."""

from dataclasses import replace
from pathlib import Path

import published
import torch

from amused_lite.config import PRESETS, ModelConfig
from amused_lite.export.weights import SourceModel
from amused_lite.models.networks import Networks
from amused_lite.tokenizer import Tokenizer


def small_config(ranker: bool = False) -> ModelConfig:
    """For pictures of 256 pixels."""
    tiny = PRESETS["tiny"]
    return replace(
        tiny,
        text=replace(tiny.text, vocab_size=600, start_token_id=598, end_token_id=599, layers=2),
        uvit=replace(tiny.uvit, grid=16, codebook_size=128, vocab_size=136, layers=2, res_blocks=1),
        vqgan=replace(tiny.vqgan, codebook_size=128),
        ranker=ranker,
    )


def small_source(folder: Path, ranker: bool = False) -> SourceModel:
    """Random weights, the same ones every time, and a tokenizer that is written to the folder."""
    config = small_config(ranker)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = Networks(config).eval()
    published.shake(networks.uvit, 1)
    with torch.no_grad():
        networks.vqgan.codebook.normal_(generator=torch.Generator().manual_seed(3))
    text = config.text
    Tokenizer.train(["a red star", "a blue boat"], text.vocab_size, text.context_length).save(folder / "t.json")
    return SourceModel(networks, folder / "t.json")

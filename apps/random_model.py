"""A published model's folder with random weights, so that anyone can measure speed and memory without a download."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import torch

from amused_lite.config import PRESETS
from amused_lite.models.checkpoint import save_diffusers
from amused_lite.models.networks import Networks
from amused_lite.system import paths
from amused_lite.tokenizer import Tokenizer


def random_model(preset: str, folder: Path | None = None) -> Path:
    """The folder of a model of this preset with random float16 weights, in diffusers' layout; made once, then kept.

    Args:
        preset: "amused-256" or "amused-512".
        folder: where to keep it; None is the user's cache directory.

    Raises:
        ValueError: there is no such preset, or diffusers has no such network.
        OSError: there is no room for it, 1.8 GB.
    """
    published = [name for name, config in PRESETS.items() if config.vqgan.norm == "group"]
    if preset not in published:
        raise ValueError(f"no published preset {preset!r} to make random weights for; choose {' or '.join(published)}")
    folder = folder or paths.cache("random", preset)
    if (folder / "model_index.json").is_file():
        return folder
    config = PRESETS[preset]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".random-", dir=folder.parent) as scratch:
        tokenizer = Path(scratch) / "tokenizer.json"
        words = ["a red balloon above a blue house"]
        Tokenizer.train(words, config.text.vocab_size, config.text.context_length).save(tokenizer)
        part = Path(scratch) / "model"
        save_diffusers(_networks(preset), part, tokenizer)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    return folder


@torch.no_grad()
def _networks(preset: str) -> Networks:
    """Random weights that keep activations at the size they have in trained networks."""
    with torch.device("meta"):
        networks = Networks(PRESETS[preset])
    networks = networks.to(torch.float16).to_empty(device="cpu")
    for name, weight in networks.named_parameters():
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
        if weight.ndim == 1 or name.endswith((".gamma", ".beta")):
            weight.fill_(1.0 if name.endswith(".weight") else 0.0)
        else:
            reach = 1.7 * weight[0].numel() ** -0.5
            weight.copy_(torch.empty(weight.shape).uniform_(-reach, reach, generator=generator))
    return networks

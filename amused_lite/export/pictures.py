"""Whole pictures on an exported bundle beside the same pictures on torch, prompt by prompt. For figures, not a gate."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amused_lite.analysis.verify import compare_pixels
from amused_lite.bundle import TOKENIZER, open_bundle
from amused_lite.export.bundle import engine_of
from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.runtimes.base import ModelInfo
from amused_lite.runtimes.open import open_model
from amused_lite.tokenizer import Tokenizer

_COLOURS = ("red", "blue", "green", "yellow", "white")
_SHAPES = (("star", "house"), ("balloon", "tree"), ("boat", "cloud"), ("circle", "square"))
PROMPTS = tuple(
    f"a {colour} {shape} above a {_COLOURS[index - 2]} {other}"
    for shape, other in _SHAPES
    for index, colour in enumerate(_COLOURS)
)  # twenty; picture k is drawn with seed k


class PictureComparison(NamedTuple):
    """One picture of a bundle beside torch's."""

    tokens: float  # share of equal tokens
    psnr: float  # dB between the pixels, infinite where they are equal


def torch_pictures(model: str, count: int) -> list[Picture]:
    """The first `count` prompts on torch, in float32 on the model's own weights."""
    return list(_draw(AmusedPipeline(*open_model(model, "torch"), keep_loaded=True), count))


def compare_pictures(folder: Path, wanted: list[Picture]) -> list[PictureComparison]:
    """Draw the same prompts from the same seeds, freely: a token that differs may change all later steps."""
    bundle = open_bundle(folder)
    text = bundle.config.text
    tokenizer = Tokenizer.from_file(bundle.path(TOKENIZER), text.context_length, text.start_token_id, text.end_token_id)
    amused = AmusedPipeline(engine_of(bundle), tokenizer, ModelInfo(bundle.manifest.name, ""), keep_loaded=True)
    return [_compare(made, other) for made, other in zip(_draw(amused, len(wanted)), wanted, strict=True)]


def summary(found: list[PictureComparison]) -> tuple[str, str]:
    """How many pictures have torch's tokens and how many tokens are alike, and the worst and the mean PSNR."""
    same = sum(one.tokens == 1 for one in found)
    tokens = f"{same} of {len(found)} ({100 * float(np.mean([one.tokens for one in found])):.4g} %)"
    finite = [one.psnr for one in found if math.isfinite(one.psnr)]
    if not finite:
        return tokens, "equal"
    return tokens, f"{min(finite):.1f}, {float(np.mean(finite)):.1f}"


def _draw(amused: AmusedPipeline, count: int) -> Iterator[Picture]:
    for seed, prompt in enumerate(PROMPTS[:count]):
        yield amused.generate(prompt, seed=seed)


def _compare(made: Picture, wanted: Picture) -> PictureComparison:
    alike = float(np.mean(np.array(made.recipe.tokens) == np.array(wanted.recipe.tokens)))
    psnr, _ = compare_pixels(wanted.image, made.image)
    return PictureComparison(alike, psnr)

"""Score a model on the held-out prompts: one picture each, fixed seeds, nothing selected. Knows no particular model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.evaluation.judge import Judge
from amused_lite.evaluation.metrics import Figure, score
from amused_lite.files.images import Pixels
from amused_lite.pipeline import AmusedPipeline, to_image
from amused_lite.training.scenes import HeldoutPrompt

SHEET = 24  # pictures on a contact sheet


def draw_prompts(amused: AmusedPipeline, prompts: Sequence[HeldoutPrompt], **options: Any) -> Iterator[Image.Image]:
    """A picture of each prompt; prompt k is drawn with seed k."""
    for seed, entry in enumerate(prompts):
        yield amused.generate(entry.prompt, seed=seed, **options).image


def judge_pictures(judge: Judge, prompts: Sequence[HeldoutPrompt], pictures: Sequence[Image.Image]) -> list[Figure]:
    """The figures of `score`, each with its n."""
    return score(prompts, [judge.detect(picture) for picture in pictures])


def sheet_of(prompts: Sequence[HeldoutPrompt], pictures: Sequence[Image.Image], path: Path) -> None:
    """The first 24 as one picture with their prompts below."""
    contact_sheet(pictures[:SHEET], [entry.prompt for entry in prompts[:SHEET]], path)


def reconstruction(amused: AmusedPipeline) -> Callable[[Pixels], Pixels]:
    """Pictures (512, 512, 3) to tokens and back: what the codebook costs, and so the ceiling of the score."""

    def reconstruct(picture: Pixels) -> Pixels:
        pixels = picture.transpose(2, 0, 1)[None].astype(np.float32) / 255
        return np.asarray(to_image(amused.runtime.decode_image(amused.runtime.encode_image(pixels))[0]))

    return reconstruct

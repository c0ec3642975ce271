"""Best of N: several pictures of one prompt, ranked by how well CLIP finds that they fit it. NumPy only.

Candidates are ordinary pictures of one seed, numbered on, so that the chosen one can be made again alone. A draft is a
picture of few steps; finishing it draws its least likely tokens again for the steps that are left
(`GenerateOptions.refine`), so that the finished picture is the draft, made better, and not another one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amused_lite.config import RANKER_SIDE
from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.sampling.loop import Step
from amused_lite.sampling.settings import GenerateOptions

Watch = Callable[[Iterable[Step], int], Iterable[Step]]  # steps and how many there are -> the same steps


class Ranker(Protocol):
    """Anything that says how well pictures fit a prompt."""

    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        """One number for each picture, higher where it fits better; CLIP's is a cosine (Hessel et al. 2021)."""
        ...


class OwnRanker:
    """The small CLIP that comes with a model."""

    def __init__(self, amused: AmusedPipeline) -> None:
        """Find out early that there is none.

        Raises:
            ValueError: the model has no ranker.
        """
        if not amused.runtime.config.ranker:
            raise ValueError(f"the model {amused.info.name} has no ranker; name one with --ranker (docs/pictures.md)")
        self._amused = amused

    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        """See `Ranker`."""
        runtime = self._amused.runtime
        text = runtime.embed_text(self._amused.tokenizer.encode([prompt]))
        pixels = np.stack([_shrink(image) for image in images])
        return (runtime.embed_image(pixels) @ text[0]).tolist()


@dataclass(frozen=True, eq=False)
class RankedPicture:
    """One of the pictures that were made."""

    picture: Picture
    score: float


def candidates(
    amused: AmusedPipeline,
    ranker: Ranker,
    prompt: str,
    negative_prompt: str,
    pictures: range,
    options: GenerateOptions,
    watch: Watch = lambda steps, total: steps,
) -> list[RankedPicture]:
    """Make the pictures with these numbers and rank them, the best first; equal ones in the order of their numbers."""
    made = [_make(amused, prompt, negative_prompt, number, options, watch) for number in pictures]
    scores = ranker.scores(prompt, [picture.image for picture in made])
    ranked = [RankedPicture(picture, score) for picture, score in zip(made, scores, strict=True)]
    return sorted(ranked, key=lambda candidate: -candidate.score)


def as_draft(options: GenerateOptions, draft_steps: int) -> GenerateOptions:
    """The options of a draft.

    Raises:
        ValueError: it would have as many steps as the picture.
    """
    if not 1 <= draft_steps < options.steps:
        raise ValueError(f"draft_steps must be 1 or more and below steps, {options.steps}, got {draft_steps}")
    return replace(options, steps=draft_steps, refine=0)


def finish_draft(
    amused: AmusedPipeline,
    draft: Picture,
    options: GenerateOptions,
    draft_steps: int,
    watch: Watch = lambda steps, total: steps,
) -> Picture:
    """The picture that a draft becomes: the steps that are left draw its least likely tokens again."""
    rest = replace(options, steps=draft_steps, refine=options.steps - draft_steps)
    recipe = draft.recipe
    return _make(amused, recipe.prompt, recipe.negative_prompt, recipe.picture, rest, watch)


def _make(
    amused: AmusedPipeline, prompt: str, negative_prompt: str, number: int, options: GenerateOptions, watch: Watch
) -> Picture:
    steps = amused.steps(prompt, negative_prompt, number, options)
    *_, last = watch(steps, options.steps + options.refine)
    return amused.finish(last.tokens[0], prompt, negative_prompt, number, options)


def grid_picture(ranked: Sequence[RankedPicture], side: int = 256, gap: int = 8) -> Image.Image:
    """All candidates in one picture, the best first, each with its number and its score below it."""
    columns = int(np.ceil(np.sqrt(len(ranked))))
    rows = -(-len(ranked) // columns)
    line = 20
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + line + gap) + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, candidate in enumerate(ranked):
        row, column = divmod(index, columns)
        x, y = gap + column * (side + gap), gap + row * (side + line + gap)
        image = candidate.picture.image
        height = max(1, side * image.height // image.width)
        sheet.paste(image.resize((side, min(side, height)), Image.Resampling.LANCZOS), (x, y))
        said = f"picture {candidate.picture.recipe.picture}   {candidate.score:.3f}"
        pen.text((x + 2, y + side + 2), said, "black", font)
    return sheet


def _shrink(image: Image.Image) -> np.ndarray:
    """A picture as a ranker wants it: (3, S, S) float32 in 0...1."""
    small = image.convert("RGB").resize((RANKER_SIDE, RANKER_SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255

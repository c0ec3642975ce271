"""Best of N: several pictures of one prompt, ranked by how well CLIP finds that they fit it. NumPy only.

Candidates are ordinary pictures of one seed, numbered on, so that the chosen one can be made again alone. A draft is a
picture of few steps; finishing it draws its least likely tokens again for the steps that are left
(`GenerateOptions.refine`), so that the finished picture is the draft, made better, and not another one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amused_lite.config import RANKER_SIDE
from amused_lite.pipeline import AmusedPipeline, Picture, Watch
from amused_lite.task import Task


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
    amused: AmusedPipeline, ranker: Ranker, tasks: Iterable[Task], watch: Watch = lambda steps, total: steps
) -> list[RankedPicture]:
    """Make the pictures of one prompt and rank them, the best first; equal ones in the order of the tasks."""
    made = [amused.run(task, watch) for task in tasks]
    scores = ranker.scores(made[0].recipe.prompt, [picture.image for picture in made])
    ranked = [RankedPicture(picture, score) for picture, score in zip(made, scores, strict=True)]
    return sorted(ranked, key=lambda candidate: -candidate.score)


def as_draft(task: Task, draft_steps: int) -> Task:
    """The draft of a picture.

    Raises:
        ValueError: it would have as many steps as the picture.
    """
    most = task.options.steps
    if not 1 <= draft_steps < most:
        raise ValueError(f"draft_steps must be 1 or more and below steps, {most}, got {draft_steps}")
    return replace(task, options=replace(task.options, steps=draft_steps, refine=0))


def finished_draft(task: Task, draft_steps: int) -> Task:
    """The picture that a draft becomes: the steps that are left draw its least likely tokens again."""
    rest = task.options.steps - draft_steps
    return replace(task, options=replace(task.options, steps=draft_steps, refine=rest))


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

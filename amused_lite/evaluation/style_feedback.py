"""StyleDrop's second round (Sohn et al. 2023, section 3.3): draw candidates, keep those that have the style and obey.

What is kept becomes the pictures of another training. Choosing is the person's, or that of two scores.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amused_lite.evaluation.contact_sheet import contact_sheet
from amused_lite.evaluation.style_score import Look, Picture
from amused_lite.evaluation.style_watch import Sample, draw_samples, text_scores
from amused_lite.generate import Amused

TABLE = "candidates.json"
SHEET = "candidates.png"


@dataclass(frozen=True)
class Candidate:
    """A picture that may be kept."""

    number: int  # from 1, as on the sheet
    caption: str  # without words of style
    path: Path
    distance: float  # from the style's pictures; less is better
    text: float  # see `text_scores`; more is better


def draw_candidates(
    amused: Amused, captions: Sequence[str], trigger: str, references: Sequence[Picture], count: int, folder: Path
) -> list[Candidate]:
    """`count` pictures, the captions in turn, with scores and a numbered sheet in `folder`; drawn once.

    Args:
        amused: with the adapter in it.
        captions: without words of style.
        trigger: the words of style, if it needs any.
        references: the style's pictures.
        count: of candidates.
        folder: made if needed; candidates that are there are read again.
    """
    table = folder / TABLE
    if table.is_file():
        return [Candidate(**row | {"path": folder / row["path"]}) for row in json.loads(table.read_text("utf-8"))]
    folder.mkdir(parents=True, exist_ok=True)
    said = [captions[k % len(captions)] for k in range(count)]
    samples = draw_samples(amused, [f"{caption} {trigger}".strip() for caption in said])
    look = Look.of("references", references)
    candidates = []
    for number, (caption, sample, text) in enumerate(zip(said, samples, _texts(amused, samples), strict=True), 1):
        path = folder / f"candidate-{number:02d}.png"
        sample.image.save(path)
        candidates.append(Candidate(number, caption, path, look.distance(sample.image), text))
    names = [f"{c.number}: {c.caption}" for c in candidates]
    contact_sheet([sample.image for sample in samples], names, folder / SHEET)
    rows = [{**candidate.__dict__, "path": candidate.path.name} for candidate in candidates]
    table.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")  # last: until then they are drawn again
    return candidates


def _texts(amused: Amused, samples: Sequence[Sample], group: int = 4) -> list[float]:
    """Text scores within groups of a few prompts, so that the work does not grow with the pictures' square."""
    return [score for k in range(0, len(samples), group) for score in text_scores(amused, samples[k : k + group])]


def best(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Those whose ranks in style and in text add up to the least."""
    style = np.argsort(np.argsort([candidate.distance for candidate in candidates]))
    text = np.argsort(np.argsort([-candidate.text for candidate in candidates]))
    order = np.argsort(style + text, kind="stable")
    return [candidates[index] for index in order[:count]]


def picked(candidates: Sequence[Candidate], numbers: Sequence[int]) -> list[Candidate]:
    """Those with these numbers.

    Raises:
        ValueError: there is no such number.
    """
    known = {candidate.number: candidate for candidate in candidates}
    if strange := [number for number in numbers if number not in known]:
        raise ValueError(f"there is no candidate {strange[0]}; pick from 1 to {len(candidates)}")
    return [known[number] for number in dict.fromkeys(numbers)]

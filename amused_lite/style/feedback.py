"""StyleDrop's second round (Sohn et al. 2023, section 3.3): draw candidates, keep those that have the style and obey.

What is kept becomes the pictures of another training. Choosing is the person's, or that of two scores.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from tqdm import tqdm

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.files.atomic import replace_text
from amused_lite.files.images import open_picture
from amused_lite.pipeline import AmusedPipeline
from amused_lite.reading import read_json
from amused_lite.style.monitor import Sample, Score, text_scores
from amused_lite.style.score import Picture, StyleStatistics

TABLE = "candidates.json"
SHEET = "candidates.png"


@dataclass(frozen=True)
class StyleCandidate:
    """A picture that may be kept."""

    number: int  # from 1, as on the sheet
    caption: str  # without words of style
    path: Path
    distance: float  # from the style's pictures; less is better
    text: float  # see `text_scores`; more is better


class _Row(Struct):
    """A candidate as the table has it."""

    number: int
    caption: str
    distance: Score
    text: Score


class _Table(Struct):
    of: str  # key of what was drawn
    candidates: Annotated[list[_Row], Meta(max_length=100_000)]


def draw_candidates(
    amused: AmusedPipeline,
    captions: Sequence[str],
    trigger: str,
    references: Sequence[Picture],
    count: int,
    folder: Path,
) -> list[StyleCandidate]:
    """`count` pictures, the captions in turn, with scores and a numbered sheet in `folder`; drawn once.

    Args:
        amused: with the adapter in it.
        captions: without words of style.
        trigger: the words of style, if it needs any.
        references: the style's pictures.
        count: of candidates.
        folder: made if needed; candidates of the same model, adapter, captions and count are read again, and drawing
            that was stopped goes on.
    """
    said = [captions[k % len(captions)] for k in range(count)]
    key = hashlib.sha256(
        json.dumps([amused.info.model_hash, amused.info.adapter_labels, trigger, said]).encode()
    ).hexdigest()
    table = folder / TABLE
    kept = _kept(table, key)
    if [(row.number, row.caption) for row in kept] == list(enumerate(said, 1)):
        return [StyleCandidate(r.number, r.caption, _place(folder, r.number, key), r.distance, r.text) for r in kept]
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number, caption in enumerate(tqdm(said, "drawing candidates", leave=False, disable=None), 1):
        samples.append(_drawn(amused, f"{caption} {trigger}".strip(), number - 1, _place(folder, number, key)))
    look = StyleStatistics.of("references", references)
    texts = _texts(amused, samples)
    candidates = [
        StyleCandidate(number, caption, _place(folder, number, key), look.distance(sample.image), text)
        for number, (caption, sample, text) in enumerate(zip(said, samples, texts, strict=True), 1)
    ]
    names = [f"{c.number}: {c.caption}" for c in candidates]
    contact_sheet([sample.image for sample in samples], names, folder / SHEET)
    rows = [{name: getattr(candidate, name) for name in _Row.__struct_fields__} for candidate in candidates]
    replace_text(table, json.dumps({"of": key, "candidates": rows}, indent=1) + "\n")
    return candidates


def _kept(table: Path, key: str) -> list[_Row]:
    """The rows of a table of this key, else none."""
    try:
        kept = read_json(table, _Table, "draw them again")
    except (OSError, ValueError):  # none, a damaged one, or one of an earlier version
        return []
    return kept.candidates if kept.of == key else []


def _place(folder: Path, number: int, key: str) -> Path:
    return folder / f"candidate-{number:02d}-{key[:8]}.png"


def _drawn(amused: AmusedPipeline, prompt: str, seed: int, path: Path) -> Sample:
    """A candidate, drawn once: its file keeps the tokens."""
    if path.is_file() and (kept := open_picture(path)).recipe is not None:
        return Sample(prompt, kept.image, kept.recipe.tokens)
    picture = amused.generate(prompt, seed=seed)
    picture.save(path)
    return Sample(prompt, picture.image, picture.recipe.tokens)


def _texts(amused: AmusedPipeline, samples: Sequence[Sample], group: int = 4) -> list[float]:
    """Text scores within groups of a few prompts, so that the work does not grow with the pictures' square."""
    return [score for k in range(0, len(samples), group) for score in text_scores(amused, samples[k : k + group])]


def best(candidates: Sequence[StyleCandidate], count: int) -> list[StyleCandidate]:
    """Those whose ranks in style and in text add up to the least."""
    style = np.argsort(np.argsort([candidate.distance for candidate in candidates]))
    text = np.argsort(np.argsort([-candidate.text for candidate in candidates]))
    order = np.argsort(style + text, kind="stable")
    return [candidates[index] for index in order[:count]]


def picked(candidates: Sequence[StyleCandidate], numbers: Sequence[int]) -> list[StyleCandidate]:
    """Those with these numbers.

    Raises:
        ValueError: there is no such number.
    """
    known = {candidate.number: candidate for candidate in candidates}
    if strange := [number for number in numbers if number not in known]:
        raise ValueError(f"there is no candidate {strange[0]}; pick from 1 to {len(candidates)}")
    return [known[number] for number in dict.fromkeys(numbers)]

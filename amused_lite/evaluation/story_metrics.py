"""Scores of storybook pictures against what their prompts ask for, and how near they are to fresh renders."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from PIL import Image

from amused_lite.evaluation.metrics import Figure, shuffled
from amused_lite.evaluation.story_judge import PAGE, FoundThing, PageDetection, StoryJudge, to_pixels
from amused_lite.files.images import Pixels
from amused_lite.training.storybook.layout import things
from amused_lite.training.storybook.prompts import CATEGORIES, StoryPrompt
from amused_lite.training.storybook.scene import StoryScene

_PAIRS = ("pair", "unseen pair")
_SHARPEST = 95  # percentile of a picture's gradients that is compared: its edges


def score_pages(prompts: Sequence[StoryPrompt], detections: Sequence[PageDetection]) -> list[Figure]:
    """One figure per respect, over the prompts it applies to; ValueError when the two differ in number."""
    if len(prompts) != len(detections):
        raise ValueError(f"got {len(prompts)} prompts and {len(detections)} detections, expected one for each")
    cases = [(prompt.category, prompt.scene, detection) for prompt, detection in zip(prompts, detections, strict=True)]

    def figure(name: str, right: Callable[[StoryScene, PageDetection], bool], categories: Iterable[str]) -> Figure:
        asked = [right(scene, detection) for category, scene, detection in cases if category in categories]
        return Figure(name, sum(asked), len(asked))

    return [
        figure("single thing", has_things, ["single"]),
        figure("two things both right", has_things, ["pair"]),
        figure("unseen two things both right", has_things, ["unseen pair"]),
        figure("relation", has_relation, _PAIRS),
        figure("count", has_count, ["count"]),
        figure("unseen thing in that hand", lambda s, d: has_things(s, d) and has_hand(s, d), ["unseen hand"]),
        figure("unseen thing in that colour", has_things, ["unseen colour"]),
        figure("hand", has_hand, CATEGORIES),
        figure("place", lambda scene, detection: detection.place == scene.place, CATEGORIES),
        figure("time of day", lambda scene, detection: detection.time == scene.time, CATEGORIES),
        figure("weather", lambda scene, detection: detection.weather == scene.weather, CATEGORIES),
    ]


def calibrate_pages(
    judge: StoryJudge,
    prompts: Sequence[StoryPrompt],
    renders: Sequence[Pixels],
    reconstruct: Callable[[Pixels], Pixels],
) -> dict[str, list[Figure]]:
    """What the judge's figures are worth: on fresh renders, on those through the VQ-GAN, and by chance.

    See `metrics.calibrate`.
    """
    fresh = [judge.detect(render) for render in renders]
    return {
        "fresh renders": score_pages(prompts, fresh),
        "reconstructed": score_pages(prompts, [judge.detect(reconstruct(render)) for render in renders]),
        "shuffled": score_pages(prompts, shuffled(prompts, fresh)),
    }


def has_things(scene: StoryScene, detection: PageDetection) -> bool:
    """Every thing asked for is found, in its colour where one is asked for."""
    return all(_best(subject, detection) is not None for subject in scene.subjects)


def has_relation(scene: StoryScene, detection: PageDetection) -> bool:
    """Both things of a pair are found, and the way from one to the other is within 45 degrees of a render's."""
    first, second = (_best(subject, detection) for subject in (scene.subjects[0], scene.subjects[-1]))
    if first is None or second is None:
        return False
    placed = {thing.kind: thing for thing in things(scene)}
    one, other = (placed[kind] for kind in scene.kinds)
    asked = (other.x + other.side / 2 - one.x - one.side / 2, other.y + other.side / 2 - one.y - one.side / 2)
    seen = (second.x - first.x, second.y - first.y)
    return bool(np.dot(asked, seen) > np.sqrt(0.5) * np.hypot(*asked) * np.hypot(*seen))


def has_count(scene: StoryScene, detection: PageDetection) -> bool:
    """As many things of the kind are found as asked for."""
    return sum(_is(scene.subjects[0], thing) for thing in detection.things) == scene.count


def has_hand(scene: StoryScene, detection: PageDetection) -> bool:
    """The clearest thing is drawn by the hand asked for."""
    return bool(detection.things) and detection.things[0].hand == scene.hand


def _best(subject: tuple[str, str | None], detection: PageDetection) -> FoundThing | None:
    return next((thing for thing in detection.things if _is(subject, thing)), None)


def _is(subject: tuple[str, str | None], thing: FoundThing) -> bool:
    kind, colour = subject
    return thing.kind == kind and colour in (None, thing.colour)


def crispness(pictures: Iterable[Pixels]) -> float:
    """Mean over pictures of the 95th percentile of the brightness gradient, grey levels a pixel."""
    edges = []
    for picture in pictures:
        grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)
        edges.append(np.percentile(np.hypot(*np.gradient(grey)), _SHARPEST))
    return float(np.mean(edges))


def frechet_distance(judge: StoryJudge, pictures: Sequence[Pixels], renders: Sequence[Pixels]) -> float:
    """Between two sets of pictures, by the features that the judge reads pages from (Heusel et al. 2017).

    Comparable between models under one judge only.
    """
    (mean, spread), (other_mean, other_spread) = (_statistics(judge, some) for some in (pictures, renders))
    product = np.linalg.eigvals(spread @ other_spread)
    root = np.sqrt(np.clip(product.real, 0, None)).sum()
    return float(np.sum((mean - other_mean) ** 2) + np.trace(spread) + np.trace(other_spread) - 2 * root)


def _statistics(judge: StoryJudge, pictures: Sequence[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    small = [np.array(Image.fromarray(picture).reduce(len(picture) // PAGE)) for picture in pictures]
    with torch.inference_mode():
        features = torch.cat(
            [judge.features(to_pixels(small[start : start + 32])) for start in range(0, len(small), 32)]
        )
    return features.mean(0).double().numpy(), np.cov(features.double().numpy(), rowvar=False)

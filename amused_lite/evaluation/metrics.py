"""Scores of pictures against what their prompts ask for, each with its n, and their bounds (`calibrate`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from amused_lite.evaluation.judge import Detection, Found, Judge
from amused_lite.files.images import Pixels
from amused_lite.training.scenes import HeldoutPrompt, Scene, draw

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Figure:
    """`right` of `n` pictures are right in the respect called `name`."""

    name: str
    right: int
    n: int

    @property
    def share(self) -> float:
        """Right answers in 0…1; NaN when n is 0."""
        return self.right / self.n if self.n else float("nan")


def score(prompts: Sequence[HeldoutPrompt], detections: Sequence[Detection]) -> list[Figure]:
    """One figure per respect, over the prompts it applies to; ValueError when the two differ in number."""
    if len(prompts) != len(detections):
        raise ValueError(f"got {len(prompts)} prompts and {len(detections)} detections, expected one for each")
    cases = [(prompt.category, prompt.scene, detection) for prompt, detection in zip(prompts, detections, strict=True)]

    def figure(name: str, right: Callable[[Scene, Detection], bool], categories: Iterable[str]) -> Figure:
        asked = [right(scene, detection) for category, scene, detection in cases if category in categories]
        return Figure(name, sum(asked), len(asked))

    everything = {category for category, _, _ in cases}
    return [
        figure("backdrop", lambda scene, detection: detection.backdrop == scene.backdrop, everything),
        figure("colour", has_colours, everything),
        figure("single object with its colour", has_subjects, {"single"}),
        figure("unseen object-colour pair", has_subjects, {"unseen single"}),
        figure("two objects both right", has_subjects, {"pair"}),
        figure("unseen two objects both right", has_subjects, {"unseen pair"}),
        figure("relation right", has_relation, {"pair", "unseen pair"}),
        figure("count right", has_count, {"count"}),
        figure("all things right and no other", has_nothing_else, everything),
    ]


def has_colours(scene: Scene, detection: Detection) -> bool:
    """Every colour asked for is the colour of a thing found."""
    return {colour for _, colour in scene.subjects} <= {thing.colour for thing in detection.things}


def has_subjects(scene: Scene, detection: Detection) -> bool:
    """Every kind asked for is found in its colour."""
    return set(scene.subjects) <= {(thing.kind, thing.colour) for thing in detection.things}


def has_relation(scene: Scene, detection: Detection) -> bool:
    """Both things of a pair are found in their colours, and lie to each other as asked."""
    first, second = (_best(subject, detection) for subject in (scene.subjects[0], scene.subjects[-1]))
    if first is None or second is None:
        return False
    across, down = second.x - first.x, second.y - first.y
    return across > abs(down) if scene.layout == "beside" else down > abs(across)


def has_count(scene: Scene, detection: Detection) -> bool:
    """As many things of the kind and colour are found as asked for."""
    return sum((thing.kind, thing.colour) == scene.subjects[0] for thing in detection.things) == scene.count


def has_nothing_else(scene: Scene, detection: Detection) -> bool:
    """The things found are exactly those asked for, wherever they lie."""
    asked = sorted((thing.kind, thing.colour) for thing in scene.things)
    return sorted((thing.kind, thing.colour) for thing in detection.things) == asked


def calibrate(
    judge: Judge, prompts: Sequence[HeldoutPrompt], reconstruct: Callable[[Pixels], Pixels] | None = None
) -> dict[str, list[Figure]]:
    """What the judge's figures are worth: on fresh renders, on renders after `reconstruct`, and by chance.

    `reconstruct` maps uint8 (512, 512, 3) to the same (the VQ-GAN there and back: the ceiling of any generator on it).
    Chance is the figures of fresh renders given to other prompts of their category, each to the next one.
    """
    renders = [draw(prompt.scene) for prompt in prompts]
    fresh = [judge.detect(render) for render in renders]
    figures = {"fresh renders": score(prompts, fresh)}
    if reconstruct is not None:
        figures["reconstructed"] = score(prompts, [judge.detect(reconstruct(render)) for render in renders])
    figures["shuffled"] = score(prompts, shuffled(prompts, fresh))
    return figures


def table(figures: dict[str, list[Figure]]) -> str:
    """The figures as text: a line per respect with its n, a column per set of pictures."""
    names = list(figures)
    lines = [" " * 34 + "".join(f"{name:>16}" for name in names)]
    for row in zip(*figures.values(), strict=True):
        shares = "".join(f"{figure.share:>15.1%} " for figure in row)
        lines.append(f"{row[0].name:<31}{'':>3}{shares} n={row[0].n}")
    return "\n".join(lines)


def _best(subject: tuple[str, str], detection: Detection) -> Found | None:
    """The most confident thing of that kind and colour (detections are ordered by confidence)."""
    return next((thing for thing in detection.things if (thing.kind, thing.colour) == subject), None)


class Categorized(Protocol):
    """A prompt that knows its line of the score."""

    @property
    def category(self) -> str: ...


def shuffled(prompts: Sequence[Categorized], detections: Sequence[Seen]) -> list[Seen]:
    """Each prompt gets the detection of the next one of its category (of itself where it is alone)."""
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt.category, []).append(place)
    moved = list(detections)
    for group in places.values():
        for place, source in zip(group, group[1:] + group[:1], strict=True):
            moved[place] = detections[source]
    return moved

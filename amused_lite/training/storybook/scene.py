"""What a page of the storybook shows, in words: `StoryScene`, of which picture and caption both follow. Draws nothing.

A scene is symbolic; where its things lie is derived in `layout.py`, with box corners on the token grid and boxes of
four sides only, so that a drawing has few tokenizations. Three choices are unsaid: `variant`, `shift` and `clutter`.
"""

from dataclasses import dataclass
from typing import Literal

from amused_lite.conditioning import MicroConditioning
from amused_lite.training.storybook.kinds import KINDS
from amused_lite.training.storybook.places import PLACES

CELL = 16  # side of one token in px
CANVASES = (192, 256, 512)  # sides of a picture in px: the transformer is trained on the small ones first
SMALLEST = CANVASES[0]  # room for one medium thing
MARGIN = 128  # px by which the page is larger than the picture that is cropped from it

Layout = Literal["single", "pair", "count", "group"]
Relation = Literal["left of", "above", "on", "behind"]  # the first subject is there, seen from the second
Position = Literal["centre", "left", "right", "top", "bottom"]
Size = Literal["medium", "small", "big"]
POSITIONS: tuple[Position, ...] = ("centre", "left", "right", "top", "bottom")
RELATIONS: tuple[Relation, ...] = ("left of", "above", "on", "behind")
SIZES: dict[Size, int] = {"medium": 160, "small": 96, "big": 224}

Subject = tuple[str, str | None]  # kind, and colour unless it is the drawing's own


@dataclass(frozen=True)
class Extra:
    """A misplaced thing of a cluttered page: its kind and the corner of its box, px of the page."""

    kind: str
    x: int
    y: int


@dataclass(frozen=True)
class StoryScene:
    """A picture in words.

    `position` and `size` speak of singles, `relation` of pairs, `count` (1 to 4) of the layout "count"; a group is
    three to five different things. `canvas` is the side of the picture in px; with a `crop` (top, left) the picture is
    that part of a page which is `MARGIN` px larger. `variant` 1 mirrors the place, `shift` moves all
    things by so many cells.
    """

    place: str
    time: str
    weather: str
    hand: str
    layout: Layout
    subjects: tuple[Subject, ...]
    relation: Relation | None = None
    count: int = 1
    size: Size = "medium"
    position: Position = "centre"
    variant: int = 0
    shift: int = 0
    clutter: tuple[Extra, ...] = ()
    canvas: int = 512
    crop: tuple[int, int] | None = None

    @property
    def page(self) -> int:
        """Side of the page the scene is laid out on, px."""
        return self.canvas if self.crop is None else self.canvas + MARGIN

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds a caption speaks of."""
        return tuple(kind for kind, _ in self.subjects)


def meaning(scene: StoryScene) -> tuple[object, ...]:
    """Everything a caption can say of a scene: equal for two scenes that differ in unsaid choices only."""
    said = (scene.place, scene.time, scene.weather, scene.hand, scene.layout, scene.subjects)
    return (*said, scene.relation, scene.count, scene.size, scene.position)


def micro(scene: StoryScene) -> MicroConditioning:
    """Size of the page, corner of the crop, and a score: 7 for one clear thing to 6 for five, 5 to 3 for clutter."""
    top, left = scene.crop or (0, 0)
    if scene.clutter:
        score = 5.5 - 0.5 * len(scene.clutter)
    else:
        score = 7.25 - 0.25 * max(scene.count, len(scene.subjects))
    return MicroConditioning(scene.page, scene.page, top, left, max(score, 3.0))


def suits(kind: str, place: str) -> bool:
    """Whether things of this kind are found in this place."""
    there, what = PLACES[place], KINDS[kind]
    return what.place in there.holds and not (there.indoors and what.size_class == "large")

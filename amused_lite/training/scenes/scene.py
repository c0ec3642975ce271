"""What a training picture shows: the words, and `Scene`, from which caption and drawing both follow. Draws nothing.

A scene is symbolic (kinds, colours, a layout); where things lie is derived from it, snapped to `CELL`, so that a
caption nearly determines its picture. Two choices are unsaid, `jitter` and `variant`; both mostly have one value.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

SIZE = 512  # side of a picture in px; all coordinates below are px of such a picture
CELL = 16  # side of one token in px

KINDS = ("balloon", "house", "tree", "star", "heart", "boat", "car", "fish", "flower", "mushroom", "cup", "moon")
COLOURS = {
    "red": (218, 30, 40),
    "orange": (247, 128, 10),
    "yellow": (252, 215, 30),
    "green": (22, 140, 58),
    "blue": (28, 78, 216),
    "purple": (122, 40, 172),
    "pink": (250, 120, 190),
    "white": (250, 250, 250),
}
BACKDROPS = ("meadow", "sea", "desert", "snow", "night", "sunset")
STYLES = ("flat", "cartoon", "paper")
VARIANTS = 3

Layout = Literal["single", "beside", "stacked", "count"]
Position = Literal["centre", "left", "right", "top", "bottom"]
Size = Literal["small", "medium", "big"]

POSITIONS: dict[Position, tuple[int, int]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}
SIZES: dict[Size, int] = {"medium": 176, "small": 112, "big": 272}  # the default first, as in POSITIONS
MARGIN = 32  # px left free between a single thing and the edge it is said to be at
PAIR_SIZE = 160
NEAR, FAR = 144, 368  # the two anchors along the axis of a pair
CROWD_SIZE = 128
CROWDS = {
    2: ((144, 256), (368, 256)),
    3: ((96, 256), (256, 256), (416, 256)),
    4: ((144, 144), (368, 144), (144, 368), (368, 368)),
}

# Each kind once; red, yellow, green and white twice, the other colours once.
HELDOUT_PAIRS = frozenset({
    ("balloon", "green"),
    ("house", "yellow"),
    ("tree", "purple"),
    ("star", "white"),
    ("heart", "orange"),
    ("boat", "pink"),
    ("car", "yellow"),
    ("fish", "red"),
    ("flower", "blue"),
    ("mushroom", "green"),
    ("cup", "white"),
    ("moon", "red"),
})  # fmt: skip
# Every kind once or twice.
HELDOUT_RELATIONS = frozenset(
    frozenset(pair.split())
    for pair in (
        "balloon fish",
        "balloon tree",
        "house cup",
        "house moon",
        "tree star",
        "star boat",
        "boat flower",
        "fish cup",
        "heart car",
        "mushroom moon",
    )
)


@dataclass(frozen=True)
class Thing:
    """One object: centre `x`, `y` and side of its box `size`, all in px of a 512 px picture."""

    kind: str
    colour: str
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Scene:
    """A picture in words. `subjects` are (kind, colour); a pair is in reading order (left to right, top to bottom).

    `position` and `size` speak of singles, `count` (2 to 4) of the layout "count". Unsaid: `variant` (0 to 2, the
    placement of hills and clouds) and `jitter` (-1, 0 or 1 cells right and down, for all things together).
    """

    backdrop: str
    style: str
    layout: Layout
    subjects: tuple[tuple[str, str], ...]
    position: Position = "centre"
    size: Size = "medium"
    count: int = 1
    variant: int = 0
    jitter: tuple[int, int] = (0, 0)

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """Every object with its place; box corners lie on the token grid."""
        dx, dy = (CELL * cells for cells in self.jitter)
        (kind, colour), last = self.subjects[0], self.subjects[-1]
        if self.layout == "single":
            side = SIZES[self.size]
            x, y = (_anchor(direction, side) for direction in POSITIONS[self.position])
            return (Thing(kind, colour, x + dx, y + dy, side),)
        if self.layout == "count":
            return tuple(Thing(kind, colour, x + dx, y + dy, CROWD_SIZE) for x, y in CROWDS[self.count])
        middle = SIZE // 2
        places = ((NEAR, middle), (FAR, middle)) if self.layout == "beside" else ((middle, NEAR), (middle, FAR))
        return tuple(
            Thing(*subject, x + dx, y + dy, PAIR_SIZE)
            for subject, (x, y) in zip((self.subjects[0], last), places, strict=True)
        )


def _anchor(direction: int, side: int) -> int:
    """Centre in px along one axis: -1 at the near edge, 1 at the far one, 0 in the middle."""
    if direction == 0:
        # A box of an odd number of cells cannot be centred on the grid: half a cell right and down.
        return SIZE // 2 + (CELL // 2 if side // CELL % 2 else 0)
    inset = MARGIN + side // 2
    return inset if direction < 0 else SIZE - inset


def shows_heldout_pair(scene: Scene) -> bool:
    """True when a kind wears a colour it never wears in training."""
    return any(subject in HELDOUT_PAIRS for subject in scene.subjects)


def shows_heldout_relation(scene: Scene) -> bool:
    """True when two kinds meet that never meet in training."""
    return frozenset(kind for kind, _ in scene.subjects) in HELDOUT_RELATIONS


def is_heldout(scene: Scene) -> bool:
    """True when the scene must not be trained on."""
    return shows_heldout_pair(scene) or shows_heldout_relation(scene)


def meaning(scene: Scene) -> tuple[object, ...]:
    """Everything a caption can say of a scene: equal for two scenes that differ in unsaid choices only."""
    return (
        scene.backdrop,
        scene.style,
        scene.layout,
        scene.subjects,
        scene.position,
        scene.size,
        scene.count,
    )

"""Where the things of a scene lie on its page: boxes on the token grid, grounded, few different rows."""

from dataclasses import dataclass, replace
from typing import Literal

from amused_lite.training.storybook.kinds import KINDS
from amused_lite.training.storybook.places import PLACES, horizon
from amused_lite.training.storybook.scene import CELL, SIZES, Position, StoryScene

Footing = Literal["ground", "water", "air", "thing"]
ROOMY = 512  # px: a page of this side has room for rows of things and for every position
EXTRA_SIDE = 96
_ASIDE = 32  # px by which a back row is moved right and a front row left, so that they do not look stacked


@dataclass(frozen=True)
class PlacedThing:
    """A drawing in its box: upper left corner `x`, `y` and `side`, px of the page.

    What its lower edge meets is its `footing`; "thing" is the thing before it, which may be lower than its box.
    """

    kind: str
    colour: str | None
    x: int
    y: int
    side: int
    footing: Footing


def things(scene: StoryScene) -> tuple[PlacedThing, ...]:
    """Every thing of the scene, the farthest first; those of the clutter come before all others."""
    placed = _LAYOUTS[scene.layout](scene)
    moved = tuple(replace(thing, x=thing.x + CELL * scene.shift) for thing in placed)
    return tuple(PlacedThing(extra.kind, None, extra.x, extra.y, EXTRA_SIDE, "air") for extra in scene.clutter) + moved


def positions(place: str, side: int, canvas: int) -> tuple[Position, ...]:
    """The positions that differ clearly for a single thing of `side` px, the default first."""
    if side * 2 > canvas:
        return ("centre",)
    return ("centre", "left", "right", "top", "bottom") if PLACES[place].boundless else ("centre", "left", "right")


def footing(kind: str, place: str) -> Footing:
    """What things of this kind stand on in this place."""
    how = KINDS[kind].place
    if how == "flies" or PLACES[place].boundless:
        return "air"
    return "water" if how == "floats" else "ground"


def ground(page: int) -> int:
    """The row on which things stand, px from the top."""
    return page * 27 // 32 // CELL * CELL + (CELL if page < ROOMY else 0)


def pair_side(kind: str, page: int) -> int:
    """Side of the box of one of two things."""
    if page < ROOMY:
        return 96
    return 128 if KINDS[kind].size_class == "small" else 160


def _thing(scene: StoryScene, number: int, middle: int, side: int, lower: int | None = None) -> PlacedThing:
    """Subject `number` around column `middle`, at its natural height or with its lower edge at `lower`."""
    kind, colour = scene.subjects[number]
    on = footing(kind, scene.place)
    afloat = PLACES[scene.place].afloat
    if on == "water" and afloat:
        lower = max(afloat(scene.page), side + CELL)  # nearer where it would not fit below the upper edge
    elif lower is None:
        lower = ground(scene.page) if on != "air" else _aloft(scene, side) + side
    return PlacedThing(kind, colour, _snap(middle - side // 2), lower - side, side, on)


def _snap(corner: int) -> int:
    return round(corner / CELL) * CELL


def _aloft(scene: StoryScene, side: int) -> int:
    """Upper edge of a thing in the air: the middle of the sky, or of the paper."""
    if PLACES[scene.place].boundless:
        return _snap((scene.page - side) // 2)
    return max(CELL, (horizon(scene.page) - side) // 2 // CELL * CELL)


def _single(scene: StoryScene) -> tuple[PlacedThing, ...]:
    page, side = scene.page, SIZES[scene.size]
    edge = 32 if page >= ROOMY else CELL
    near, far = edge + side // 2, page - edge - side // 2
    middle = {"left": near, "right": far}.get(scene.position, page // 2)
    lower = {"top": edge + side, "bottom": page - edge}.get(scene.position)
    thing = _thing(scene, 0, middle, side, lower)
    if thing.footing == "ground":  # the nearer, the larger and the lower
        nearer = {"small": -CELL if page >= ROOMY else 0, "medium": 0, "big": CELL}[scene.size]
        thing = replace(thing, y=thing.y + nearer)
    return (thing,)


def _columns(page: int, many: int) -> tuple[int, ...]:
    """Middles of up to three columns, px."""
    apart = (page * 9 // 32 if page >= ROOMY else page // 4) // CELL * CELL
    beside = (apart, page - apart)
    return {0: (), 1: (page // 2,), 2: beside, 3: (page // 2 - 160, page // 2, page // 2 + 160)}[many]


def _pair(scene: StoryScene) -> tuple[PlacedThing, ...]:
    page = scene.page
    sides = [pair_side(kind, page) for kind in scene.kinds]
    middle = page // 2
    if scene.relation == "left of":
        return tuple(_thing(scene, number, x, sides[number]) for number, x in enumerate(_columns(page, 2)))
    if scene.relation == "above":
        edge = 32 if page >= ROOMY else CELL
        lower = page - edge if PLACES[scene.place].boundless else None
        return _thing(scene, 0, middle, sides[0], edge + sides[0]), _thing(scene, 1, middle, sides[1], lower)
    if scene.relation == "on":
        below = _thing(scene, 1, middle, 160 if page >= ROOMY else 128, ground(page) + CELL)
        above = _thing(scene, 0, middle, 128 if page >= ROOMY else 96, below.y)
        return below, replace(above, y=below.y - above.side, footing="thing")
    large, small, away = (224, 128, 3 * CELL) if page >= ROOMY else (160, 96, 2 * CELL)
    behind = _thing(scene, 0, middle - away, large, ground(page) - away + CELL)
    return behind, _thing(scene, 1, behind.x + large, small, ground(page) + CELL)


def _count(scene: StoryScene) -> tuple[PlacedThing, ...]:
    page, side = scene.page, 128 if scene.page >= ROOMY else 96
    if scene.count < (4 if page >= ROOMY else 3):
        return tuple(_thing(scene, 0, x, side) for x in _columns(page, scene.count))
    back, front = _rows(scene, side)
    aside = 0 if footing(scene.kinds[0], scene.place) == "air" else _ASIDE
    columns = _columns(page, 2)
    far = [page // 2] if scene.count == 3 else [x + aside for x in columns]
    spots = [(x, back) for x in far] + [(x - aside, front) for x in columns]
    return tuple(_thing(scene, 0, x, side, lower) for x, lower in spots)


def _rows(scene: StoryScene, side: int) -> tuple[int, int]:
    """Lower edges of two rows of one kind: on paper, in the air or on the ground."""
    if PLACES[scene.place].boundless:
        upper, lower = _columns(scene.page, 2)
        return upper + side // 2, lower + side // 2
    if footing(scene.kinds[0], scene.place) == "air":
        return CELL + side, 2 * (CELL + side)
    return _ground_rows(scene.page)


def _ground_rows(page: int) -> tuple[int, int]:
    """Lower edges of a back row and a front row on the ground."""
    return horizon(page) + 2 * CELL, page - 2 * CELL


def _group(scene: StoryScene) -> tuple[PlacedThing, ...]:
    """Flying things in a row in the sky, up to three others in a row on the ground, more in two rows."""
    page, side = scene.page, 128
    aloft = [number for number, kind in enumerate(scene.kinds) if KINDS[kind].place == "flies"]
    below = [number for number in range(len(scene.kinds)) if number not in aloft]
    back, front = (below[:-3], below[-3:]) if len(below) > 3 else ([], below)
    far, near = _ground_rows(page) if back else (0, ground(page))
    gaps = (page // 2 - 80, page // 2 + 80)  # of the front row, where the back row shows
    placed = [
        _thing(scene, n, x, side, 2 * CELL + side) for n, x in zip(aloft, _columns(page, len(aloft)), strict=True)
    ]
    placed += [_thing(scene, n, x, side, far) for n, x in zip(back, gaps[: len(back)], strict=True)]
    placed += [_thing(scene, n, x, side, near) for n, x in zip(front, _columns(page, len(front)), strict=True)]
    return tuple(placed)


_LAYOUTS = {"single": _single, "pair": _pair, "count": _count, "group": _group}

"""Which scenes there are: the endless stream that training reads, and what it never shows.

Every choice comes from `random.Random(text).random()`, whose values Python guarantees, so a scene is the same for ever.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from random import Random
from typing import Literal, NamedTuple

from amused_lite.training.scenes.chance import Option, mostly_first, pick
from amused_lite.training.storybook.kinds import HANDS, KINDS, available
from amused_lite.training.storybook.layout import EXTRA_SIDE, ROOMY, footing, positions, things
from amused_lite.training.storybook.places import PLACES, VARIANTS
from amused_lite.training.storybook.scene import (
    CELL,
    MARGIN,
    SIZES,
    SMALLEST,
    Extra,
    Layout,
    Position,
    Relation,
    StoryScene,
    suits,
)

Split = Literal["train", "all"]

LAYOUTS: dict[int, dict[Layout, float]] = {  # by canvas, px
    512: {"single": 0.42, "pair": 0.33, "count": 0.15, "group": 0.10},
    256: {"single": 0.62, "pair": 0.30, "count": 0.08},
    192: {"single": 1.0},
}
RELATION_CHANCES: dict[Relation, float] = {"left of": 0.4, "above": 0.2, "on": 0.2, "behind": 0.2}
MOSTLY = 0.6  # chance of the default of a choice that has one: a clear mode is what makes an unsaid choice learnable
COLOURED, CROPPED, CLUTTERED = 0.3, 0.12, 0.06
UNSEEN_HANDS, UNSEEN_COLOURS, UNSEEN_PAIRS = 0.08, 0.10, 0.10  # shares held out of training
NAMES = tuple(KINDS)
_PLACE_WEIGHTS = {"meadow": 2, "paper": 2, "sea": 3}  # the default, the only one with all positions, the one for fewest
_TRIES = 16  # with a relation, before it is given up: not every thing can stand on another
_WHOLE = 0.75  # share of each box that a crop leaves
# Hands that draw fewer things are chosen more often, so that each of their drawings is shown as often as any other.
_DRAWN = {hand: sum(hand in available(kind) for kind in NAMES) for hand in HANDS}
_HAND_WEIGHTS = {hand: round(4 * (len(NAMES) / many) ** 2) for hand, many in _DRAWN.items()}


class Arrangement(NamedTuple):
    """What a page shows before it has a place, see the fields of `StoryScene`."""

    layout: Layout
    kinds: tuple[str, ...]
    relation: Relation | None = None
    count: int = 1


def random_scene(seed: int, index: int, split: Split = "train", canvas: int = 512) -> StoryScene:
    """Scene number `index` of the stream `seed`, for a picture of `canvas` px, one of `CANVASES`.

    "train" never shows a held-out combination, "all" does not care. Streams share no random numbers. Every kind is as
    often the first of a scene as any other.
    """
    rng = Random(f"{split}/{canvas}/{seed}/{index}")
    chances = LAYOUTS[canvas]
    layout, first = pick(rng, tuple(chances), tuple(chances.values())), pick(rng, NAMES)
    while True:
        relation = pick(rng, tuple(RELATION_CHANCES), tuple(RELATION_CHANCES.values())) if layout == "pair" else None
        for _ in range(_TRIES):
            arrangement = _arrangement(rng, layout, first, relation)
            scene = compose(rng, arrangement, split, canvas) if arrangement else None
            if scene is not None and not (split == "train" and is_heldout(scene)):
                return _spoilt(rng, scene)


def is_heldout(scene: StoryScene) -> bool:
    """True when the scene must not be trained on."""
    return shows_unseen_hand(scene) or shows_unseen_colour(scene) or shows_unseen_pair(scene)


def shows_unseen_hand(scene: StoryScene) -> bool:
    """True when a thing is in a hand that training never shows it in."""
    return any(scene.hand == unseen_hand(kind) for kind in _all_kinds(scene))


def shows_unseen_colour(scene: StoryScene) -> bool:
    """True when a thing has a colour that training never shows it in."""
    return any(colour is not None and is_unseen_colour(kind, colour) for kind, colour in scene.subjects)


def shows_unseen_pair(scene: StoryScene) -> bool:
    """True when two kinds meet that never meet in training."""
    return any(is_unseen_pair(*pair) for pair in combinations(_all_kinds(scene), 2))


@cache
def unseen_hand(kind: str) -> str | None:
    """The hand that training never shows this kind in; at least two others are left to every kind."""
    hands = available(kind)
    chance = UNSEEN_HANDS * len(hands)
    return hands[int(_share(f"hand/{kind}") * len(hands) / chance)] if _share(f"hand/{kind}") < chance else None


@cache
def is_unseen_colour(kind: str, colour: str) -> bool:
    """Whether training never shows this kind in this colour."""
    return _share(f"colour/{kind}/{colour}") < UNSEEN_COLOURS


@cache
def is_unseen_pair(kind: str, other: str) -> bool:
    """Whether the two kinds never meet in training, in either order."""
    return _share("pair/" + "/".join(sorted((kind, other)))) < UNSEEN_PAIRS


def _share(text: str) -> float:
    """A fixed number from 0 to 1 for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _all_kinds(scene: StoryScene) -> tuple[str, ...]:
    return scene.kinds + tuple(extra.kind for extra in scene.clutter)


def hands_for(kinds: tuple[str, ...], seen: bool) -> tuple[str, ...]:
    """The hands that draw all these kinds, without those held out of training when `seen`."""
    first, *others = kinds
    return tuple(
        hand
        for hand in available(first)
        if all(hand in available(kind) for kind in others) and not (seen and any(hand == unseen_hand(k) for k in kinds))
    )


def _arrangement(rng: Random, layout: Layout, first: str, relation: Relation | None) -> Arrangement | None:
    """An arrangement that has `first`; None when a kind came twice."""
    kinds, count = (first,), 1
    if layout == "pair":
        kinds = (first, pick(rng, NAMES)) if rng.random() < 0.5 else (pick(rng, NAMES), first)
    elif layout == "count":
        count = pick(rng, (1, 2, 3, 4))
    elif layout == "group":
        kinds = (first, *(pick(rng, NAMES) for _ in range(pick(rng, (2, 3, 4), (0.5, 0.3, 0.2)))))
    return Arrangement(layout, kinds, relation, count) if len(set(kinds)) == len(kinds) else None


def compose(rng: Random, arrangement: Arrangement, split: Split, canvas: int) -> StoryScene | None:
    """A clean page with this arrangement somewhere, in some hand; None when no hand or no place has room for it."""
    layout, kinds, relation, count = arrangement
    hands = hands_for(kinds, seen=split == "train")
    places = [
        place for place in PLACES for _ in range(_PLACE_WEIGHTS.get(place, 1)) if fits(arrangement, place, canvas)
    ]
    if not hands or not places:
        return None
    hand, place = pick(rng, [hand for hand in hands for _ in range(_HAND_WEIGHTS[hand])]), pick(rng, places)
    size = _usual(rng, tuple(SIZES)) if layout == "single" and canvas > SMALLEST else "medium"
    return StoryScene(
        place=place,
        time=_usual(rng, PLACES[place].times),
        weather=_usual(rng, PLACES[place].weathers),
        hand=hand,
        layout=layout,
        subjects=tuple((kind, _colour(rng, kind, hand, split)) for kind in kinds),
        relation=relation,
        count=count,
        size=size,
        position=_position(rng, place, SIZES[size], canvas) if layout == "single" else "centre",
        variant=_usual(rng, range(VARIANTS)),
        shift=_usual(rng, (0, 1, -1)),
        canvas=canvas,
    )


def _position(rng: Random, place: str, side: int, canvas: int) -> Position:
    """Mostly the default, except on paper, where a thing is at any position equally often."""
    known = positions(place, side, canvas)
    return pick(rng, known) if PLACES[place].boundless else _usual(rng, known)


def fits(arrangement: Arrangement, place: str, canvas: int) -> bool:
    """Whether this place has room for these things in this arrangement."""
    layout, kinds, relation, count = arrangement
    there, ways = PLACES[place], tuple(KINDS[kind].place for kind in kinds)
    if relation == "on":
        return _can_stand_on(kinds[0], kinds[1], place)
    if not all(suits(kind, place) for kind in kinds):
        return False
    one_row = there.afloat is not None  # and so only one row of ground
    if relation == "above":
        return there.boundless or (ways[0] == "flies" and ways[1] != "flies" and not (one_row and ways[1] == "floats"))
    if relation == "behind":
        return KINDS[kinds[0]].size_class != "small" and "flies" not in ways and not (one_row and "floats" in ways)
    if layout == "count":
        in_rows = count >= (4 if canvas >= ROOMY else 3)
        return not in_rows or footing(kinds[0], place) == "air" or (canvas >= ROOMY and not one_row)
    if layout == "group":
        aloft = ways.count("flies")
        return aloft <= 3 and len(ways) - aloft <= (3 if one_row else 5)
    return True


def _can_stand_on(upper: str, lower: str, place: str) -> bool:
    """Whether a thing of the first kind can be shown on one of the second here."""
    above, below = KINDS[upper], KINDS[lower]
    if not suits(lower, place) or below.place == "flies" or below.size_class == "small":
        return False
    afloat = below.place == "floats"
    if afloat and PLACES[place].afloat:
        return False
    return above.place in ("stands", "lies") and above.size_class != "large" and (afloat or suits(upper, place))


def _usual(rng: Random, options: Sequence[Option]) -> Option:
    """The first option mostly, else one of the others where there are any."""
    return mostly_first(rng, options, MOSTLY) if len(options) > 1 else options[0]


def _colour(rng: Random, kind: str, hand: str, split: Split) -> str | None:
    """Another colour than its own for some of the things that may have one."""
    if rng.random() >= COLOURED:
        return None
    known = [
        colour
        for colour in KINDS[kind].colours
        if hand in available(kind, colour) and not (split == "train" and is_unseen_colour(kind, colour))
    ]
    return pick(rng, known) if known else None


def _spoilt(rng: Random, scene: StoryScene) -> StoryScene:
    """The scene, sometimes cropped from a larger page or cluttered with misplaced things."""
    chance = rng.random()
    if chance < CROPPED and scene.layout != "group" and scene.count <= 2:
        corners = _corners(replace(scene, crop=(0, 0)))
        return replace(scene, crop=pick(rng, corners)) if corners else scene
    if chance > 1 - CLUTTERED and scene.layout in ("single", "pair"):
        return replace(scene, clutter=_clutter(rng, scene))
    return scene


def _corners(scene: StoryScene) -> list[tuple[int, int]]:
    """The crops, (top, left) on the token grid, that leave most of each thing."""
    boxes, steps = things(scene), range(0, MARGIN + 1, CELL)

    def left_of(start: int, side: int, corner: int) -> float:
        return max(0, min(start + side, corner + scene.canvas) - max(start, corner)) / side

    return [
        (top, left)
        for top in steps
        for left in steps
        if all(left_of(box.y, box.side, top) * left_of(box.x, box.side, left) >= _WHOLE for box in boxes)
    ]


def _clutter(rng: Random, scene: StoryScene) -> tuple[Extra, ...]:
    cells = (scene.canvas - EXTRA_SIDE) // CELL + 1
    extras: list[Extra] = []
    for _ in range(pick(rng, (1, 2, 3, 4, 5))):
        kind, x, y = pick(rng, NAMES), CELL * int(rng.random() * cells), CELL * int(rng.random() * cells)
        known = (*scene.kinds, *(extra.kind for extra in extras))
        new = kind not in known and scene.hand in available(kind) and scene.hand != unseen_hand(kind)
        if new and not any(is_unseen_pair(kind, other) for other in known):
            extras.append(Extra(kind, x, y))
    return tuple(extras)

"""The fixed prompts that a model of the storybook is scored on."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from amused_lite.training.scenes.chance import pick
from amused_lite.training.storybook.captions import caption
from amused_lite.training.storybook.kinds import KINDS
from amused_lite.training.storybook.sampling import (
    NAMES,
    Arrangement,
    compose,
    is_heldout,
    shows_unseen_colour,
    shows_unseen_hand,
    shows_unseen_pair,
    unseen_hand,
)
from amused_lite.training.storybook.scene import RELATIONS, StoryScene

# How many prompts of each category. Training may show a scene that means the same as one of the seen categories unless
# it leaves out what `meaning` says of these; the unseen ones it never shows.
CATEGORIES = {"single": 300, "pair": 60, "unseen pair": 50, "count": 40, "unseen hand": 30, "unseen colour": 20}


@dataclass(frozen=True)
class StoryPrompt:
    """A prompt, what it asks for, and the line of the score it counts in, one of `CATEGORIES`.

    Hand, place, time and weather are scored over all of them.
    """

    prompt: str
    scene: StoryScene
    category: str


def heldout_prompts(canvas: int = 512) -> list[StoryPrompt]:
    """500 different prompts, the categories mixed evenly so that the first few are like the whole.

    "single" asks for 300 different things, relations and counts come equally often; all pages are whole and clean. On a
    small canvas there is no room for three or four things that stand.
    """
    order = sorted(((number + 0.5) / many, name, number) for name, many in CATEGORIES.items() for number in range(many))
    prompts: dict[str, StoryPrompt] = {}
    for _, category, number in order:
        rng = Random(f"prompt/{category}/{number}")
        while (said := _prompt(rng, category, number, canvas)).prompt in prompts:
            pass
        prompts[said.prompt] = said
    return list(prompts.values())


def _prompt(rng: Random, category: str, number: int, canvas: int) -> StoryPrompt:
    arrange, fits = _RULES[category]
    while True:
        scene = compose(rng, arrange(rng, number), "all", canvas)
        if scene is not None and fits(scene):
            return StoryPrompt(caption(scene, rng, always=True), scene, category)


def _shuffled() -> list[str]:
    rng = Random("prompt/kinds")
    return sorted(NAMES, key=lambda _: rng.random())


_SHUFFLED = _shuffled()
_UNSEEN_HAND = [kind for kind in NAMES if unseen_hand(kind) is not None]
_COLOURABLE = [kind for kind in NAMES if KINDS[kind].colours]


def _single(rng: Random, number: int) -> Arrangement:
    return Arrangement("single", (_SHUFFLED[number % len(_SHUFFLED)],))


def _pair(rng: Random, number: int) -> Arrangement:
    first = pick(rng, NAMES)
    other = pick(rng, [kind for kind in NAMES if kind != first])
    return Arrangement("pair", (first, other), RELATIONS[number % len(RELATIONS)])


def _count(rng: Random, number: int) -> Arrangement:
    return Arrangement("count", (pick(rng, NAMES),), count=1 + number % 4)


def _unseen_hand(rng: Random, number: int) -> Arrangement:
    return Arrangement("single", (pick(rng, _UNSEEN_HAND),))


def _unseen_colour(rng: Random, number: int) -> Arrangement:
    return Arrangement("single", (pick(rng, _COLOURABLE),))


def _seen(scene: StoryScene) -> bool:
    return not is_heldout(scene)


def _only(respect: Callable[[StoryScene], bool]) -> Callable[[StoryScene], bool]:
    """True of scenes that training never shows for this reason alone."""
    respects = (shows_unseen_hand, shows_unseen_colour, shows_unseen_pair)
    return lambda scene: all(other(scene) == (other is respect) for other in respects)


# How a category arranges a page, and which pages belong to it.
_RULES: dict[str, tuple[Callable[[Random, int], Arrangement], Callable[[StoryScene], bool]]] = {
    "single": (_single, _seen),
    "pair": (_pair, _seen),
    "unseen pair": (_pair, _only(shows_unseen_pair)),
    "count": (_count, _seen),
    "unseen hand": (_unseen_hand, _only(shows_unseen_hand)),
    "unseen colour": (_unseen_colour, _only(shows_unseen_colour)),
}

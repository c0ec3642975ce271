"""Which scenes there are: the endless training stream and the fixed held-out prompts.

Both are the same for ever: every choice comes from `random.Random(text).random()`, whose values Python guarantees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from amused_lite.training.scenes.captions import caption
from amused_lite.training.scenes.chance import mostly_first, pick
from amused_lite.training.scenes.scene import (
    BACKDROPS,
    COLOURS,
    CROWDS,
    KINDS,
    POSITIONS,
    SIZES,
    STYLES,
    VARIANTS,
    Layout,
    Scene,
    is_heldout,
    shows_heldout_pair,
    shows_heldout_relation,
)

Split = Literal["train", "heldout", "all"]

LAYOUTS: dict[Layout, float] = {"single": 0.45, "beside": 0.175, "stacked": 0.175, "count": 0.20}
MOSTLY = 0.6  # chance of the default of a choice that has one: a clear mode is what makes an unsaid choice learnable
STYLE_CHANCES = (0.76, 0.12, 0.12)


@dataclass(frozen=True)
class HeldoutPrompt:
    """A prompt no training index has, what it asks for, and the line of the score it counts in."""

    prompt: str
    scene: Scene
    category: str


def random_scene(seed: int, index: int, split: Split = "train") -> Scene:
    """Scene number `index` of the stream `seed`.

    "train" never shows a held-out combination, "heldout" always shows one, "all" does not care. The three streams share
    no random numbers.
    """
    rng = Random(f"{seed}/{index}" if split == "train" else f"{split}/{seed}/{index}")
    while True:
        scene = _draw_scene(rng)
        if split == "all" or is_heldout(scene) == (split == "heldout"):
            return scene


def heldout_prompts(count: int = 300, seed: int = 0) -> list[HeldoutPrompt]:
    """`count` prompts in a fixed mix of five categories, from a stream training never reads.

    Categories: "single" (seen kind-colour pair), "unseen single", "pair" (two different things), "unseen pair" (two
    kinds that never met in training, in seen colours) and "count". The backdrop is always said.
    """
    names = [name for name, (share, _) in _CATEGORIES.items() for _ in range(share)]
    return [_heldout_prompt(names[index % len(names)], f"prompt/{seed}/{index}") for index in range(count)]


def _heldout_prompt(category: str, key: str) -> HeldoutPrompt:
    rng = Random(key)
    fits = _CATEGORIES[category][1]
    while not fits(scene := _draw_scene(rng)):
        pass
    return HeldoutPrompt(caption(scene, rng, always_backdrop=True), scene, category)


# Share in twentieths, and which scenes belong.
_CATEGORIES: dict[str, tuple[int, Callable[[Scene], bool]]] = {
    "single": (6, lambda scene: scene.layout == "single" and not is_heldout(scene)),
    "unseen single": (4, lambda scene: scene.layout == "single" and is_heldout(scene)),
    "pair": (5, lambda scene: scene.layout in ("beside", "stacked") and not is_heldout(scene)),
    "unseen pair": (2, lambda scene: shows_heldout_relation(scene) and not shows_heldout_pair(scene)),
    "count": (3, lambda scene: scene.layout == "count" and not is_heldout(scene)),
}


def _draw_scene(rng: Random) -> Scene:
    layout = pick(rng, tuple(LAYOUTS), tuple(LAYOUTS.values()))
    common = {
        "backdrop": pick(rng, BACKDROPS),
        "style": pick(rng, STYLES, STYLE_CHANCES),
        "layout": layout,
        "variant": mostly_first(rng, range(VARIANTS), MOSTLY),
        "jitter": mostly_first(rng, ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)), MOSTLY),
    }
    first = (pick(rng, KINDS), pick(rng, tuple(COLOURS)))
    if layout == "single":
        position = mostly_first(rng, tuple(POSITIONS), MOSTLY)
        return Scene(**common, subjects=(first,), position=position, size=mostly_first(rng, tuple(SIZES), MOSTLY))
    if layout == "count":
        return Scene(**common, subjects=(first,), count=pick(rng, tuple(CROWDS)))
    other = pick(rng, tuple(kind for kind in KINDS if kind != first[0]))
    return Scene(**common, subjects=(first, (other, pick(rng, tuple(COLOURS)))))

"""The words that a model knows, for the page to offer: those that its training's captions are made of."""

import tomllib
from pathlib import Path
from typing import Any

import amused_lite.training

# The training's own lists are in packages that need its extra to draw; tests hold these to them.
_SCENES = {
    "Things": ("balloon", "house", "tree", "star", "heart", "boat", "car", "fish", "flower", "mushroom", "cup", "moon"),
    "Colours": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "Places": ("in a meadow", "by the sea", "in the desert", "in the snow", "at night", "at sunset"),
    "Looks": ("cartoon style", "paper cut-out"),
    "Sizes": ("small", "big"),
    "Where": ("left of", "right of", "above", "below", "in the middle", "on the left", "on the right", "at the top"),
}
_STORYBOOK = {
    "Colours": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"),
    "Looks": ("flat drawing", "shaded drawing", "rounded drawing", "soft cartoon", "ink drawing"),
    "When": ("by day", "at dusk", "at night", "in the rain", "in falling snow", "in the fog"),
    "Where": ("left of", "right of", "above", "below", "on top of", "behind", "in front of"),
}
_SCENES_EXAMPLES = (
    "a red balloon above a blue house",
    "a boat at sea at sunset, paper cut-out",
    "three yellow stars at night",
    "a pink flower left of a green tree",
)
_STORYBOOK_EXAMPLES = (
    "a fox in the snow at dusk",
    "two owls in a forest at night",
    "a red umbrella on the beach",
    "a cat behind a pumpkin in a meadow",
)


def vocabulary(preset: str) -> dict[str, Any]:
    """`words` in groups and `examples` of a model of this preset; none of a model that was trained elsewhere."""
    if preset == "tiny":
        return {"words": _SCENES, "examples": _SCENES_EXAMPLES}
    if preset == "storybook":
        return {"words": _storybook_things() | _STORYBOOK, "examples": _STORYBOOK_EXAMPLES}
    return {"words": {}, "examples": ()}


def _storybook_things() -> dict[str, tuple[str, ...]]:
    listed = Path(amused_lite.training.__file__).parent / "storybook" / "kinds.toml"
    groups = tomllib.loads(listed.read_text(encoding="utf-8"))
    return {group.capitalize(): tuple(kinds) for group, kinds in groups.items()}

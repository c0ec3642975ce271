"""Captioned vector scenes: what the bundled model learns from, drawn on the fly and the same for ever."""

from amused_lite.training.scenes.captions import caption, hard_negatives
from amused_lite.training.scenes.draw import draw, draw_things
from amused_lite.training.scenes.looks import random_look
from amused_lite.training.scenes.sampling import HeldoutPrompt, heldout_prompts, random_scene
from amused_lite.training.scenes.scene import (
    BACKDROPS,
    CELL,
    COLOURS,
    HELDOUT_PAIRS,
    HELDOUT_RELATIONS,
    KINDS,
    SIZE,
    STYLES,
    VARIANTS,
    Scene,
    Thing,
    is_heldout,
    meaning,
)
from amused_lite.training.scenes.style_looks import COLOURLESS, STYLE_LOOKS, style_look
from amused_lite.training.scenes.unseen_looks import UNSEEN_LOOKS, unseen_look

__all__ = [
    "BACKDROPS",
    "CELL",
    "COLOURLESS",
    "COLOURS",
    "HELDOUT_PAIRS",
    "HELDOUT_RELATIONS",
    "KINDS",
    "SIZE",
    "STYLES",
    "STYLE_LOOKS",
    "UNSEEN_LOOKS",
    "VARIANTS",
    "HeldoutPrompt",
    "Scene",
    "Thing",
    "caption",
    "draw",
    "draw_things",
    "hard_negatives",
    "heldout_prompts",
    "is_heldout",
    "meaning",
    "random_look",
    "random_scene",
    "style_look",
    "unseen_look",
]

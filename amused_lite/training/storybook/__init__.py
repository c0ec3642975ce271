"""The storybook world: hundreds of named things, drawn by five hands whose drawings are fetched and never committed."""

from .captions import caption, hard_negatives
from .draw import draw
from .prompts import heldout_prompts
from .sampling import random_scene
from .scene import Scene, meaning, micro

__all__ = ["Scene", "caption", "draw", "hard_negatives", "heldout_prompts", "meaning", "micro", "random_scene"]

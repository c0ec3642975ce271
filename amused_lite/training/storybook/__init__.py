"""The storybook world: hundreds of named things, drawn by five hands whose drawings are fetched and never committed."""

from amused_lite.training.storybook.captions import caption, hard_negatives
from amused_lite.training.storybook.draw import draw
from amused_lite.training.storybook.prompts import heldout_prompts
from amused_lite.training.storybook.sampling import random_scene
from amused_lite.training.storybook.scene import StoryScene, meaning, micro

__all__ = ["StoryScene", "caption", "draw", "hard_negatives", "heldout_prompts", "meaning", "micro", "random_scene"]

"""Verify a recipe: draw its picture again and compare tokens and pixels. Knows no files and no engine."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from amused_lite import __version__
from amused_lite.files.png import Recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.task import Task

ROUNDING = 1  # grey levels: float32 sums in another order may round a pixel to the neighbouring value


@dataclass(frozen=True)
class Verification:
    """What came out when a picture was made again."""

    tokens: int  # how many there are
    differing: int  # how many of the recorded ones are not those that were drawn
    psnr: float | None  # dB between the picture and the one made again, infinite where equal; None where not compared
    pixels_equal: bool | None  # up to `ROUNDING`; None where not compared
    other_model: str = ""  # the hash that the recipe names, where it is not this model's
    other_adapters: str = ""  # those that the recipe names, "none" included, where they are not those in use
    other_runtime: str = ""  # likewise
    other_version: str = ""

    @property
    def identical(self) -> bool:
        """Whether the recipe is the picture's, as far as can be seen."""
        same_weights = not (self.other_model or self.other_adapters)
        return self.differing == 0 and self.pixels_equal is not False and same_weights

    @property
    def tampered(self) -> bool:
        """Whether recipe or picture were changed: they differ, and nothing else explains it."""
        other_weights = self.other_model or self.other_adapters
        explained = other_weights or (self.differing and (self.other_runtime or self.other_version))
        return not self.identical and not explained


def verify(amused: AmusedPipeline, recipe: Recipe, image: Image.Image | None = None) -> Verification:
    """Make a recipe's picture again and compare its tokens, and its pixels with `image` where that is given.

    Pixels of an edit that was laid into an earlier picture are not compared: its recipe holds that picture's tokens,
    not its pixels.

    Raises:
        ValueError: the recipe holds settings that are out of range, or is of a model of another size.
    """
    codes = amused.runtime.config.uvit.codebook_size
    if recipe.codebook_size != codes:
        other = f"a model with {recipe.codebook_size} codes, this one has {codes}"
        raise ValueError(f"the recipe is of {other}; name the model that made it with -m")
    *_, last = amused.steps(Task.from_recipe(recipe))
    drawn = last.picture_tokens
    adapters = amused.info.adapter_labels
    psnr, pixels_equal = None, None
    if image is not None and _is_decoded(amused, recipe):
        psnr, pixels_equal = compare_pixels(image, amused.decode(drawn))
    return Verification(
        tokens=len(drawn),
        differing=int((drawn != recipe.tokens).sum()) if drawn.shape == recipe.tokens.shape else len(drawn),
        psnr=psnr,
        pixels_equal=pixels_equal,
        other_model=recipe.model_hash if recipe.model_hash != amused.info.model_hash else "",
        other_adapters=", ".join(recipe.adapters) or "none" if recipe.adapters != adapters else "",
        other_runtime=recipe.runtime if recipe.runtime != amused.runtime.name else "",
        other_version=recipe.version if recipe.version != __version__ else "",
    )


def _is_decoded(amused: AmusedPipeline, recipe: Recipe) -> bool:
    """Whether a picture is its tokens decoded and nothing else."""
    if recipe.edit is None:
        return True
    settings = recipe.edit.settings
    return settings.get("box") == [0, 0, amused.runtime.config.image_size] and not settings.get("paste")


def compare_pixels(image: Image.Image, other: Image.Image) -> tuple[float, bool]:
    """Peak signal-to-noise ratio in dB, and whether no value differs by more than `ROUNDING`; -inf for other sizes."""
    if image.size != other.size:
        return -math.inf, False
    difference = np.asarray(image.convert("RGB"), np.float32) - np.asarray(other.convert("RGB"), np.float32)
    error = float(np.square(difference).mean())
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return psnr, bool(np.abs(difference).max() <= ROUNDING)

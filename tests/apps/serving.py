"""What a running server is, and pictures to compare its own with. For the tests that talk HTTP."""

import base64
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from amused_lite.files.images import open_picture
from amused_lite.files.png import Recipe
from amused_lite.pipeline import AmusedPipeline, Picture


@dataclass
class Server:
    """A server that is up."""

    process: subprocess.Popen[str]
    url: str
    token: str
    folder: Path  # where it was started, with its home inside

    def written(self) -> list[str]:
        """Every file below the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def memory(self) -> float:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


Start = Callable[..., Server]


@cache
def alone(prompt: str, seed: int, steps: int, image_index: int = 0) -> Picture:
    """The picture as the library draws it, with no server anywhere."""
    return _amused().generate(prompt, seed=seed, steps=steps, image_index=image_index)


def own_guidance() -> float:
    """The model's own guidance scale, for clients that always send one."""
    return _amused().runtime.config.guidance_scale


@cache
def _amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", threads=1, keep_loaded=True)


def png(image: Image.Image) -> bytes:
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def recipe_in(data: bytes | str) -> Recipe:
    """The recipe inside a PNG file's bytes, or base64 of them."""
    data = base64.b64decode(data, validate=True) if isinstance(data, str) else data
    recipe = open_picture(BytesIO(data)).recipe
    assert recipe is not None
    return recipe


def is_alone(data: bytes | str, prompt: str, seed: int, steps: int, image_index: int = 0) -> bool:
    """Whether a PNG file is exactly the picture that the library draws for this, and says so."""
    recipe, mine = recipe_in(data), alone(prompt, seed, steps, image_index).recipe
    said = (recipe.prompt, recipe.seed, recipe.steps, recipe.picture) == (prompt, seed, steps, image_index)
    return said and np.array_equal(recipe.tokens, mine.tokens)


def half_mask(size: tuple[int, int] = (512, 512)) -> Image.Image:
    """White on the left half."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask

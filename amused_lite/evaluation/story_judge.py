"""The judge of the storybook: which things a picture shows, drawn by which hand, and which page they are on.

As the judge of the scenes (`judge.py`) it shares nothing with the generator and learns from fresh renders alone
(`story_lessons.py`). Things are looked for in the picture at half its size, where a token is 8 px wide; place, time of
day and weather are read from the picture in 128 x 128.
"""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from amused_lite.evaluation.judge import Residual, convolution, load_weights, middle
from amused_lite.training.storybook.kinds import COLOURS, HANDS, KINDS
from amused_lite.training.storybook.places import PLACES, TIMES, WEATHERS

PAGE = 128  # px: what the page is read from
STRIDE = 16  # px of the picture per cell of the heads
SAME_THING = 56  # px: two centres nearer than this are one thing; the smallest box is 96 wide
CONFIDENT = 0.3
OWN = "own"  # colour of a drawing as it came
HEADS = {"kind": tuple(KINDS), "hand": HANDS, "colour": (OWN, *COLOURS)}  # of each cell, beside its centre
PAGE_HEADS = {"place": tuple(PLACES), "time": TIMES, "weather": WEATHERS}


@dataclass(frozen=True)
class FoundThing:
    """A thing that is seen: centre `x`, `y` in px of the picture, `confidence` 0...1."""

    kind: str
    hand: str
    colour: str
    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class PageDetection:
    """What a picture shows; things by falling confidence."""

    place: str
    time: str
    weather: str
    things: tuple[FoundThing, ...]


class StoryDetector(nn.Module):
    """Pixels (B, 3, H, W), 0...1, sides divisible by 16, to logits per cell of 8 px and for the whole page."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(3, width // 3, stride=2),
            convolution(width // 3, width * 2 // 3, stride=2),
            convolution(width * 2 // 3, width, stride=2),
            Residual(width),
        )
        self.deep = nn.Sequential(
            convolution(width, 2 * width, stride=2), Residual(2 * width), Residual(2 * width), Residual(2 * width)
        )
        self.lateral = nn.Sequential(nn.Conv2d(3 * width, 2 * width, 1), nn.ReLU())
        self.heads = nn.Conv2d(2 * width, 1 + sum(map(len, HEADS.values())), 1)
        self.page = nn.Linear(2 * width, sum(map(len, PAGE_HEADS.values())))

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of centre (B, H/8, W/8), and by name those of `HEADS` (B, n, H/8, W/8) and `PAGE_HEADS` (B, n)."""
        near = self.stem(pixels - 0.5)
        far = self.deep(near)
        both = self.lateral(torch.cat([near, functional.interpolate(far, scale_factor=2)], 1))
        centre, *cells = self.heads(both).split([1, *map(len, HEADS.values())], 1)
        pages = self.page(far.mean((2, 3))).split([*map(len, PAGE_HEADS.values())], 1)
        return centre[:, 0], dict(zip(HEADS, cells, strict=True)) | dict(zip(PAGE_HEADS, pages, strict=True))


class StoryJudge:
    """A trained detector with its reading of pictures."""

    def __init__(self, detector: StoryDetector) -> None:
        self.detector = detector.eval()

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it is no judge of the storybook.
        """
        detector = StoryDetector()
        load_weights(detector, Path(path))
        return cls(detector)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the weights as safetensors."""
        save_file(self.detector.state_dict(), path)

    def detect(self, picture: Image.Image | npt.NDArray[np.uint8]) -> PageDetection:
        """What `picture` (256 or 512 px square, RGB) shows; ValueError for other shapes."""
        image = picture.convert("RGB") if isinstance(picture, Image.Image) else Image.fromarray(picture)
        if image.width != image.height or image.width % 32 or image.width < 2 * PAGE:
            raise ValueError(f"got a picture of {image.size}, expected a square one of 256 or 512 px")
        with torch.inference_mode():
            centre, cells = self.detector(to_pixels([np.array(image.reduce(2))]))
            page = cells
            if image.width != 2 * PAGE:
                page = self.detector(to_pixels([np.array(image.reduce(image.width // PAGE))]))[1]
        said = {name: choices[int(page[name][0].argmax())] for name, choices in PAGE_HEADS.items()}
        likely = {name: cells[name][0].softmax(0).numpy() for name in HEADS}
        return PageDetection(**said, things=_read(centre[0].sigmoid().numpy(), likely))

    def features(self, pixels: Tensor) -> Tensor:
        """What the page is read from: pixels (B, 3, 128, 128), 0...1 -> (B, C)."""
        return self.detector.deep(self.detector.stem(pixels - 0.5)).mean((2, 3))


def to_pixels(pictures: list[npt.NDArray[np.uint8]]) -> Tensor:
    """Pictures (H, W, 3) as the detector takes them: (B, 3, H, W), 0...1."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return pixels.contiguous(memory_format=torch.channels_last)


def _read(centre: np.ndarray, likely: dict[str, np.ndarray]) -> tuple[FoundThing, ...]:
    """Peaks of `centre`, strongest first; weaker ones within `SAME_THING` of a stronger one are dropped."""
    found: list[FoundThing] = []
    for cell in np.argsort(-centre, axis=None):
        row, column = np.unravel_index(cell, centre.shape)
        if centre[row, column] < CONFIDENT:
            break
        across, down = (STRIDE * place for place in middle(centre, int(row), int(column)))
        if all(np.hypot(across - thing.x, down - thing.y) >= SAME_THING for thing in found):
            names = {name: HEADS[name][int(chances[:, row, column].argmax())] for name, chances in likely.items()}
            confidence = float(centre[row, column] * likely["kind"][:, row, column].max())
            found.append(FoundThing(**names, x=across, y=down, confidence=confidence))
    return tuple(sorted(found, key=lambda thing: -thing.confidence))

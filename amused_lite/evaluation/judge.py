"""The judge: a small convolutional detector that says which things, in which colours, a picture shows.

It shares no weights or data with the generator: it never sees captions or tokens, and learns from fresh renders alone
(`judge_training.py`), all kind-colour pairs among them. Pictures are looked at in 128 x 128.
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

from amused_lite.files.safetensors import open_tensors
from amused_lite.models.networks import check_shapes
from amused_lite.training.scenes import BACKDROPS, COLOURS, KINDS, SIZE

INPUT = 128  # px
GRID = 16  # cells along a side of the heads
STRIDE = SIZE // GRID  # px of a 512 px picture per cell
# Two centres nearer than this (px of a 512 px picture) are one thing: the smallest thing of the scenes is 112 wide.
SAME_THING = 72
CONFIDENT = 0.3
_REMEDY = "give a judge's weights, or leave --judge out"


@dataclass(frozen=True)
class Found:
    """A thing that is seen: centre `x`, `y` in px of a 512 px picture, `confidence` 0…1."""

    kind: str
    colour: str
    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class Detection:
    """What a picture shows; things by falling confidence."""

    backdrop: str
    things: tuple[Found, ...]


class Detector(nn.Module):
    """Pixels (B, 3, 128, 128), 0…1, to heads per cell and backdrop logits."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(3, width // 2, stride=2),
            convolution(width // 2, width, stride=2),
            convolution(width, width, stride=2),
            Residual(width),
        )
        self.deep = nn.Sequential(
            convolution(width, 2 * width, stride=2), Residual(2 * width), Residual(2 * width), Residual(2 * width)
        )
        self.lateral = convolution(3 * width, width)
        self.heads = nn.Conv2d(width, 1 + len(KINDS) + len(COLOURS), 1)
        self.backdrop = nn.Linear(2 * width, len(BACKDROPS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of centre (B, 1, 16, 16), kind (B, 12, 16, 16), colour (B, 8, 16, 16) and backdrop (B, 6)."""
        near = self.stem(pixels - 0.5)
        far = self.deep(near)
        both = self.lateral(torch.cat([near, functional.interpolate(far, scale_factor=2)], 1))
        centre, kind, colour = self.heads(both).split([1, len(KINDS), len(COLOURS)], 1)
        return centre, kind, colour, self.backdrop(far.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.body(x)))


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge:
    """A trained detector with its reading of pictures."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector.eval()

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote; FileNotFoundError with the remedy when there is no such file."""
        detector = Detector()
        load_weights(detector, Path(path))
        return cls(detector)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the weights as safetensors."""
        save_file(self.detector.state_dict(), path)

    def detect(self, picture: Image.Image | npt.NDArray[np.uint8]) -> Detection:
        """What `picture` shows: an image of any square size, or uint8 (S, S, 3), RGB; ValueError for other shapes."""
        pixels = torch.from_numpy(shrink(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            centre, kind, colour, backdrop = self.detector(pixels)
        things = _read(centre[0, 0].sigmoid().numpy(), kind[0].softmax(0).numpy(), colour[0].softmax(0).numpy())
        return Detection(BACKDROPS[int(backdrop[0].argmax())], things)


def load_weights(detector: nn.Module, path: Path) -> None:
    """Read a detector's weights.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds something else.
    """
    try:
        weights = {name: torch.tensor(array) for name, array in open_tensors(path).read().items()}
    except FileNotFoundError:
        raise FileNotFoundError(f"no judge at {path}: train one with train_judge(path=path)") from None
    expected = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    check_shapes(expected, {name: tuple(value.shape) for name, value in weights.items()}, str(path), _REMEDY)
    if wrong := next((name for name, value in weights.items() if not value.isfinite().all()), None):
        raise ValueError(f"{path}: {wrong} holds nan or infinity, expected numbers; {_REMEDY}")
    detector.load_state_dict(weights)


def shrink(picture: Image.Image | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture as the detector sees it, by area averaging: uint8 (128, 128, 3)."""
    image = picture.convert("RGB") if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if image.mode != "RGB" or image.width != image.height:
        raise ValueError(f"got a picture of {image.size} in mode {image.mode}, expected a square one in RGB")
    return np.array(image.resize((INPUT, INPUT), Image.Resampling.BOX))


def _read(centre: np.ndarray, kind: np.ndarray, colour: np.ndarray) -> tuple[Found, ...]:
    """Peaks of `centre` (16, 16), strongest first; weaker ones within `SAME_THING` of a stronger one are dropped."""
    found: list[Found] = []
    for cell in np.argsort(-centre, axis=None):
        row, column = divmod(int(cell), GRID)
        if centre[row, column] < CONFIDENT:
            break
        x, y = (STRIDE * place for place in middle(centre, row, column))
        if any(np.hypot(x - thing.x, y - thing.y) < SAME_THING for thing in found):
            continue
        kinds, colours = kind[:, row, column], colour[:, row, column]
        confidence = float(centre[row, column] * kinds.max() * colours.max())
        if confidence >= CONFIDENT:
            names = KINDS[int(kinds.argmax())], tuple(COLOURS)[int(colours.argmax())]
            found.append(Found(*names, x, y, confidence))
    return tuple(sorted(found, key=lambda thing: -thing.confidence))


def middle(centre: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """The peak to less than a cell, in cells from the left and the top: the weighted mean of the 3 x 3 around it."""
    rows = slice(max(row - 1, 0), row + 2)
    columns = slice(max(column - 1, 0), column + 2)
    weights = centre[rows, columns]
    down, across = np.mgrid[rows, columns][:, : weights.shape[0], : weights.shape[1]]
    total = weights.sum()
    return float((weights * (across + 0.5)).sum() / total), float((weights * (down + 0.5)).sum() / total)

"""Open pictures and masks of any format safely: upright, 8 bits, without transparency. Knows no model.

The header is checked before anything is decoded, so that no file can make this program fill the memory.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from amused_lite.files.png import KEY, Recipe
from amused_lite.reading import named_error

MAX_PIXELS = 64 * 2**20  # 192 MB of RGB; the largest phone pictures that are not made of several have 50 million
MAX_SIDE = 16_384  # px
MIN_SIDE = 16  # px, one token of the published models
Pixels: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3), RGB
_PROGRAMS = ("EPS",)  # Pillow would have Ghostscript run them


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A picture to start from."""

    image: Image.Image  # RGB
    recipe: Recipe | None = None  # what made it, if this program did
    alpha: Image.Image | None = None  # L, where parts of it are see-through
    notes: tuple[str, ...] = ()  # what its owner should know was done to it


def open_picture(path: str | Path | BytesIO) -> SourceImage:
    """Read a picture, a file or its bytes, of any format that Pillow reads; see-through parts come to lie on white.

    A recipe inside a PNG comes along, unless it cannot be read, which is noted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, damaged, too large or too small.
    """
    image, notes = _open(path)
    recipe = None
    text = image.info.get(KEY)
    if text is not None:
        try:
            recipe = Recipe.from_json(str(text))
        except ValueError as error:
            notes.append(f"its recipe is not used: {error}")
    image = _to_8_bits(_upright(image))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
        else:
            notes.append("its see-through parts were laid on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return SourceImage(image.convert("RGB"), recipe, alpha, tuple(notes))


def open_mask(path: str | Path | BytesIO) -> Image.Image:
    """Read a painted mask as mode L, white where something is meant; see-through parts count as black.

    Raises:
        FileNotFoundError, ValueError: see `open_picture`.
    """
    image = _to_8_bits(_upright(_open(path)[0]))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB").convert("L")  # some kinds of colours know no way to grey


def to_area(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A mask of any size -> bool (H, W) for a picture of `size` (W, H): what is at least half white.

    Raises:
        ValueError: nothing or everything is marked.
    """
    stretched = mask.convert("L")
    if stretched.size != size:
        stretched = stretched.resize(size, Image.Resampling.BOX)
    area = np.asarray(stretched) >= 128
    if not area.any():
        raise ValueError("the mask marks nothing; paint white what is meant and leave the rest black")
    if area.all():
        raise ValueError("the mask marks the whole picture; leave black what is to stay")
    return area


def _open(file: str | Path | BytesIO) -> tuple[Image.Image, list[str]]:
    """The decoded picture as it is stored, its first frame, and notes."""
    path = "the picture" if isinstance(file, BytesIO) else Path(file)
    if isinstance(path, Path) and path.is_dir():
        raise ValueError(f"{path} is a folder; give a picture")
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a plain file; give a picture")
    Image.init()
    formats = [name for name in Image.OPEN if name not in _PROGRAMS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, and of small faults that Pillow puts up with
        try:
            image = Image.open(file, formats=formats)
        except UnidentifiedImageError as error:
            raise ValueError(f"{path} is no picture that can be read; give a PNG, JPEG, WebP or another") from error
        except Image.DecompressionBombError as error:
            raise ValueError(_too_large(path, "far too many px")) from error
        except Exception as error:
            if isinstance(error, MemoryError):
                raise  # the machine's fault, not the file's
            if isinstance(error, OSError) and error.errno is not None:  # the file system's
                raise named_error(error, path) from error
            raise ValueError(_damaged(path, error)) from error
        with image:
            _check_size(path, image)
            notes = []
            if getattr(image, "is_animated", False) and image.format != "MPO":  # these hold a second view
                notes.append("it is animated; only the first frame is used")
            try:
                image.load()
            except MemoryError:
                raise
            except Exception as error:  # Pillow's decoders raise whatever a damaged file trips them over
                raise ValueError(_damaged(path, error)) from error
    _check_size(path, image)  # again: an icon's directory may say less than its picture
    return image, notes


def _check_size(path: Path | str, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(_too_large(path, f"{width}x{height} px"))
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{path} has {width}x{height} px, at least {MIN_SIDE} a side are needed; give a larger one")


def _too_large(path: Path | str, size: str) -> str:
    most = f"at most {MAX_PIXELS // 10**6} million px and {MAX_SIDE} a side are read"
    return f"{path} has {size}; {most}, make it smaller first"


def _damaged(path: Path | str, error: Exception) -> str:
    return f"{path} is damaged or cut short ({str(error) or type(error).__name__}); get it again"


def _upright(image: Image.Image) -> Image.Image:
    """As the camera's orientation tag says; a tag that cannot be read says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever a damaged tag trips Pillow over
        return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating point as L: 65535 becomes white, and so does 1.0 where nothing is brighter."""
    if image.mode.startswith("I;16"):
        values: Any = np.asarray(image) >> 8
    elif image.mode == "I":
        values = np.asarray(image).clip(0, 65535) >> 8
    elif image.mode == "F":
        numbers = np.nan_to_num(np.asarray(image))
        values = numbers.clip(0, 1) * 255 if numbers.max() <= 1 else numbers.clip(0, 255)
    else:
        return image
    return Image.fromarray(values.astype(np.uint8))

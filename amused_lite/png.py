"""Pictures as PNG files that remember how they were made. Knows no runtime and no model files.

Two texts go into a file: `parameters`, the line that AUTOMATIC1111's web interface started and most tools read, and
`amused_lite`, versioned JSON with everything needed to make the picture again, its tokens included.
"""

import base64
import binascii
import errno
import itertools
import json
import os
import secrets
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from amused_lite import __version__

SCHEMA = 1
KEY = "amused_lite"


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything that made a picture."""

    prompt: str
    negative_prompt: str
    seed: int
    picture: int  # number of the picture within its seed
    steps: int
    guidance_scale: float
    mask_temperature: tuple[float, float]
    token_temperature: float
    micro_conditioning: tuple[float, ...]  # width, height, crop_top, crop_left, aesthetic_score
    width: int  # pixels
    height: int
    model: str
    model_hash: str
    runtime: str
    codebook_size: int
    tokens: np.ndarray  # (N,) integers below codebook_size
    version: str = __version__

    def parameters(self) -> str:
        """The A1111 text: prompt, negative prompt, and one line of settings."""
        settings = {
            "Steps": self.steps,
            "Sampler": "amused",
            "CFG scale": f"{self.guidance_scale:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model hash": self.model_hash[:10],
            "Model": self.model if "," not in self.model else json.dumps(self.model),
            "Version": f"amused-lite {self.version}",
        }
        negative = [f"Negative prompt: {self.negative_prompt}"] if self.negative_prompt else []
        return "\n".join([self.prompt, *negative, ", ".join(f"{key}: {value}" for key, value in settings.items())])

    def to_json(self) -> str:
        """As JSON text; tokens as base64 of their bits, most significant first."""
        values = asdict(self)
        values["tokens"] = _pack(self.tokens, self.codebook_size)
        return json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The inverse of `to_json`.

        Raises:
            ValueError: the text is of another schema or not whole.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            schema = values.pop("schema")
            if schema != SCHEMA:
                raise ValueError(f"recipe schema {schema!r}, this version reads {SCHEMA}; update amused-lite")
            values["tokens"] = _unpack(values["tokens"], int(values["codebook_size"]))
            for name in ("mask_temperature", "micro_conditioning"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError, binascii.Error) as error:
            raise ValueError(f"the recipe is not whole ({type(error).__name__}: {error})") from error


def save_png(image: Image.Image, path: str | Path, recipe: Recipe, metadata: bool = True) -> Path:
    """Write a PNG and return where: never over another file, numbered instead (`cat.png`, `cat-2.png`, ...).

    The file appears under its name when it is complete: a full disk or an interruption leaves nothing behind.

    Args:
        image: the picture.
        path: ends in .png; missing folders are made.
        recipe: what goes into the file's texts.
        metadata: False leaves both texts out.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    texts = PngImagePlugin.PngInfo()
    if metadata:
        texts.add_text("parameters", recipe.parameters())  # tEXt where Latin-1 can hold it, else iTXt
        texts.add_itxt(KEY, recipe.to_json())
    data = BytesIO()
    image.copy().save(data, "PNG", pnginfo=texts)  # Pillow keeps the texts on the object while it saves
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".amused-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with partial.open("xb") as file:
            file.write(data.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        for number in itertools.count(1):
            candidate = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
            if _claim(partial, candidate):
                return candidate
        raise AssertionError("unreachable")
    finally:
        partial.unlink(missing_ok=True)


def read_recipe(path: str | Path) -> Recipe:
    """The recipe inside a PNG that this program wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no PNG, or holds no recipe.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # texts may stand behind the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path} is not a PNG file; give a picture that amused-lite made") from error
    if text is None:
        raise ValueError(f"{path} holds no amused-lite recipe; it was made or saved without one")
    try:
        return Recipe.from_json(str(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _claim(partial: Path, target: Path) -> bool:
    """Give the finished file its name unless that is taken; a hard link makes test and rename one act."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():  # a file system without hard links: two programs at once could still collide here
            return False
        partial.rename(target)
    return True


def _pack(tokens: np.ndarray, codebook_size: int) -> str:
    bits = max(1, (codebook_size - 1).bit_length())
    planes = (tokens.astype(np.uint32)[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return f"{len(tokens)}:{base64.b64encode(np.packbits(planes.astype(np.uint8)).tobytes()).decode()}"


def _unpack(text: str, codebook_size: int) -> np.ndarray:
    count, _, data = text.partition(":")
    bits = max(1, (codebook_size - 1).bit_length())
    raw = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
    length = int(count)
    if raw.size * 8 < length * bits or length < 1:
        raise ValueError(f"the recipe's tokens are cut short: {raw.size} bytes for {length} of {bits} bits")
    planes = np.unpackbits(raw, count=length * bits).reshape(length, bits)
    return (planes.astype(np.int32) << np.arange(bits - 1, -1, -1, dtype=np.int32)).sum(1, dtype=np.int32)

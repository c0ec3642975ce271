"""Pictures as `.tokens` files: a picture of 1024 tokens from a codebook of 8192 takes less than 2 KB.

The layout, little-endian, is in docs/pictures.md: a head of fixed size, the tokens as bits, and the recipe as
compressed JSON. Any copy of the model turns it back into the picture.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.files.atomic import write_new
from amused_lite.files.png import Recipe, pack_tokens, unpack_tokens
from amused_lite.reading import parse_object, read_small

LIMIT = 2048  # bytes; a recipe that would make the file longer is left out
_MAGIC = b"AMTOKENS"
_VERSION = 1
# magic, version, codebook_size, number of tokens, width and height in pixels, sha256 of the weights, length of the
# recipe; behind it a CRC-32 of everything else
_HEAD = struct.Struct("<8sBIIHH32sI")
_CHECK = struct.Struct("<I")
_LARGEST = 2**20  # bytes of a file or of a recipe, far above anything that is meant
# What recipes are made of, so that even a short one compresses well. Part of the format: never change it.
_DICTIONARY = (
    b'"edit": null, "version": "0.", "runtime": "onnx", "runtime": "torch", "model": "amused/amused-256", '
    b'"model": "tiny", "model": "amused/amused-512", "order": "halton", "mask_schedule": "linear", '
    b'"top_k": , "top_p": 0., "refine": , "guidance_schedule": "linear", "guidance_interval": [0.0, 1.0], '
    b'"mask_temperature": [2.0, 0.0], "token_temperature": 0.7, "guidance_scale": 3.0, "guidance_scale": 9.0, '
    b'"token_temperature": 1.0, "steps": "negative_prompt": "", "picture": 0, "seed": '
    b'"micro_conditioning": [512.0, 512.0, 0.0, 0.0, 6.0], '
    b'{"schema": 1, "prompt": "a picture of a red blue green yellow white in the on and with, photo of '
)
# What most recipes say, and so need not. Part of the format too.
_USUAL = {
    "schema": 1,
    "negative_prompt": "",
    "picture": 0,
    "guidance_schedule": "constant",
    "guidance_interval": [0.0, 1.0],
    "mask_temperature": [2.0, 0.0],
    "mask_schedule": "cosine",
    "order": "confidence",
    "top_k": None,
    "top_p": None,
    "refine": 0,
    "edit": None,
    "adapters": [],
}


@dataclass(frozen=True, eq=False)
class TokenFile:
    """What a `.tokens` file holds."""

    tokens: np.ndarray  # (N,) int32
    codebook_size: int
    width: int  # pixels
    height: int
    model_hash: str
    recipe: Recipe | None  # None where it did not fit


def save_tokens(recipe: Recipe, path: str | Path) -> Path:
    """Write a recipe's tokens, never over another file; returns the path it got.

    The recipe goes in too where it fits, so that the file can be shown and verified; an edit's does not, since it
    carries the earlier picture.

    Raises:
        ValueError: the model's hash is no sha256, or the picture is too large for the format.
        OSError: the folder cannot be made or written, or the disk is full.
    """
    try:
        sha256 = bytes.fromhex(recipe.model_hash)
    except ValueError:
        sha256 = b""
    if len(sha256) != 32 or max(recipe.width, recipe.height) > 65535:
        raise ValueError("a tokens file needs the sha256 of the model's weights and sides of at most 65535 pixels")
    packed = pack_tokens(recipe.tokens, recipe.codebook_size)
    compressor = zlib.compressobj(9, zdict=_DICTIONARY)
    text = compressor.compress(_short_json(recipe).encode("utf-8", "surrogatepass")) + compressor.flush()
    if recipe.edit is not None or _HEAD.size + _CHECK.size + len(packed) + len(text) > LIMIT:
        text = b""
    size = (recipe.width, recipe.height)
    head = _HEAD.pack(_MAGIC, _VERSION, recipe.codebook_size, len(recipe.tokens), *size, sha256, len(text))
    rest = packed + text
    return write_new(Path(path), head + _CHECK.pack(zlib.crc32(head + rest)) + rest)


def load_tokens(path: str | Path) -> TokenFile:
    """Read what `save_tokens` wrote; the file may be anyone's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no tokens file, of a later version, cut short or damaged.
    """
    data = read_small(path, "give a file that amused-lite wrote", _LARGEST)
    start = _HEAD.size + _CHECK.size
    if len(data) < start or not data.startswith(_MAGIC):
        raise ValueError(f"{path} is not a tokens file; give one that amused-lite wrote")
    head, (check,), rest = data[: _HEAD.size], _CHECK.unpack_from(data, _HEAD.size), data[start:]
    _, version, codebook_size, count, width, height, sha256, length = _HEAD.unpack(head)
    if version != _VERSION:
        raise ValueError(f"{path} is a tokens file of version {version}, this program reads {_VERSION}; update it")
    if zlib.crc32(head + rest) != check:
        raise ValueError(f"{path} is cut short or damaged: its checksum differs; copy it again")
    packed, text = rest[: len(rest) - length], rest[len(rest) - length :]
    try:
        tokens = unpack_tokens(packed, count, codebook_size)
        known = {"codebook_size": codebook_size, "width": width, "height": height, "model_hash": sha256.hex()}
        recipe = _long_recipe(text, tokens, known) if length else None
        return TokenFile(tokens, **known, recipe=recipe)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error


def _short_json(recipe: Recipe) -> str:
    """The recipe's JSON without its tokens, what the head says, and what is as usual."""
    elsewhere = ("tokens", "codebook_size", "width", "height", "model_hash")
    values = {key: value for key, value in json.loads(recipe.to_json()).items() if key not in elsewhere}
    unusual = {key: value for key, value in values.items() if key not in _USUAL or _USUAL[key] != value}
    return json.dumps(unusual, ensure_ascii=False)


def _long_recipe(text: bytes, tokens: np.ndarray, known: dict[str, Any]) -> Recipe:
    decompressor = zlib.decompressobj(zdict=_DICTIONARY)
    short = decompressor.decompress(text, _LARGEST)
    if not decompressor.eof:
        raise ValueError("its recipe is not whole")
    values = parse_object(short.decode("utf-8", "surrogatepass"), "its recipe", "copy it again")
    whole = {**_USUAL, **values, **known}
    return Recipe.from_json(json.dumps(whole), tokens)

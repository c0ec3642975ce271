"""A style's pictures: found with their captions, cropped, turned into tokens once and kept. Knows no adapter."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from amused_lite.analysis.ranking import Ranker
from amused_lite.files import images as picture_files
from amused_lite.files.safetensors import open_tensors, write_tensors
from amused_lite.models.vqgan import VQGAN
from amused_lite.training.base_model import CropTokens
from amused_lite.training.data.captions import read_table, text_beside
from amused_lite.training.data.pictures import SUFFIXES, USUAL_SCORE, crop
from amused_lite.training.loop.fit import step_generator

MOST = 100  # pictures: a style is learned from one to ten; a data set wants another trainer
SMALLEST_SHARE = 4  # the short side must be at least 1 / 4 of the model's pictures


@dataclass(frozen=True)
class StylePicture:
    """A picture of the style and what it shows, without words of style."""

    path: Path
    caption: str


def find_pictures(paths: Sequence[Path], captions: Sequence[str] = ()) -> list[StylePicture]:
    """Files and folders to pictures with captions; the order is that of the paths, and of the names within a folder.

    Captions are those given, one for each picture or one for all; or of `metadata.jsonl` beside a picture (lines like
    {"file_name": "a.png", "text": "a boat"}); or of a text file of the picture's name (`a.txt`).

    Raises:
        FileNotFoundError: a path is missing, or there is no picture.
        ValueError: there are too many pictures, or one has no caption.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        where = ", ".join(str(path) for path in paths) or "the command"
        raise FileNotFoundError(f"no picture in {where}; give one to ten of {', '.join(SUFFIXES[:4])}")
    if len(files) > MOST:
        advice = "a style is learned best from one to ten; choose the most typical"
        raise ValueError(f"got {len(files)} pictures, at most {MOST} are possible; {advice}")
    if captions and len(captions) not in (1, len(files)):
        counts = f"{len(captions)} captions for {len(files)} pictures"
        raise ValueError(f"got {counts}; give one --caption for all, or one for each in the order of the pictures")
    if captions:
        said = list(captions) * (len(files) // len(captions))
    else:
        said = [_caption_beside(file) for file in files]
    without = [file.name for file, caption in zip(files, said, strict=True) if not caption.strip()]
    if without:
        names = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
        raise ValueError(f'no caption for {names}; say what each shows with --caption "a boat", or in {without[0]}.txt')
    return [StylePicture(file, " ".join(caption.split())) for file, caption in zip(files, said, strict=True)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give pictures, or a folder of pictures")
    return [path]


def _caption_beside(file: Path) -> str:
    row = read_table(file.parent).get(file.name)
    return row.text if row else text_beside(file)


def styled(caption: str, style: str) -> str:
    """The caption with the style said after it, as StyleDrop does: "a boat" -> "a boat in melting golden 3d style"."""
    return caption if style in caption else f"{caption} {trigger(style)}"


def trigger(style: str) -> str:
    """What a prompt should say: "in melting golden 3d style"."""
    return f"in {style}" if style.split()[-1:] == ["style"] else f"in {style} style"


def open_picture(path: Path, image_size: int) -> Image.Image:
    """The picture upright and in RGB, on white where it is transparent.

    Raises:
        ValueError: it cannot be read, or is too small for a model that draws `image_size`.
    """
    try:
        image = picture_files.open_picture(path).image
    except (ValueError, OSError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        reason = f"it{said.removeprefix(str(path))}" if said.startswith(f"{path} ") else said
        raise ValueError(f"{path} cannot be used: {reason}") from error
    least = image_size // SMALLEST_SHARE
    if min(image.size) < least:
        size = f"{image.width}x{image.height}"
        raise ValueError(f"{path} is {size} pixels, at least {least} a side are needed; use a larger copy")
    return image


def readable(pictures: Sequence[StylePicture], image_size: int, skip: bool) -> list[StylePicture]:
    """Every picture opened once, before any work: the ones that can be used.

    Args:
        pictures: from `find_pictures`.
        image_size: side of the model's pictures in px.
        skip: say on stderr which cannot be used and go on without them, as long as one is left.

    Raises:
        ValueError: a picture cannot be used; naming it, and how many.
    """
    good, bad = [], []
    for picture in pictures:
        try:
            open_picture(picture.path, image_size)
            good.append(picture)
        except ValueError as error:
            bad.append(str(error))
    if bad and (not skip or not good):
        others = f" ({len(bad)} of {len(pictures)} pictures cannot be used)" if len(pictures) > 1 else ""
        hint = "; --skip-unreadable goes on without" if good else ""
        raise ValueError(f"{bad[0]}{others}{hint}")
    for line in bad:
        print(f"amused-lite: warning: {line}; left out", file=sys.stderr)
    return good


def proposed(
    pictures: Sequence[StylePicture], proposals: Sequence[str], ranker: Ranker, image_size: int
) -> list[StylePicture]:
    """Each picture with the one of `proposals` that the ranker finds to fit it best; equal ones in their order."""
    images = [open_picture(picture.path, image_size) for picture in pictures]
    fits = np.array([ranker.scores(text, images) for text in proposals])  # (proposals, pictures)
    best = [int(column.argmax()) for column in fits.T]
    return [StylePicture(picture.path, proposals[index]) for picture, index in zip(pictures, best, strict=True)]


def in_turn(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Which of `count` things the rows of a step show: all in a new order, again and again."""
    rows = range(step * batch, (step + 1) * batch)
    orders = {row // count: None for row in rows}
    drawn = {n: torch.randperm(count, generator=step_generator(seed, n, 1)).tolist() for n in orders}
    return [drawn[row // count][row % count] for row in rows]


def crop_number(image: Image.Image, index: int, image_size: int, seed: int) -> tuple[Image.Image, tuple[float, ...]]:
    """Crop number `index` and its micro-conditioning; 0 is the middle square, the others vary place and size."""
    piece, (top, left) = crop(image, image_size, np.random.default_rng([seed, index]) if index else None)
    return piece, (image.width, image.height, top, left, USUAL_SCORE)


@torch.inference_mode()
def encode_pictures(
    vqgan: VQGAN,
    pictures: Sequence[StylePicture],
    crops: int,
    image_size: int,
    seed: int,
    cache: Path,
    base: str,
    bar: Callable[[Iterable[StylePicture], str, int], Iterable[StylePicture]] = lambda items, *_: items,
) -> CropTokens:
    """Tokens of every crop, made once: `cache` is read again as long as pictures, crops and model are the same.

    Args:
        vqgan: the model's own, float32.
        pictures: from `readable`.
        crops: of each picture.
        image_size: side of the model's pictures in px.
        seed: of the crops.
        cache: a .safetensors file to make, or to use if it is of the same things.
        base: hash of the model.
        bar: is told how it goes, as in `base_model.Progress`.
    """
    digest = hashlib.sha256(f"{base} {crops} {image_size} {seed}".encode())
    for picture in pictures:
        digest.update(hashlib.sha256(picture.path.read_bytes()).digest())
    key, captions = digest.hexdigest(), tuple(picture.caption for picture in pictures)
    if cache.is_file() and (kept := open_tensors(cache)).metadata.get("of") == key:
        tokens, micro = (torch.from_numpy(kept.read([name])[name].copy()) for name in ("tokens", "micro"))
        return CropTokens(tokens.long(), micro, captions)
    device = next(vqgan.parameters()).device
    rows, numbers = [], []
    for picture in bar(pictures, "looking at the pictures", len(pictures)):
        image = open_picture(picture.path, image_size)
        pieces = [crop_number(image, index, image_size, seed) for index in range(crops)]
        for piece, _ in pieces:
            pixels = torch.from_numpy(np.array(piece)).permute(2, 0, 1)[None].float() / 255
            rows.append(vqgan.encode_image(pixels.to(device))[0].cpu())
        numbers.append([micro for _, micro in pieces])
    tokens = torch.stack(rows).unflatten(0, (len(pictures), crops))  # (P, C, N)
    micro = torch.tensor(numbers, dtype=torch.float32)  # (P, C, 5)
    write_tensors(cache, {"tokens": tokens.int().numpy(), "micro": micro.numpy()}, {"of": key})
    return CropTokens(tokens.long(), micro, captions)

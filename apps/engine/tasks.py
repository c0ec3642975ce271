"""From a request and an open model to the tasks of its pictures. Knows no queue and no threads."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amused_lite.editing.operations import as_source, make_task
from amused_lite.files.images import SourceImage, open_mask, open_picture
from amused_lite.pipeline import AmusedPipeline
from amused_lite.task import Task

from .request import Request


def tasks(amused: AmusedPipeline, request: Request) -> Iterator[Task]:
    """The tasks of a settled request, one for each picture.

    Raises:
        ValueError: the request does not fit the model, or its picture or mask cannot be used.
    """
    seed, number = request.number(0)
    if request.operation == "generate":
        size = amused.runtime.config.image_size
        _check_size(request, (size, size), "this model makes")
        words = request.prompt or "", request.negative_prompt
        first = Task(*words, request.generate_options(seed), number, trace=request.trace)
    else:
        first = _edit(amused, request, seed, number)
    for index in range(request.count):
        seed, number = request.number(index)
        yield first.at(number, seed)


def _edit(amused: AmusedPipeline, request: Request, seed: int, number: int) -> Task:
    """The first picture's task."""
    given, operation = request.source, request.operation
    assert given is not None  # a request without one is refused
    if isinstance(given, bytes | Path):
        source = open_picture(BytesIO(given) if isinstance(given, bytes) else given)
    else:
        source = as_source(given)
    settings = dict(request.settings)
    invert = bool(settings.pop("invert", False))
    mask = _mask(request, source, invert) if request.mask is not None or operation == "inpaint" else None
    values: dict[str, Any] = {**request.options, "seed": seed, "image_index": number, **settings}
    try:
        task = make_task(operation, amused, source, request.prompt, request.negative_prompt, mask, **values)
    except TypeError as error:
        raise ValueError(f"a setting of {operation} is not of its type: {error}") from error
    if request.size is not None and (operation == "outpaint" or settings.get("pad")):
        raise ValueError(f"the size of {operation} follows from its picture; leave the size out")
    side = amused.runtime.config.image_size
    own = source.image.size if operation == "inpaint" else (side, side)
    _check_size(request, own, f"{operation} makes of this picture")
    return task


def _check_size(request: Request, own: tuple[int, int], maker: str) -> None:
    """Raise ValueError unless the wanted size is the only possible one."""
    if request.size not in (None, own):
        wanted, made = ("x".join(map(str, sides)) for sides in (request.size, own))
        raise ValueError(f"size must be {made}, which {maker}, got {wanted}; leave it out")


def _mask(request: Request, source: SourceImage, invert: bool) -> Image.Image:
    """The mask, white where something is meant. A file marks it white, or see-through if any of it is see-through."""
    given = request.mask
    if isinstance(given, bytes):
        alpha = open_picture(BytesIO(given)).alpha
        mask = open_mask(BytesIO(given)) if alpha is None else _see_through(alpha)
    elif given is None:
        if source.alpha is None:
            raise ValueError("nothing says what to draw anew; send a mask, or a picture with see-through parts")
        mask = _see_through(source.alpha)
    else:
        mask = given.convert("L")
    return ImageOps.invert(mask) if invert else mask


def _see_through(alpha: Image.Image) -> Image.Image:
    return Image.fromarray(np.where(np.asarray(alpha) < 128, 255, 0).astype(np.uint8))

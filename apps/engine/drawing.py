"""From a request and an open model to pictures that can be watched as they form. Knows no queue and no threads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amused_lite.editing import operations
from amused_lite.editing.geometry import Box
from amused_lite.editing.token_operations import unpack_cells
from amused_lite.files.images import SourceImage, open_mask, open_picture
from amused_lite.files.png import Edit
from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.sampling.loop import Step
from amused_lite.sampling.settings import GenerateOptions

from .request import Request

PREVIEW_SIDE = 512  # px, the longer side of a preview at most
_GREY = 128  # where nothing has been guessed yet
Paint = Callable[[np.ndarray, np.ndarray], Image.Image]  # sampled_tokens (N,), colours (K, 3) -> preview


@dataclass(frozen=True, eq=False)
class Drawing:
    """One picture that is ready to be drawn."""

    total: int  # steps
    steps: Iterator[Step]
    finish: Callable[[np.ndarray], Picture]  # all tokens (N,) -> the picture
    paint: Paint


def drawings(amused: AmusedPipeline, request: Request) -> Iterator[Drawing]:
    """The pictures of a settled request, each prepared when its turn comes.

    Raises:
        ValueError: the request does not fit the model, or its picture or mask cannot be used.
    """
    make = _new_pictures if request.operation == "generate" else _edits
    return make(amused, request)


def stopped(picture: Picture, step: Step) -> Picture:
    """A picture finished from the sampled tokens of an early step, with `stopped_after` in its recipe."""
    return replace(picture, recipe=replace(picture.recipe, stopped_after=step.index + 1))


def remarks(amused: AmusedPipeline, request: Request) -> list[str]:
    """What the owner of a request should know about it."""
    said = list(amused.info.remarks)
    for name, text in (("prompt", request.prompt or ""), ("negative prompt", request.negative_prompt)):
        rest = amused.dropped(text)
        if rest:
            said.append(f"the {name} is too long for this model; not read: {rest[:60]!r}")
    for adapter, weight in amused.info.adapters:
        trigger = adapter.record.trigger
        if weight > 0 and trigger and trigger not in (request.prompt or ""):
            said.append(f"adapter {adapter.record.name!r} learned its look as {trigger!r}; say so in the prompt")
    return said


def text_tokens(amused: AmusedPipeline, *texts: str) -> int:
    """How many tokens the model reads of these texts, without the start, the end and what fills the rest."""
    tokenizer = amused.tokenizer
    rows = tokenizer.encode([text for text in texts if text])
    return sum(int((row == tokenizer.end).argmax()) - 1 for row in rows)


def _new_pictures(amused: AmusedPipeline, request: Request) -> Iterator[Drawing]:
    prompt, negative_prompt = request.prompt or "", request.negative_prompt
    size = amused.runtime.config.image_size, amused.runtime.config.image_size
    if request.size not in (None, size):
        wanted, own = ("x".join(map(str, sides)) for sides in (request.size, size))
        raise ValueError(f"size must be {own}, which this model makes, got {wanted}; leave it out")
    for index in range(request.count):
        seed, number = request.number(index)
        options = request.generate_options(seed)

        def finish(tokens: np.ndarray, number: int = number, options: GenerateOptions = options) -> Picture:
            return amused.finish(tokens, prompt, negative_prompt, number, options)

        steps = amused.steps(prompt, negative_prompt, number, options, request.trace)
        yield Drawing(options.steps + options.refine, steps, finish, _plain_paint(amused, size))


def _edits(amused: AmusedPipeline, request: Request) -> Iterator[Drawing]:
    task, source = _task(amused, request)
    _check_size(amused, request, source)
    for index in range(request.count):
        seed, number = request.number(index)
        one = replace(task, image_index=number, options=replace(task.options, seed=seed))
        yield Drawing(one.total, one.steps(), one.finish, _edit_paint(amused, one.edit, source.image))


def _check_size(amused: AmusedPipeline, request: Request, source: SourceImage) -> None:
    """Raise ValueError unless the wanted size is what the edit gives."""
    if request.size is None:
        return
    if request.operation == "outpaint" or request.settings.get("pad"):
        raise ValueError(f"the size of {request.operation} follows from its picture; leave the size out")
    own = source.image.size if request.operation == "inpaint" else (amused.runtime.config.image_size,) * 2
    if request.size != own:
        wanted, made = ("x".join(map(str, sides)) for sides in (request.size, own))
        raise ValueError(
            f"size must be {made}, which {request.operation} makes of this picture, got {wanted}; leave it out"
        )


def _task(amused: AmusedPipeline, request: Request) -> tuple[operations.Task, SourceImage]:
    """The first picture's task, and where it starts."""
    source = _source(request)
    seed, number = request.number(0)
    settings = dict(request.settings)
    invert = bool(settings.pop("invert", False))
    values: dict[str, Any] = {**request.options, "seed": seed, "image_index": number, **settings}
    words = request.prompt, request.negative_prompt
    try:
        match request.operation:
            case "inpaint":
                mask = _mask(request, source, invert)
                return operations.inpaint(amused, source, mask, request.prompt or "", words[1], **values), source
            case "outpaint":
                return operations.outpaint(amused, source, *words, **values), source
            case "edit":
                lock = None if request.mask is None else _mask(request, source)
                return operations.edit(amused, source, request.prompt or "", words[1], lock=lock, **values), source
        lock = None if request.mask is None else _mask(request, source)
        operation = operations.vary if request.operation == "vary" else operations.reroll
        return operation(amused, source, *words, lock=lock, **values), source
    except TypeError as error:
        raise ValueError(f"a setting of {request.operation} is not of its type: {error}") from error


def _source(request: Request) -> SourceImage:
    given = request.source
    if isinstance(given, bytes):
        return open_picture(BytesIO(given))
    if isinstance(given, Path):
        return open_picture(given)
    if isinstance(given, Image.Image):
        return SourceImage(given.convert("RGB"))
    assert given is not None  # a request without one is refused
    return given if isinstance(given, SourceImage) else SourceImage(given.image, given.recipe)


def _mask(request: Request, source: SourceImage, invert: bool = False) -> Image.Image:
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


def _coloured(colours: np.ndarray, sampled_tokens: np.ndarray, grid: tuple[int, int]) -> Image.Image:
    """Tokens (N,) as a picture of one px each, in their codes' mean colours."""
    cells = sampled_tokens.reshape(grid)
    known = cells < len(colours)
    shown = np.where(known[..., None], colours[np.where(known, cells, 0)], np.uint8(_GREY))
    return Image.fromarray(shown.astype(np.uint8))


def _plain_paint(amused: AmusedPipeline, size: tuple[int, int]) -> Paint:
    grid = amused.runtime.config.uvit.grid, amused.runtime.config.uvit.grid
    small = _fitted(size)
    return lambda sampled_tokens, colours: _coloured(colours, sampled_tokens, grid).resize(
        small, Image.Resampling.BICUBIC
    )


def _edit_paint(amused: AmusedPipeline, record: Edit, image: Image.Image) -> Paint:
    """The preview function of an edit: new tokens, laid into the earlier picture."""
    grid = amused.runtime.config.uvit.grid
    settings = record.settings
    if record.operation == "outpaint":
        rows, columns = settings["grid"]
        size = _fitted((columns * PREVIEW_SIDE, rows * PREVIEW_SIDE))
        return lambda sampled_tokens, colours: _coloured(colours, sampled_tokens, (rows, columns)).resize(
            size, Image.Resampling.BICUBIC
        )
    box = Box(*settings["box"])
    left, top, right, bottom = box.inside(image.size)
    if record.operation != "inpaint":  # the result is the part of the square that lies in the picture
        inside = [edge / box.side for edge in (left - box.left, top - box.top, right - box.left, bottom - box.top)]

        def paint_square(sampled_tokens: np.ndarray, colours: np.ndarray) -> Image.Image:
            square = _coloured(colours, sampled_tokens, (grid, grid)).resize(
                (PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BICUBIC
            )
            return square.crop(tuple(round(edge * PREVIEW_SIDE) for edge in inside))  # type: ignore[arg-type]  # four

        return paint_square
    small = _fitted(image.size)
    scale = small[0] / image.width
    around = image.resize(small, Image.Resampling.BILINEAR)
    marked = unpack_cells(settings["cells"], grid * grid).reshape(grid, grid)
    side = max(1, round(box.side * scale))
    area = Image.fromarray(marked.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)

    def paint(sampled_tokens: np.ndarray, colours: np.ndarray) -> Image.Image:
        part = _coloured(colours, sampled_tokens, (grid, grid)).resize((side, side), Image.Resampling.BICUBIC)
        drawn = around.copy()
        drawn.paste(part, (round(box.left * scale), round(box.top * scale)), area)
        return drawn

    return paint


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, PREVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

"""Edits of pictures: vary, edit, reroll, inpaint and outpaint. NumPy and Pillow; knows no engine.

Each operation makes a `Task` for the pipeline, whose picture's recipe is enough to do it again (`Task.from_recipe`).
What happens to tokens is `token_operations`; here is the way from a picture to tokens, and `canvas` is the way back.
"""

from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from amused_lite.editing.canvas import EditCanvas, PatchCanvas, SquareCanvas, WideCanvas
from amused_lite.editing.geometry import Box, box_around, encode_windows, middle_box, to_pixels, widen
from amused_lite.editing.settings import OPERATIONS
from amused_lite.editing.token_operations import pack_cells
from amused_lite.files.images import SourceImage, to_area
from amused_lite.files.png import Edit
from amused_lite.pipeline import AmusedPipeline, Picture, check_prompts
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task

Editable: TypeAlias = SourceImage | Picture | Image.Image

STRENGTH = OPERATIONS["vary"].settings["strength"].default
EDIT_SHARE, REROLL_SHARE = (OPERATIONS[name].settings["share"].default for name in ("edit", "reroll"))


def make_task(
    operation: str,
    amused: AmusedPipeline,
    source: Editable,
    prompt: str | None,
    negative_prompt: str = "",
    mask: Image.Image | None = None,
    **settings: Any,
) -> Task:
    """The task of an operation by its name, for command line, server and demo.

    Args:
        operation: a key of `OPERATIONS`, which says what `mask` means.
        amused, source, prompt, negative_prompt: see `vary`.
        mask: white where something is drawn, or where nothing may change; None where the operation takes none.
        settings: the operation's own, those of the sampling, and `image_index`.

    Raises:
        ValueError: see the operation.
    """
    words = prompt, negative_prompt
    match operation:
        case "inpaint":
            assert mask is not None
            return inpaint(amused, source, mask, prompt or "", negative_prompt, **settings)
        case "outpaint":
            return outpaint(amused, source, *words, **settings)
        case "edit":
            return edit(amused, source, prompt or "", negative_prompt, lock=mask, **settings)
        case "vary":
            return vary(amused, source, *words, lock=mask, **settings)
    return reroll(amused, source, *words, lock=mask, **settings)


def vary(
    amused: AmusedPipeline,
    source: Editable,
    prompt: str | None = None,
    negative_prompt: str = "",
    image_index: int = 0,
    strength: float = STRENGTH,
    lock: Image.Image | None = None,
    pad: bool = False,
    **options: Any,
) -> Task:
    """Image to image (aMUSEd, section 4): draw as much of a picture anew as `strength` says. Also restyles.

    Args:
        amused: the model.
        source: the picture. Of one that is not square, the middle is used.
        prompt: what it shall show; None is the prompt that the picture was made from.
        negative_prompt: what to keep away from.
        image_index: number of the result within its seed.
        strength: above 0 and at most 1, which draws everything anew; `steps * strength` steps are run.
        lock: white where tokens must stay as they are, of any size.
        pad: use all of a picture that is not square.
        options: the fields of `GenerateOptions`.

    Raises:
        ValueError: there is nothing to draw, or a number is out of range.
    """
    words = _words(source, prompt, negative_prompt)
    return _whole(amused, source, words, image_index, "vary", {"strength": strength}, lock, pad, options)


def edit(
    amused: AmusedPipeline,
    source: Editable,
    prompt: str,
    negative_prompt: str = "",
    image_index: int = 0,
    share: float = EDIT_SHARE,
    lock: Image.Image | None = None,
    pad: bool = False,
    **options: Any,
) -> Task:
    """Mask-free editing (Muse, Chang et al. 2023, section 4.3): the picture drifts to the prompt, without a mask.

    Args:
        amused, source, negative_prompt, image_index, lock, pad: see `vary`.
        prompt: the whole new picture, not the change.
        share: of the tokens, chosen at random, that each step draws anew.
        options: the fields of `GenerateOptions`; `steps` is the number of rounds. Its own defaults are in `OPERATIONS`.

    Raises:
        ValueError: see `vary`.
    """
    words = _words(source, prompt, negative_prompt)
    return _whole(amused, source, words, image_index, "edit", {"share": share}, lock, pad, options)


def reroll(
    amused: AmusedPipeline,
    source: Editable,
    prompt: str | None = None,
    negative_prompt: str = "",
    image_index: int = 0,
    share: float = REROLL_SHARE,
    lock: Image.Image | None = None,
    pad: bool = False,
    **options: Any,
) -> Task:
    """Draw the tokens again that the model finds least likely, and keep the others.

    Args:
        amused, source, prompt, negative_prompt, image_index, lock, pad, options: see `vary`.
        share: how many of the tokens that are not locked.

    Raises:
        ValueError: see `vary`.
    """
    words = _words(source, prompt, negative_prompt)
    return _whole(amused, source, words, image_index, "reroll", {"share": share}, lock, pad, options)


def inpaint(
    amused: AmusedPipeline,
    source: Editable,
    mask: Image.Image,
    prompt: str,
    negative_prompt: str = "",
    image_index: int = 0,
    paste: bool = True,
    feather: int | None = None,
    **options: Any,
) -> Task:
    """Draw the marked part of a picture anew (MaskGIT, section 4.3); the rest stays, bit for bit.

    Of a large picture the model sees a square around the marked part (`geometry.box_around`).

    Args:
        amused, source, negative_prompt, image_index: see `vary`.
        mask: white where something else shall be, of any size.
        prompt: the whole new picture, not the marked part alone.
        paste: lay the new part into the earlier picture; False gives the model's own picture of the whole square.
        feather: px inside the border over which colours are matched; None is the width of a token.
        options: the fields of `GenerateOptions`; its own defaults are in `OPERATIONS`.

    Raises:
        ValueError: the mask marks nothing or everything, or see `vary`.
    """
    check_prompts(prompt, negative_prompt)
    source = as_source(source)
    config = amused.runtime.config
    grid = config.uvit.grid
    area = to_area(mask, source.image.size)
    box = box_around(area, config.image_size, config.vqgan.downsample_factor)
    feather = _feather(feather, box.side / grid)
    cells = box.cells(area, grid)
    settings = {"cells": pack_cells(cells), "box": list(box), "paste": paste, "feather": feather}
    record = Edit("inpaint", settings, _tokens(amused, source, box))
    canvas = PatchCanvas(source.image, box, cells.reshape(grid, grid), area if paste else None, feather)
    return _task(amused, (prompt, negative_prompt), image_index, record, canvas, options)


def outpaint(
    amused: AmusedPipeline,
    source: Editable,
    prompt: str | None = None,
    negative_prompt: str = "",
    image_index: int = 0,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    paste: bool = True,
    feather: int | None = None,
    **options: Any,
) -> Task:
    """Draw what lies beyond a picture's edges, window by window; the picture itself stays, bit for bit.

    The model sees the picture at the size at which its shorter side is that of the model's pictures.

    Args:
        amused, source, prompt, negative_prompt, image_index, options: see `vary`.
        left, right, top, bottom: px to add at each side.
        paste: lay the earlier picture into the result; False gives the model's own picture of everything.
        feather: px beyond the edges over which colours are matched; None is the width of a token.

    Raises:
        ValueError: nothing is added or too much, or see `vary`.
    """
    words = _words(source, prompt, negative_prompt)
    source = as_source(source)
    image, config = source.image, amused.runtime.config
    own = _own_tokens(amused, source)
    scale = 1 if own is not None else config.image_size / min(image.size)
    canvas = widen(image.size, (left, top, right, bottom), scale, config.vqgan.downsample_factor)
    feather = _feather(feather, canvas.cell / scale)
    settings = {"grid": canvas.grid, "known": canvas.known, "paste": paste, "feather": feather}
    if own is None:
        own = encode_windows(amused.runtime.encode_image, canvas.take(image), config.uvit.grid, canvas.cell)
        amused.release("encode_image")

    record = Edit("outpaint", settings, own.ravel())
    wide = WideCanvas(image, canvas, (left, top), paste, feather)
    return _task(amused, words, image_index, record, wide, options)


def _whole(
    amused: AmusedPipeline,
    source: Editable,
    words: tuple[str, str],
    image_index: int,
    operation: str,
    numbers: dict[str, float],
    lock: Image.Image | None,
    pad: bool,
    options: dict[str, Any],
) -> Task:
    """An operation on the whole picture: its middle, or all of it with its edges repeated up to a square."""
    source = as_source(source)
    box = middle_box(source.image.size, pad)
    grid = amused.runtime.config.uvit.grid
    locked = None if lock is None else box.cells(to_area(lock, source.image.size), grid)
    settings = {**numbers, "locked": pack_cells(locked), "box": list(box)}
    record = Edit(operation, settings, _tokens(amused, source, box))
    return _task(amused, words, image_index, record, SquareCanvas(box, source.image.size), options)


def _task(
    amused: AmusedPipeline,
    words: tuple[str, str],
    image_index: int,
    record: Edit,
    canvas: EditCanvas,
    options: dict[str, Any],
) -> Task:
    """The task, once it is known that it can be done."""
    values = {**OPERATIONS[record.operation].defaults, **options}
    task = Task(*words, GenerateOptions(**values), image_index, record, canvas)
    amused.steps(task)  # finds out what is wrong before anyone waits
    return task


def as_source(picture: Editable) -> SourceImage:
    """A picture as edits take it, with its recipe where it has one."""
    if isinstance(picture, Image.Image):
        return SourceImage(picture.convert("RGB"))
    return picture if isinstance(picture, SourceImage) else SourceImage(picture.image, picture.recipe)


def _words(source: Editable, prompt: str | None, negative_prompt: str) -> tuple[str, str]:
    """The prompts, checked; without one, those of the picture's recipe."""
    if prompt is None:
        recipe = as_source(source).recipe
        if recipe is None:
            raise ValueError("this picture holds no prompt of its own; say what it shall show")
        prompt, negative_prompt = recipe.prompt, negative_prompt or recipe.negative_prompt
    check_prompts(prompt, negative_prompt)
    return prompt, negative_prompt


def _feather(given: int | None, cell: float) -> int:
    if given is not None and given < 0:
        raise ValueError(f"feather must be 0 px or more, got {given}")
    return max(1, round(cell)) if given is None else given


def _tokens(amused: AmusedPipeline, source: SourceImage, box: Box) -> np.ndarray:
    """The tokens (N,) of a square: those it was drawn from where they are known, else read from its px."""
    config = amused.runtime.config
    cell, grid, size = config.vqgan.downsample_factor, config.uvit.grid, config.image_size
    own = _own_tokens(amused, source)
    if own is not None and box.side == size and box.left % cell == 0 and box.top % cell == 0:
        top, left = box.top // cell, box.left // cell
        return own[top : top + grid, left : left + grid].ravel()
    tokens = amused.runtime.encode_image(to_pixels(box.take(source.image, size)))[0]
    amused.release("encode_image")
    return tokens


def _own_tokens(amused: AmusedPipeline, source: SourceImage) -> np.ndarray | None:
    """The tokens (h, w) of a picture that this model drew and that is still as large as it was drawn."""
    recipe, config = source.recipe, amused.runtime.config
    if recipe is None or recipe.model_hash != amused.info.model_hash:
        return None
    grid = [config.uvit.grid] * 2
    if recipe.edit is not None and recipe.edit.operation == "outpaint":
        grid = list(recipe.edit.settings["grid"])
    cell = config.vqgan.downsample_factor
    if [source.image.height, source.image.width] != [length * cell for length in grid]:
        return None
    return recipe.tokens.reshape(grid) if recipe.tokens.size == grid[0] * grid[1] else None

"""What each edit does to tokens, run from its record alone: so the recipe of a picture is enough to do it again.

Every operation is the loop of `sampling.loop` from another start. Tokens that are not masked at the start are the same
at the end. NumPy only; knows no pictures.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from amused_lite.conditioning import Conditioning
from amused_lite.config import ModelConfig, UViTConfig
from amused_lite.editing.geometry import MAX_TOKENS, window_starts
from amused_lite.files.png import Edit
from amused_lite.runtimes.base import Runtime
from amused_lite.sampling import noise
from amused_lite.sampling.loop import Step, mask_least_likely, token_log_likelihood, unmask_tokens
from amused_lite.sampling.schedule import first_step_for, start_masked
from amused_lite.sampling.settings import GenerateOptions, Settings

# An edit's noise begins here: a picture's own seed must not draw the picture's own tokens again.
FIRST_STEP = 2**20
EDGE = 16  # a window's outer sixteenth of tokens is taken for its edge


def edit_steps(
    runtime: Runtime, conditioning: Conditioning, options: GenerateOptions, image_index: int, edit: Edit
) -> Iterator[Step]:
    """Do what a record says: the steps, with all of the edit's tokens (1, N) in each.

    Raises:
        ValueError: the record is not whole or does not fit the model, or the options do not fit the operation.
    """
    if edit.operation not in _OPERATIONS:
        raise ValueError(f"edit {edit.operation!r} is unknown; this version knows {', '.join(_OPERATIONS)}")
    if options.refine:
        raise ValueError("refine is for new pictures; leave it out and use reroll on the result")
    options.complete(runtime.config)
    try:
        return _OPERATIONS[edit.operation](_EditRun(runtime, conditioning, options, image_index, edit))
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"the record of the edit is not whole ({type(error).__name__}: {error})") from error


def count_steps(config: ModelConfig, options: GenerateOptions, edit: Edit) -> int:
    """How many steps `edit_steps` yields."""
    if edit.operation == "vary":
        return options.steps - first_step_for(edit.settings["strength"], options.steps)
    if edit.operation == "outpaint":
        return options.steps * len(_windows(_canvas(config.uvit, edit)[1], config.uvit.grid))
    return options.steps


def pack_cells(cells: np.ndarray | None) -> str | None:
    """cells bool (N,) as base64 of their bits; None stays None."""
    return None if cells is None else base64.b64encode(np.packbits(cells).tobytes()).decode()


def unpack_cells(text: str | None, count: int) -> np.ndarray:
    """The inverse of `pack_cells`; None is no cell.

    Raises:
        ValueError: there are not as many.
    """
    if text is None:
        return np.zeros(count, bool)
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if bits.size != (count + 7) // 8:
        raise ValueError(f"the record of the edit marks {bits.size * 8} cells or fewer, the model has {count}")
    return np.unpackbits(bits, count=count).astype(bool)


class _EditRun(NamedTuple):
    """One edit under way: model, prompt, settings and the earlier tokens."""

    runtime: Runtime
    conditioning: Conditioning
    options: GenerateOptions
    image_index: int
    edit: Edit

    @property
    def uvit(self) -> UViTConfig:
        return self.runtime.config.uvit

    @property
    def settings(self) -> Settings:
        return self.options.complete(self.runtime.config)

    def unmask(self, tokens: np.ndarray, noise_step: int = 0, **changes: Any) -> Iterator[Step]:
        """The loop from tokens (N,) on; `changes` go to `unmask_tokens`."""
        given = {"options": self.options, **changes}
        return unmask_tokens(
            self.runtime,
            self.conditioning,
            image_index=self.image_index,
            tokens=tokens[None],
            noise_step=FIRST_STEP + noise_step,
            **given,
        )

    def tokens(self) -> np.ndarray:
        """The earlier picture's (N,)."""
        tokens, count = self.edit.tokens, self.uvit.num_tokens
        if len(tokens) != count:
            raise ValueError(f"the edited picture has {len(tokens)} tokens, this model takes {count}")
        return tokens.astype(np.int32)

    def free(self) -> np.ndarray:
        """bool (N,): the tokens that are not locked."""
        free = ~unpack_cells(self.edit.settings["locked"], self.uvit.num_tokens)
        if not free.any():
            raise ValueError("every token is locked, so nothing can change; lock less")
        return free

    def share(self, free: np.ndarray) -> int:
        """How many of the free tokens are drawn again: at least one."""
        share = self.edit.settings["share"]
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        return max(1, int(share * int(free.sum())))

    def shuffled(self, free: np.ndarray, step: int = 0) -> np.ndarray:
        """The places of the free tokens in random order, from the seed's own stream."""
        chance = noise.mask_noise(self.options.seed, self.image_index, step, self.uvit.num_tokens)
        return np.argsort(np.where(free, -chance, np.inf), kind="stable")[: free.sum()]

    def mask(self, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        """tokens (N,) with masks at these places."""
        masked = tokens.copy()
        masked[places] = self.uvit.mask_token_id
        return masked


def _vary(job: _EditRun) -> Iterator[Step]:
    """Image to image (aMUSEd, section 4): mask as many tokens as a late step would leave, and go on from there."""
    settings, free = job.settings, job.free()
    first, total = first_step_for(job.edit.settings["strength"], settings.steps), int(free.sum())
    count = start_masked(total, settings.steps, first, settings.mask_schedule)
    start = job.mask(job.tokens(), job.shuffled(free)[:count])
    return job.unmask(start, first, first_step=first, open_tokens=total)


def _inpaint(job: _EditRun) -> Iterator[Step]:
    """Draw the marked cells anew, from the others (MaskGIT, section 4.3)."""
    cells = unpack_cells(job.edit.settings["cells"], job.uvit.num_tokens)
    return job.unmask(np.where(cells, np.int32(job.uvit.mask_token_id), job.tokens()))


def _edit(job: _EditRun) -> Iterator[Step]:
    """Mask-free editing (Muse, Chang et al. 2023, section 4.3): a small random share is drawn again, over and over.

    Each of `settings.steps` masks its own share and draws all of it, so that the picture drifts to the prompt. Unlike
    Muse's, the shares are dealt out: none is drawn twice before all were once, or specks of the old picture stay.
    """
    settings, free, tokens = job.settings, job.free(), job.tokens()
    count = job.share(free)
    plain = replace(job.options, steps=1, guidance_schedule="constant", guidance_interval=(0.0, 1.0))

    def steps(tokens: np.ndarray) -> Iterator[Step]:
        dealt = np.empty(0, np.int64)
        for index, scale in enumerate(settings.guidance_scales()):
            if len(dealt) < count:
                fresh = job.shuffled(free, index)
                dealt = np.concatenate([dealt, fresh[~np.isin(fresh, dealt)]])
            start = job.mask(tokens, dealt[:count])
            dealt = dealt[count:]
            (step,) = job.unmask(start, index, options=replace(plain, guidance_scale=scale))
            tokens = step.tokens[0]
            yield step._replace(index=index, steps=settings.steps)

    return steps(tokens)


def _reroll(job: _EditRun) -> Iterator[Step]:
    """Draw the tokens again that the model finds least likely (as Token-Critic, Lezama et al. 2022, with no critic)."""
    free, tokens = job.free(), job.tokens()
    count = job.share(free)

    def steps() -> Iterator[Step]:
        log_likelihood = token_log_likelihood(job.runtime, job.conditioning, tokens[None], job.settings.guidance_scale)
        log_likelihood[:, ~free] = np.inf
        yield from job.unmask(mask_least_likely(tokens[None], log_likelihood, count, job.uvit.mask_token_id)[0])

    return steps()


def _outpaint(job: _EditRun) -> Iterator[Step]:
    """Draw a larger canvas around known tokens, window by window from there outwards, each half over drawn ones.

    A model draws its pictures' edges as edges. So what a window drew at a side where the canvas goes on unknown is
    masked once more, for the next window to draw.
    """
    grid = job.uvit.grid
    canvas, known = _canvas(job.uvit, job.edit)
    windows = _windows(known, grid)
    each = job.options.steps

    def steps() -> Iterator[Step]:
        sampled_tokens = canvas.copy()
        for number, (top, left) in enumerate(windows):
            part = np.s_[top : top + grid, left : left + grid]
            drawn = canvas[part] == job.uvit.mask_token_id
            for step in job.unmask(canvas[part].ravel(), number * each):
                canvas[part], sampled_tokens[part] = (
                    step.tokens.reshape(grid, grid),
                    step.sampled_tokens.reshape(grid, grid),
                )
                if step.index == each - 1:
                    canvas[part][drawn & _at_open_sides(canvas, top, left, job.uvit)] = job.uvit.mask_token_id
                whole = canvas.reshape(1, -1).copy(), sampled_tokens.reshape(1, -1).copy()
                yield Step(number * each + step.index, len(windows) * each, *whole)

    return steps()


_OPERATIONS = {
    "vary": _vary,
    "inpaint": _inpaint,
    "outpaint": _outpaint,
    "edit": _edit,
    "reroll": _reroll,
}


def _canvas(uvit: UViTConfig, edit: Edit) -> tuple[np.ndarray, np.ndarray]:
    """The canvas (h, w) with masks around the known tokens, and where these are, bool (h, w)."""
    height, width = (int(length) for length in edit.settings["grid"])
    top, left, rows, columns = (int(place) for place in edit.settings["known"])
    inside = 0 <= top <= height - rows and 0 <= left <= width - columns and rows >= 1 and columns >= 1
    if not inside or min(height, width) < uvit.grid or height * width > MAX_TOKENS:
        raise ValueError(f"the record of the edit is of {rows}x{columns} tokens on a canvas of {height}x{width}")
    if len(edit.tokens) != rows * columns:
        raise ValueError(f"the record of the edit has {len(edit.tokens)} tokens, expected {rows}x{columns}")
    canvas = np.full((height, width), uvit.mask_token_id, np.int32)
    canvas[top : top + rows, left : left + columns] = edit.tokens.reshape(rows, columns)
    return canvas, canvas != uvit.mask_token_id


def _windows(known: np.ndarray, grid: int) -> list[tuple[int, int]]:
    """Corners of the windows with something to draw, the nearest to the known tokens first."""
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    middle = (rows[0] + rows[-1] + 1 - grid) / 2, (columns[0] + columns[-1] + 1 - grid) / 2
    starts = [
        (top, left) for top in window_starts(known.shape[0], grid) for left in window_starts(known.shape[1], grid)
    ]
    unknown = [(top, left) for top, left in starts if not known[top : top + grid, left : left + grid].all()]
    return sorted(unknown, key=lambda corner: abs(corner[0] - middle[0]) + abs(corner[1] - middle[1]))


def _at_open_sides(canvas: np.ndarray, top: int, left: int, uvit: UViTConfig) -> np.ndarray:
    """bool (grid, grid): a window's cells that lie close to a side behind which the canvas is still masked."""
    grid, close = uvit.grid, max(1, uvit.grid // EDGE)
    beyond = np.pad(canvas == uvit.mask_token_id, 1)  # nothing is open beyond the canvas
    around = beyond[top : top + grid + 2, left : left + grid + 2]
    near = np.zeros((grid, grid), bool)
    near[:close] |= around[0, 1:-1]
    near[-close:] |= around[-1, 1:-1]
    near[:, :close] |= around[1:-1, :1]
    near[:, -close:] |= around[1:-1, -1:]
    return near

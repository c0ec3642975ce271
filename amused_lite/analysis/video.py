"""Zero-shot video, as aMUSEd shows it: a key frame is moved little by little, and what that uncovers is drawn.

The paper warps finished frames, masks them again and runs the last few steps. Here a frame is warped as pixels, so that
motion may be finer than a token, and goes back to tokens through the encoder. Every frame is warped from its key frame
and not from its neighbour, whose errors would add up; only what the key frame does not reach comes from the neighbour.
How much is masked again is a choice: nothing but the uncovered edge is steadiest, and 3 to 5 steps, the paper's choice,
draw everything a little differently each time. docs/pictures.md has the measurements. NumPy and Pillow only.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amused_lite.conditioning import Conditioning
from amused_lite.files.atomic import write_new
from amused_lite.pipeline import AmusedPipeline, check_prompts
from amused_lite.sampling import noise
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.schedule import first_step_for, start_masked
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.system.extras import require_extra
from amused_lite.task import Task

SUFFIXES = (".gif", ".mp4")
MAX_FRAMES = 1000
_FIRST_STEP = 2**21  # a video's noise begins here, apart from that of pictures and of edits
_EDGE_STEPS = 4  # that draw what motion uncovers, where nothing else is masked
_COVERED = 128  # of 255: a cell with less of it known is drawn


@dataclass(frozen=True)
class Motion:
    """How the picture moves, and how it is drawn on the way.

    Raises:
        ValueError: a number is out of range.
    """

    frames: int = 10  # for each key frame; the paper finds 8 to 10 good
    right: float = 8.0  # px that the content moves in each frame; negative for left
    down: float = 0.0
    zoom: float = 1.0  # factor by which it grows in each frame, about the middle
    redraw_steps: int = 0  # last steps of the schedule that each frame runs again
    refresh: float = 0.9  # strength with which a later key frame is drawn anew from the frame before it

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 100:
            raise ValueError(f"frames must be 1 to 100 for each key frame, got {self.frames}")
        for name, value in (("right", self.right), ("down", self.down)):
            if not abs(value) <= 256:  # written so that NaN fails
                raise ValueError(f"{name} must be -256 to 256 px a frame, got {value:g}")
        if not 0.5 <= self.zoom <= 2:
            raise ValueError(f"zoom must be 0.5 to 2 a frame, got {self.zoom:g}")
        if not 0 < self.refresh <= 1:
            raise ValueError(f"refresh must be above 0 and at most 1, got {self.refresh:g}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video."""

    index: int
    key: bool  # whether it is a key frame
    tokens: np.ndarray  # (N,) int32
    image: Image.Image


def make_frames(
    amused: AmusedPipeline,
    prompts: Sequence[str],
    negative_prompt: str,
    options: GenerateOptions,
    motion: Motion,
    image_index: int = 0,
) -> Iterator[Frame]:
    """Draw the frames one by one: a key frame for each prompt, and those that move on from it.

    The first key frame is the picture that `generate` makes of the first prompt. Needs a model that encodes.

    Raises:
        ValueError: a prompt is empty, or a number is out of range.
    """
    for prompt in prompts:
        check_prompts(prompt, negative_prompt)
    total = len(prompts) * motion.frames
    if not 1 <= total <= MAX_FRAMES:
        raise ValueError(f"a video may have 1 to {MAX_FRAMES} frames, got {total}")
    if not 0 <= motion.redraw_steps < options.steps:
        raise ValueError(f"redraw_steps must be 0 or more and below steps, {options.steps}, got {motion.redraw_steps}")
    first_step_for(motion.refresh, options.steps)
    if options.refine:
        raise ValueError("refine is for single pictures; leave it out")
    return _Reel(amused, options, motion, image_index).frames(prompts, negative_prompt)


@dataclass
class _Reel:
    """Model, options and motion of one video, and its encoded prompts."""

    amused: AmusedPipeline
    options: GenerateOptions
    motion: Motion
    image_index: int

    def frames(self, prompts: Sequence[str], negative_prompt: str) -> Iterator[Frame]:
        last: Image.Image | None = None
        for scene, prompt in enumerate(prompts):
            conditioning = self.amused.condition(prompt, negative_prompt, self.options)
            start = scene * self.motion.frames
            if last is None:
                *_, step = self.amused.steps(Task(prompt, negative_prompt, self.options, self.image_index))
                tokens = step.tokens[0]
            else:
                tokens = self._refreshed(last, start, conditioning)
            key = last = self.amused.decode(tokens)
            yield Frame(start, True, tokens, key)
            for number in range(1, self.motion.frames):
                tokens = self._moved(key, last, number, start + number, conditioning)
                last = self.amused.decode(tokens)
                yield Frame(start + number, False, tokens, last)

    def _moved(
        self, key: Image.Image, last: Image.Image, number: int, index: int, conditioning: Conditioning
    ) -> np.ndarray:
        """The tokens of the frame that is `number` steps of motion after its key frame."""
        moved, known = self._warp(key, last, number)
        tokens = self._encode(moved)
        steps = self.motion.redraw_steps
        if steps:
            tokens = self._masked_again(tokens, self.options.steps - steps, index)
        tokens[~known] = self.amused.runtime.config.uvit.mask_token_id
        steps = steps or min(_EDGE_STEPS, self.options.steps)
        return self._drawn(tokens, self.options.steps - steps, index, conditioning)

    def _refreshed(self, last: Image.Image, index: int, conditioning: Conditioning) -> np.ndarray:
        """The tokens of a later key frame: one more step of motion, then drawn anew with the next prompt."""
        moved, known = self._warp(last, last, 1)
        first = first_step_for(self.motion.refresh, self.options.steps)
        tokens = self._masked_again(self._encode(moved), first, index)
        tokens[~known] = self.amused.runtime.config.uvit.mask_token_id
        return self._drawn(tokens, first, index, conditioning)

    def _warp(self, key: Image.Image, last: Image.Image, number: int) -> tuple[Image.Image, np.ndarray]:
        """The next frame's pixels as far as they are known, and in which cells they are, bool (N,)."""
        grid = self.amused.runtime.config.uvit.grid
        moved, known = last.copy(), Image.new("L", last.size, 0)
        for image, count in ((last, 1), (key, number)):
            reach = warp(Image.new("L", image.size, 255), self.motion, count)
            moved.paste(warp(image, self.motion, count), (0, 0), reach)
            known.paste(255, (0, 0), reach)
        cells = np.asarray(known.resize((grid, grid), Image.Resampling.BOX))
        return moved, cells.ravel() > _COVERED

    def _encode(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
        return self.amused.runtime.encode_image(pixels)[0].copy()

    def _masked_again(self, tokens: np.ndarray, first_step: int, index: int) -> np.ndarray:
        """tokens (N,) with as many masked, at random, as there are when the schedule comes to `first_step`."""
        uvit, options = self.amused.runtime.config.uvit, self.options
        count = start_masked(uvit.num_tokens, options.steps, first_step, options.mask_schedule)
        chance = noise.mask_noise(options.seed, self.image_index, _FIRST_STEP + index, uvit.num_tokens)
        tokens[np.argsort(-chance, kind="stable")[:count]] = uvit.mask_token_id
        return tokens

    def _drawn(self, tokens: np.ndarray, first_step: int, index: int, conditioning: Conditioning) -> np.ndarray:
        """What is masked, drawn by the last steps of the schedule."""
        uvit = self.amused.runtime.config.uvit
        if not (tokens == uvit.mask_token_id).any():
            return tokens
        *_, step = unmask_tokens(
            self.amused.runtime,
            conditioning,
            self.options,
            self.image_index,
            tokens[None],
            first_step,
            open_tokens=uvit.num_tokens,
            noise_step=_FIRST_STEP + index * self.options.steps,
        )
        return step.tokens[0]


def warp(image: Image.Image, motion: Motion, count: int) -> Image.Image:
    """A picture after `count` frames of motion; black where it does not reach."""
    scale = motion.zoom**-count
    middle_x, middle_y = image.width / 2, image.height / 2
    # From a place in the result to one in the picture, as Pillow wants it.
    across = (scale, 0.0, middle_x - scale * (middle_x + motion.right * count))
    down = (0.0, scale, middle_y - scale * (middle_y + motion.down * count))
    return image.transform(image.size, Image.Transform.AFFINE, (*across, *down), Image.Resampling.BICUBIC)


def describe(prompts: Sequence[str], negative_prompt: str, options: GenerateOptions, motion: Motion) -> str:
    """What made a video, as JSON for its file's comment."""
    values: dict[str, Any] = {"prompts": list(prompts), "negative_prompt": negative_prompt}
    settings = {name: value for name, value in asdict(options).items() if value is not None}
    return json.dumps({"amused_lite": values | settings | {"motion": asdict(motion)}})


def write_video(frames: Sequence[Image.Image], path: str | Path, rate: float, comment: str = "") -> Path:
    """Write frames as a GIF, or as H.264 in an MP4; returns the path it got, which is never another file's.

    Args:
        frames: RGB, all of one size.
        path: ends in .gif or .mp4.
        rate: frames in a second.
        comment: text for the file's own comment field.

    Raises:
        ValueError: the suffix or the rate is of another kind.
        MissingExtraError: MP4 needs the `video` extra.
        OSError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    if not (math.isfinite(rate) and 1 <= rate <= 60):
        raise ValueError(f"rate must be 1 to 60 frames a second, got {rate:g}")
    match target.suffix.lower():
        case ".gif":
            data = _gif(frames, rate, comment)
        case ".mp4":
            data = _mp4(frames, rate, comment)
        case other:
            raise ValueError(f"a video must end in .gif or .mp4, got {other!r}")
    return write_new(target, data.getbuffer())


def _gif(frames: Sequence[Image.Image], rate: float, comment: str) -> BytesIO:
    """All frames in the colours of one palette, since palettes that change flicker."""
    shown = frames[:: max(1, len(frames) // 8)]
    together = Image.new("RGB", (frames[0].width, frames[0].height * len(shown)))
    for index, frame in enumerate(shown):
        together.paste(frame, (0, index * frame.height))
    palette = together.quantize(256, dither=Image.Dither.NONE)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    data = BytesIO()
    first.save(data, "GIF", save_all=True, append_images=rest, duration=round(1000 / rate), loop=0, comment=comment)
    return data


def _mp4(frames: Sequence[Image.Image], rate: float, comment: str) -> BytesIO:
    require_extra("video", "writing MP4", "av")
    from fractions import Fraction

    import av

    data = BytesIO()
    with av.open(data, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", Fraction(rate).limit_denominator(1000), {"crf": "18"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"  # what every player and browser reads
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return data

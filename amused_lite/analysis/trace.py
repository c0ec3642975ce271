"""Trace of a picture: when each token was fixed, its probability, and the alternatives. Knows no model.

Steps that carry their log-probabilities fold into a `Trace`; its arrays become a file, maps over the picture and films
of the unmasking. Codes are turned into pixels by whatever the caller gives: the model's decoder, or `colour_preview`
with a bundle's colour table, which costs nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amused_lite.files.atomic import write_new
from amused_lite.sampling.loop import Step

ALTERNATIVES = 5  # likeliest codes that a trace keeps for each token
# Viridis (Smith and van der Walt 2015; CC0) at equal distances: even to the eye, and to eyes that see fewer colours.
_ANCHORS = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))
_LEGEND = 44  # px below a map
_FRAME_TIME, _LAST_TIME = 250, 2000  # ms of a film's frames

Decode = Callable[[np.ndarray], Image.Image]  # tokens (N,) without masks -> picture


@dataclass(frozen=True, eq=False)
class Trace:
    """The steps of one picture. S steps, N tokens; probabilities are after guidance, before temperature."""

    tokens: np.ndarray  # (N,) int32, the picture's
    frames: np.ndarray  # (S, N) int32, the tokens after each step, with mask tokens until the last
    sampled_tokens: np.ndarray  # (S, N) int32, every token as drawn in that step
    fixed_at: np.ndarray  # (N,) int32, the step that fixed the token, from 0; -1 where it was known from the start
    probability: np.ndarray  # (N,) float32, of the token in the step that fixed it; 1 where it was known
    alternatives: np.ndarray  # (N, 5) int32, the likeliest codes in that step, likeliest first; may hold the token
    alternative_probability: np.ndarray  # (N, 5) float32

    @classmethod
    def of(cls, steps: Iterable[Step], mask_token_id: int) -> Self:
        """Fold the steps of one picture, which must have been made with trace=True.

        A token that a refining step drew again counts with its last draw.

        Raises:
            ValueError: there is no step, or one without log-probabilities.
        """
        frames: list[np.ndarray] = []
        sampled_tokens: list[np.ndarray] = []
        count = 0
        for step in steps:
            if step.log_probs is None or step.drawn is None:
                raise ValueError("the steps carry no log-probabilities; ask for them with trace=True")
            log_probs, tokens = step.log_probs[0], step.tokens[0]
            if not frames:
                count = len(tokens)
                kept = min(ALTERNATIVES, log_probs.shape[-1])
                fixed_at = np.full(count, -1, np.int32)
                probability = np.ones(count, np.float32)
                alternatives = np.repeat(tokens[:, None], kept, 1)
                shares = np.zeros((count, kept), np.float32)
            fixed = np.flatnonzero(step.drawn[0] & (tokens != mask_token_id))
            fixed_at[fixed] = len(frames)
            probability[fixed] = np.exp(log_probs[fixed, tokens[fixed]])
            alternatives[fixed], shares[fixed] = _likeliest(log_probs[fixed], kept)
            frames.append(tokens.copy())
            sampled_tokens.append(step.sampled_tokens[0].copy())
        if not frames:
            raise ValueError("there is no step to look at")
        return cls(frames[-1], np.stack(frames), np.stack(sampled_tokens), fixed_at, probability, alternatives, shares)

    @property
    def second_choice(self) -> np.ndarray:
        """(N,) int32: for each token the likeliest code that it did not become."""
        first_is_own = self.alternatives[:, 0] == self.tokens
        return np.where(first_is_own, self.alternatives[:, 1], self.alternatives[:, 0]).astype(np.int32)

    def save(self, path: str | Path) -> Path:
        """Write all arrays to an .npz file, which loads without pickle; returns the path it got."""
        data = BytesIO()
        stored = {"sampled_tokens": "guesses"}  # the name in files
        arrays = {stored.get(name, name): array for name, array in asdict(self).items()}
        np.savez_compressed(data, **arrays)
        return write_new(Path(path), data.getbuffer())


def _likeliest(log_probs: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """log_probs (n, K) -> the `count` likeliest codes and their probabilities, likeliest first; ties by code."""
    codes = np.argsort(-log_probs, -1, kind="stable")[:, :count]
    return codes.astype(np.int32), np.exp(np.take_along_axis(log_probs, codes, -1))


def write_maps(trace: Trace, decode: Decode, folder: str | Path) -> list[Path]:
    """Write `when.png`, `sure.png`, `second-choice.png` and `trace.npz`; returns the paths they got."""
    folder = Path(folder)
    picture = decode(trace.tokens)
    steps = len(trace.frames)
    when = overlay(picture, trace.fixed_at + 1, (1, steps), "step that fixed the token", str)
    probable = overlay(
        picture, trace.probability, (0, 1), "probability of the token when it was fixed", "{:.2f}".format
    )
    pictures = {"when.png": when, "sure.png": probable, "second-choice.png": decode(trace.second_choice)}
    paths = [write_new(folder / name, _png(image)) for name, image in pictures.items()]
    return [*paths, trace.save(folder / "trace.npz")]


def colours_of(shares: np.ndarray) -> np.ndarray:
    """Shares 0...1 of any shape -> RGB uint8 with one more axis, from dark violet to bright yellow."""
    place = np.clip(shares, 0, 1) * (len(_ANCHORS) - 1)
    channels = [np.interp(place, range(len(_ANCHORS)), anchors) for anchors in zip(*_ANCHORS, strict=True)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def overlay(
    picture: Image.Image,
    values: np.ndarray,
    span: tuple[float, float],
    title: str,
    say: Callable[[float], str],
    strength: float = 0.65,
) -> Image.Image:
    """Values (N,) of a square grid as colours over a grey picture, with a legend of the span's ends below."""
    low, high = span
    side = round(len(values) ** 0.5)
    shares = (values.reshape(side, side) - low) / max(high - low, 1e-9)
    heat = Image.fromarray(colours_of(shares)).resize(picture.size, Image.Resampling.NEAREST)
    blended = Image.blend(picture.convert("L").convert("RGB"), heat, strength)
    sheet = Image.new("RGB", (picture.width, picture.height + _LEGEND), "white")
    sheet.paste(blended, (0, 0))
    _legend(sheet, picture.height, title, (say(low), say(high)))
    return sheet


def _legend(sheet: Image.Image, top: int, title: str, ends: tuple[str, str]) -> None:
    font = ImageFont.load_default(13)
    pen = ImageDraw.Draw(sheet)
    left, right = (int(font.getlength(end)) + 12 for end in ends)
    length = max(sheet.width - left - right, 2)
    bar = Image.fromarray(colours_of(np.linspace(0, 1, length))[None]).resize((length, 12))
    sheet.paste(bar, (left, top + 6))
    pen.text((6, top + 4), ends[0], "black", font)
    pen.text((sheet.width - right + 6, top + 4), ends[1], "black", font)
    pen.text((sheet.width / 2, top + 22), title, "black", font, anchor="ma")


def colour_preview(colours: np.ndarray, size: tuple[int, int]) -> Decode:
    """A decoder that costs nothing: each code as its mean colour, from a bundle's table (K, 3), blurred to `size`."""

    def decode(tokens: np.ndarray) -> Image.Image:
        side = round(len(tokens) ** 0.5)
        return Image.fromarray(colours[tokens.reshape(side, side)]).resize(size, Image.Resampling.BICUBIC)

    return decode


def film_frames(trace: Trace, decode: Decode, mask_token_id: int) -> Iterator[Image.Image]:
    """One picture for each step: its sampled tokens decoded, greyed where tokens are still masked."""
    for tokens, sampled_tokens in zip(trace.frames, trace.sampled_tokens, strict=True):
        picture = decode(sampled_tokens).convert("RGB")
        side = round(len(tokens) ** 0.5)
        masked = np.where(tokens == mask_token_id, 150, 0).astype(np.uint8).reshape(side, side)
        veil = Image.fromarray(masked).resize(picture.size, Image.Resampling.NEAREST)
        yield Image.composite(Image.new("RGB", picture.size, (128, 128, 128)), picture, veil)


def write_film(frames: Sequence[Image.Image], path: str | Path) -> Path:
    """Write frames as a GIF, or as a .png strip read like text; returns the path it got."""
    target = Path(path)
    data = BytesIO()
    if target.suffix.lower() == ".gif":
        times = [_FRAME_TIME] * (len(frames) - 1) + [_LAST_TIME]
        frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    else:
        _strip(frames).save(data, "PNG")
    return write_new(target, data.getbuffer())


def _strip(frames: Sequence[Image.Image], columns: int = 6, side: int = 192) -> Image.Image:
    """All frames small, with the number of the step in the corner."""
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * (side + 4) + 4, rows * (side + 4) + 4), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        place = (4 + column * (side + 4), 4 + row * (side + 4))
        sheet.paste(frame.resize((side, side), Image.Resampling.LANCZOS), place)
        pen.text((place[0] + 6, place[1] + 4), str(index + 1), "white", font, stroke_width=2, stroke_fill="black")
    return sheet


def _png(image: Image.Image) -> memoryview:
    data = BytesIO()
    image.save(data, "PNG")
    return data.getbuffer()

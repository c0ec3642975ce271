"""Prompt in, picture out: the host loop. NumPy only; knows no engine beyond the `Runtime` protocol."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from amused_lite import noise
from amused_lite.conditioning import Conditioning, MicroConditioning, stack_pair
from amused_lite.config import ModelConfig
from amused_lite.masking import mask_schedule
from amused_lite.png import Recipe, save_png
from amused_lite.runtimes.base import ModelInfo, Runtime, StepControls, StepNoise
from amused_lite.tokenizer import Tokenizer

MAX_PROMPT = 5000  # characters: far more than any model reads, and short enough to be meant


@dataclass(frozen=True)
class GenerateOptions:
    """How to make a picture. None stands for the model's own default.

    Raises:
        ValueError: a number is out of range.
    """

    steps: int = 12
    guidance_scale: float | None = None
    mask_temperature: tuple[float, float] = (2.0, 0.0)  # at the first and at the last step
    token_temperature: float | None = None
    seed: int = 0
    micro_conditioning: MicroConditioning | None = None  # None: the model's own size, no crop, score 6

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}")
        if not 0 <= self.seed <= noise.MAX_SEED:
            raise ValueError(f"seed must be 0 to {noise.MAX_SEED}, got {self.seed}")
        if self.guidance_scale is not None:
            _check_number("guidance_scale", self.guidance_scale, 0, 100)
        if self.token_temperature is not None:
            _check_number("token_temperature", self.token_temperature, 0.01, 10)
        for value in self.mask_temperature:
            _check_number("mask_temperature", value, 0, 1000)

    def complete(self, config: ModelConfig) -> "Settings":
        """With this model's defaults in the place of None.

        Raises:
            ValueError: there are more steps than this model has tokens.
        """
        if self.steps > config.uvit.num_tokens:
            most = f"at most {config.uvit.num_tokens} for this model (one token each)"
            raise ValueError(f"steps must be {most}, got {self.steps}")
        size = config.image_size
        return Settings(
            steps=self.steps,
            guidance_scale=config.guidance_scale if self.guidance_scale is None else self.guidance_scale,
            mask_temperature=self.mask_temperature,
            token_temperature=config.token_temperature if self.token_temperature is None else self.token_temperature,
            seed=self.seed,
            micro_conditioning=self.micro_conditioning or MicroConditioning(size, size),
        )


class Settings(NamedTuple):
    """`GenerateOptions` with nothing left open."""

    steps: int
    guidance_scale: float
    mask_temperature: tuple[float, float]
    token_temperature: float
    seed: int
    micro_conditioning: MicroConditioning


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be {low:g} to {high:g}, got {value:g}")


class Step(NamedTuple):
    """The state after one unmask step."""

    index: int  # from 0
    steps: int
    tokens: np.ndarray  # (B, N) int32, with mask tokens until the last step
    guess: np.ndarray  # (B, N) int32, every token as drawn; decodes to a preview


def _draw_noise(config: ModelConfig, seed: int, picture: int, rows: int, step: int) -> StepNoise:
    n, k = config.uvit.num_tokens, config.uvit.codebook_size
    pictures = range(picture, picture + rows)
    return StepNoise(
        np.stack([noise.token_noise(seed, number, step, n, k) for number in pictures]),
        np.stack([noise.order_noise(seed, number, step, n) for number in pictures]),
    )


def unmask_tokens(
    runtime: Runtime,
    conditioning: Conditioning,
    options: GenerateOptions,
    picture: int = 0,
    tokens: np.ndarray | None = None,
) -> Iterator[Step]:
    """Run all unmask steps, yielding after each (aMUSEd, section 3; the law is MaskGIT's parallel decoding).

    The next step's noise is drawn on a thread while a step runs. Closing the iterator stops the work.

    Args:
        runtime: any engine.
        conditioning: 2B rows, negatives first.
        options: None in it stands for the model's default.
        picture: number of the first row's picture within the seed; the rows after it count on.
        tokens: (B, N) int32 to start from, mask tokens where something is to be drawn; all masked when None.

    Raises:
        ValueError: an array or a number does not fit the model.
    """
    config = runtime.config
    settings = options.complete(config)
    if tokens is None:
        rows = conditioning.block_text.shape[0] // 2
        tokens = np.full((rows, config.uvit.num_tokens), config.uvit.mask_token_id, np.int32)
    masked = (tokens == config.uvit.mask_token_id).sum(-1)
    steps = settings.steps
    schedules = [mask_schedule(int(count), steps) if count else [0] * steps for count in masked]
    temperatures = np.linspace(*settings.mask_temperature, steps, dtype=np.float32)
    with ThreadPoolExecutor(1, "noise") as pool:
        drawing = pool.submit(_draw_noise, config, settings.seed, picture, len(tokens), 0)
        for index, num_masked in enumerate(np.array(schedules, np.int32).T):
            step_noise = drawing.result()
            if index + 1 < steps:
                drawing = pool.submit(_draw_noise, config, settings.seed, picture, len(tokens), index + 1)
            controls = StepControls(
                settings.guidance_scale, settings.token_temperature, float(temperatures[index]), num_masked.copy()
            )
            tokens, guess = runtime.unmask(tokens, conditioning, controls, step_noise)
            yield Step(index, steps, tokens, guess)


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture and how it was made."""

    image: Image.Image
    recipe: Recipe

    def save(self, path: str | Path, metadata: bool = True) -> Path:
        """Write a PNG, never over another file; returns the path it got. See `png.save_png`."""
        return save_png(self.image, path, self.recipe, metadata)


def to_image(pixels: np.ndarray) -> Image.Image:
    """pixels (3, H, W) in 0...1 to a picture."""
    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def check_prompts(prompt: str, negative_prompt: str = "") -> None:
    """Raise ValueError when there is nothing to draw, or too much to be meant."""
    if not prompt.strip():
        raise ValueError('the prompt is empty; say what to draw, for example "a red balloon above a blue house"')
    for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
        if len(text) > MAX_PROMPT:
            size = f"{len(text)} characters ({len(text.split())} words)"
            raise ValueError(f"the {name} has {size}, at most {MAX_PROMPT} are accepted; shorten it")


class Amused:
    """A model that is ready to draw, on whichever runtime opened it.

    >>> amused = Amused.open("tiny")
    >>> amused.generate("a red balloon above a blue house", seed=7).save("balloon.png")
    """

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer, info: ModelInfo, keep_loaded: bool = False) -> None:
        """keep_loaded: keep every module in memory, for many prompts; False frees what a picture no longer needs."""
        self.runtime, self.tokenizer, self.info = runtime, tokenizer, info
        self.keep_loaded = keep_loaded
        self._empty: dict[MicroConditioning, Conditioning] = {}
        self._last: tuple[tuple[Any, ...], Conditioning] | None = None

    @classmethod
    def open(
        cls, model: str | Path = "tiny", runtime: str = "auto", threads: int | None = None, keep_loaded: bool = False
    ) -> Self:
        """Open a model: "tiny", a bundle folder, a diffusers folder or a hub id. See `runtimes.open.open_model`."""
        from amused_lite.runtimes.open import open_model

        return cls(*open_model(model, runtime, threads), keep_loaded=keep_loaded)

    def generate(self, prompt: str, negative_prompt: str = "", picture: int = 0, **options: Any) -> Picture:
        """Make one picture; `options` are the fields of `GenerateOptions`.

        Raises:
            ValueError: the prompt is empty or too long, or an option is out of range.
        """
        chosen = GenerateOptions(**options)
        *_, last = self.steps(prompt, negative_prompt, picture, chosen)
        return self.finish(last.tokens[0], prompt, negative_prompt, picture, chosen)

    def steps(
        self, prompt: str, negative_prompt: str = "", picture: int = 0, options: GenerateOptions | None = None
    ) -> Iterator[Step]:
        """The unmask steps of one picture, for progress, previews and cancelling; hand the last to `finish`."""
        options = options or GenerateOptions()
        micro = options.complete(self.runtime.config).micro_conditioning
        return unmask_tokens(self.runtime, self._conditioning(prompt, negative_prompt, micro), options, picture)

    def finish(
        self, tokens: np.ndarray, prompt: str, negative_prompt: str, picture: int, options: GenerateOptions
    ) -> Picture:
        """Decode tokens (N,) without masks; the other arguments are what they were made from."""
        config = self.runtime.config
        settings = options.complete(config)
        if not self.keep_loaded:
            self.runtime.release("unmask")
        image = to_image(self.runtime.decode_image(tokens[None].astype(np.int32, copy=False))[0])
        recipe = Recipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=settings.seed,
            picture=picture,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            mask_temperature=settings.mask_temperature,
            token_temperature=settings.token_temperature,
            micro_conditioning=astuple(settings.micro_conditioning),
            width=image.width,
            height=image.height,
            model=self.info.name,
            model_hash=self.info.model_hash,
            runtime=self.runtime.name,
            codebook_size=config.uvit.codebook_size,
            tokens=tokens,
        )
        return Picture(image, recipe)

    def dropped(self, prompt: str) -> str:
        """The end of a prompt that the model cannot read, usually empty."""
        return self.tokenizer.dropped(prompt)

    def _conditioning(self, prompt: str, negative_prompt: str, micro: MicroConditioning) -> Conditioning:
        """The (negative, prompt) pair; the last pair and the empty prompt's half are remembered."""
        check_prompts(prompt, negative_prompt)
        key = (prompt, negative_prompt, micro)
        if self._last is None or self._last[0] != key:
            pair = stack_pair(self._encode(negative_prompt, micro), self._encode(prompt, micro))
            self._last = (key, pair)
            if not self.keep_loaded:
                self.runtime.release("encode_prompt")
        return self._last[1]

    def _encode(self, text: str, micro: MicroConditioning) -> Conditioning:
        if text == "" and micro in self._empty:
            return self._empty[micro]
        conditioning = self.runtime.encode_prompt(self.tokenizer.encode([text]), micro.array())
        if text == "":
            self._empty = {micro: conditioning}
        return conditioning

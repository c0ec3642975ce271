"""`AmusedPipeline`: prompt in, picture out. NumPy only; knows no engine beyond the `Runtime` protocol."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from amused_lite.conditioning import Conditioning, MicroConditioning, stack_pair
from amused_lite.files.png import Edit, Recipe, save_png
from amused_lite.memory import low_memory
from amused_lite.runtimes.base import ModelInfo, Runtime
from amused_lite.sampling.loop import Step, mask_least_likely, token_log_likelihood, unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.tokenizer import Tokenizer

MAX_PROMPT = 5000  # characters: far more than any model reads, and short enough to be meant
REFINE_SHARE = 0.3  # share of the tokens, the least likely ones, that refining draws again


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


class AmusedPipeline:
    """A model that is ready to draw, on whichever runtime opened it.

    >>> amused = AmusedPipeline.open("tiny")
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
        cls,
        model: str | Path = "tiny",
        runtime: str = "auto",
        threads: int | None = None,
        keep_loaded: bool = False,
        adapters: Sequence[str] = (),
        style_scale: float | None = None,
    ) -> Self:
        """Open a model: "tiny", a bundle folder, a diffusers folder or a hub id. See `runtimes.open.open_model`.

        adapters: styles, each as "FILE" or "FILE:WEIGHT".
        style_scale: turns on two-scale guidance, see `runtimes.two_scale`.
        """
        from amused_lite.runtimes.open import open_model

        return cls(*open_model(model, runtime, threads, adapters, style_scale), keep_loaded=keep_loaded)

    def generate(self, prompt: str, negative_prompt: str = "", image_index: int = 0, **options: Any) -> Picture:
        """Make one picture; `options` are the fields of `GenerateOptions`.

        Raises:
            ValueError: the prompt is empty or too long, or an option is out of range.
        """
        chosen = GenerateOptions(**options)
        *_, last = self.steps(prompt, negative_prompt, image_index, chosen)
        return self.finish(last.tokens[0], prompt, negative_prompt, image_index, chosen)

    def steps(
        self,
        prompt: str,
        negative_prompt: str = "",
        image_index: int = 0,
        options: GenerateOptions | None = None,
        trace: bool = False,
    ) -> Iterator[Step]:
        """The unmask steps of one picture, for progress, previews and cancelling; hand the last to `finish`.

        trace: have every step carry its log-probabilities.
        """
        options = options or GenerateOptions()
        return self._all_steps(self.condition(prompt, negative_prompt, options), image_index, options, trace)

    def _all_steps(
        self, conditioning: Conditioning, image_index: int, options: GenerateOptions, trace: bool
    ) -> Iterator[Step]:
        total = options.steps + options.refine
        tokens = None
        for step in unmask_tokens(self.runtime, conditioning, options, image_index, trace=trace):
            tokens = step.tokens
            yield step._replace(steps=total)
        if options.refine:
            assert tokens is not None
            again = replace(options, steps=options.refine, refine=0)
            for step in self.redraw(tokens, REFINE_SHARE, conditioning, again, image_index, options.steps, trace):
                yield step._replace(index=options.steps + step.index, steps=total)

    def redraw(
        self,
        tokens: np.ndarray,
        share: float,
        conditioning: Conditioning,
        options: GenerateOptions,
        image_index: int = 0,
        noise_step: int = 0,
        trace: bool = False,
    ) -> Iterator[Step]:
        """Mask the `share` of tokens (B, N) that the model finds least likely, and draw them again."""
        uvit = self.runtime.config.uvit
        scale = options.complete(self.runtime.config).guidance_scale
        log_likelihood = token_log_likelihood(self.runtime, conditioning, tokens, scale)
        start = mask_least_likely(tokens, log_likelihood, max(1, int(share * uvit.num_tokens)), uvit.mask_token_id)
        return unmask_tokens(
            self.runtime, conditioning, options, image_index, start, noise_step=noise_step, trace=trace
        )

    def finish(
        self,
        tokens: np.ndarray,
        prompt: str,
        negative_prompt: str,
        image_index: int,
        options: GenerateOptions,
        edit: Edit | None = None,
        image: Image.Image | None = None,
    ) -> Picture:
        """Decode tokens (N,) without masks; the other arguments are what they were made from.

        image: the finished picture, where it is not just the tokens decoded.
        """
        config = self.runtime.config
        settings = options.complete(config)
        image = image or self.decode(tokens)
        values = {**vars(settings), "micro_conditioning": astuple(settings.micro_conditioning)}
        recipe = Recipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            picture=image_index,
            **values,
            width=image.width,
            height=image.height,
            model=self.info.name,
            model_hash=self.info.model_hash,
            runtime=self.runtime.name,
            codebook_size=config.uvit.codebook_size,
            tokens=tokens,
            edit=edit,
            adapters=self.info.adapter_labels,
        )
        return Picture(image, recipe)

    def decode(self, tokens: np.ndarray) -> Image.Image:
        """Tokens (N,) without masks to a picture."""
        self.release("unmask")
        return to_image(self.runtime.decode_image(tokens[None].astype(np.int32, copy=False))[0])

    def release(self, module: str) -> None:
        """Free a module that this picture no longer needs, unless everything is to stay loaded."""
        if not self.keep_loaded:
            self.runtime.release(module)

    def dropped(self, prompt: str) -> str:
        """The end of a prompt that the model cannot read, usually empty."""
        return self.tokenizer.dropped(prompt)

    def condition(self, prompt: str, negative_prompt: str, options: GenerateOptions) -> Conditioning:
        """The (negative, prompt) pair of rows; the last pair and the empty prompt's half are remembered.

        Raises:
            ValueError: the prompt is empty or too long.
        """
        check_prompts(prompt, negative_prompt)
        micro = options.complete(self.runtime.config).micro_conditioning
        key = (prompt, negative_prompt, micro)
        if self._last is None or self._last[0] != key:
            pair = stack_pair(self._encode(negative_prompt, micro), self._encode(prompt, micro))
            self._last = (key, pair)
            self.release("encode_prompt")
        return self._last[1]

    def _encode(self, text: str, micro: MicroConditioning) -> Conditioning:
        if text == "" and micro in self._empty:
            return self._empty[micro]
        conditioning = self.runtime.encode_prompt(self.tokenizer.encode([text]), micro.array())
        if text == "" and not low_memory():
            self._empty = {micro: conditioning}
        return conditioning


Amused = AmusedPipeline  # its earlier name, kept for programs that import it

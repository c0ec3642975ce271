"""`AmusedPipeline`: prompt in, picture out. NumPy only; knows no engine beyond the `Runtime` protocol."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from amused_lite.conditioning import Conditioning, MicroConditioning, stack_pair
from amused_lite.editing.canvas import colour_cells, enlarger
from amused_lite.editing.geometry import decode_windows
from amused_lite.editing.token_operations import count_steps, edit_steps
from amused_lite.files.png import Recipe, save_png
from amused_lite.runtimes.base import ModelInfo, Runtime
from amused_lite.sampling.first_step import FirstStep
from amused_lite.sampling.loop import Step, mask_least_likely, token_log_likelihood, unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.system.memory import low_memory
from amused_lite.task import Task
from amused_lite.tokenizer import Tokenizer

MAX_PROMPT = 5000  # characters: far more than any model reads, and short enough to be meant
REFINE_SHARE = 0.3  # share of the tokens, the least likely ones, that refining draws again
Painter = Callable[[np.ndarray, np.ndarray], Image.Image]  # tokens (N,), colours (K, 3) -> a preview
Watch = Callable[[Iterator[Step], int], Iterable[Step]]  # steps and how many there are -> the same steps


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
        self._first = FirstStep(runtime)

    @classmethod
    def open(
        cls,
        model: str | Path = "tiny",
        runtime: str = "auto",
        threads: int | None = None,
        keep_loaded: bool = False,
        adapters: Sequence[str] = (),
        style_scale: float | None = None,
        device: str = "auto",
    ) -> Self:
        """Open a model: "tiny", a bundle folder, a diffusers folder or a hub id. See `runtimes.open.open_model`.

        adapters: styles, each as "FILE" or "FILE:WEIGHT".
        style_scale: turns on two-scale guidance, see `runtimes.two_scale`.
        device: see `runtimes.devices`.
        """
        from amused_lite.runtimes.open import open_model

        return cls(*open_model(model, runtime, threads, adapters, style_scale, device), keep_loaded=keep_loaded)

    def generate(self, prompt: str, negative_prompt: str = "", image_index: int = 0, **options: Any) -> Picture:
        """Make one picture; `options` are the fields of `GenerateOptions`.

        Raises:
            ValueError: the prompt is empty or too long, or an option is out of range.
        """
        return self.run(Task(prompt, negative_prompt, GenerateOptions(**options), image_index))

    def run(self, task: Task, watch: Watch = lambda steps, total: steps) -> Picture:
        """All steps of a task, then its picture.

        Raises:
            ValueError: see `steps`.
        """
        *_, last = watch(self.steps(task), self.total_steps(task))
        return self.finish(task, last.picture_tokens)

    def total_steps(self, task: Task) -> int:
        """How many steps a task has where nobody stops it."""
        if task.edit is None:
            return task.options.steps + task.options.refine
        return count_steps(self.runtime.config, task.options, task.edit)

    def steps(self, task: Task) -> Iterator[Step]:
        """The unmask steps of a task, for progress, previews and cancelling; hand the last one's tokens to `finish`.

        Raises:
            ValueError: at once, where the task cannot be done by this model.
        """
        conditioning = self.condition(task.prompt, task.negative_prompt, task.options)
        if task.edit is None:
            steps = self._new_picture(task, conditioning)
        else:
            steps = edit_steps(self.runtime, conditioning, task.options, task.image_index, task.edit)
        if task.stopped_after is not None and not 1 <= task.stopped_after <= self.total_steps(task):
            has = f"after step {task.stopped_after} and has only {self.total_steps(task)}"
            raise ValueError(f"the recipe was stopped {has}")
        return islice(steps, task.stopped_after)

    def _new_picture(self, task: Task, conditioning: Conditioning) -> Iterator[Step]:
        options, total = task.options, self.total_steps(task)
        given = self.runtime, conditioning
        first = self._first if self.keep_loaded and self.runtime.first_step else None  # for one picture it is no use
        for step in unmask_tokens(*given, options, task.image_index, trace=task.trace, first=first):
            yield step._replace(steps=total)
        if not options.refine:
            return
        uvit = self.runtime.config.uvit
        scale = options.complete(self.runtime.config).guidance_scale
        log_likelihood = token_log_likelihood(*given, step.tokens, scale)
        count = max(1, int(REFINE_SHARE * uvit.num_tokens))
        start = mask_least_likely(step.tokens, log_likelihood, count, uvit.mask_token_id)
        again = replace(options, steps=options.refine, refine=0)
        number = options.steps  # of the noise too
        for step in unmask_tokens(*given, again, task.image_index, start, noise_step=number, trace=task.trace):
            yield step._replace(index=number + step.index, steps=total)

    def finish(self, task: Task, tokens: np.ndarray) -> Picture:
        """The picture of a task, from its tokens (N,) without masks."""
        config = self.runtime.config
        settings = task.options.complete(config)
        drawn = self.decode(tokens, task.canvas and task.canvas.grid)
        image = drawn if task.canvas is None else task.canvas.compose(drawn)
        values = {**vars(settings), "micro_conditioning": astuple(settings.micro_conditioning)}
        recipe = Recipe(
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            picture=task.image_index,
            **values,
            width=image.width,
            height=image.height,
            model=self.info.name,
            model_hash=self.info.model_hash,
            runtime=self.runtime.name,
            codebook_size=config.uvit.codebook_size,
            tokens=tokens,
            edit=task.edit,
            adapters=self.info.adapter_labels,
            stopped_after=task.stopped_after,
        )
        return Picture(image, recipe)

    def painter(self, task: Task) -> Painter:
        """What shows a task's picture as it forms, from tokens (N,), some masked, and codes' mean colours (K, 3).

        It is quick, and keeps neither the model nor a large picture in memory.
        """
        size, side = self.runtime.config.image_size, self.runtime.config.uvit.grid
        paint, grid = enlarger((size, size)), (side, side)
        if task.canvas is not None:
            paint, grid = task.canvas.painter(), task.canvas.grid or grid
        return lambda tokens, colours: paint(colour_cells(colours, tokens, grid))

    def decode(self, tokens: np.ndarray, grid: tuple[int, int] | None = None) -> Image.Image:
        """Tokens (N,) without masks to a picture; those of a `grid` (rows, columns) that is larger window by window."""
        self.release("unmask")
        if grid is None:
            return to_image(self.runtime.decode_image(tokens[None].astype(np.int32, copy=False))[0])
        config = self.runtime.config
        cell = config.vqgan.downsample_factor
        return decode_windows(self.runtime.decode_image, tokens.reshape(grid), config.uvit.grid, cell)

    def remarks(self, prompt: str, negative_prompt: str = "") -> list[str]:
        """What the owner of a picture should know: what the model cannot read or was never taught, how adapters fit."""
        said = list(self.info.remarks)
        read = ""
        for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
            rest = self.tokenizer.dropped(text)
            read += f" {text.rstrip().removesuffix(rest)}"
            if rest:
                shown = rest if len(rest) <= 60 else rest[:57] + "..."
                said.append(f"the {name} is too long for this model; not read: {shown!r}")
        if self.info.vocabulary is not None:
            taught = " ".join(f"{adapter.record.name} {adapter.record.trigger}" for adapter, _ in self.info.adapters)
            said += filter(None, [self.info.vocabulary.remark(read, taught)])
        for adapter, weight in self.info.adapters:
            trigger = adapter.record.trigger
            if weight > 0 and trigger and trigger not in prompt:
                said.append(f"adapter {adapter.record.name!r} learned its look as {trigger!r}; say so in the prompt")
        return said

    def release(self, module: str) -> None:
        """Free a module that this picture no longer needs, unless everything is to stay loaded."""
        if not self.keep_loaded:
            self.runtime.release(module)

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

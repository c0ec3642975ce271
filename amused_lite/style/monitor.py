"""Monitor of style training: sample pictures, their style score, and their text score."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from PIL import Image

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.files.atomic import replace_text
from amused_lite.pipeline import AmusedPipeline
from amused_lite.reading import read_json
from amused_lite.sampling import noise
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.style.score import Picture, StyleStatistics

SCORES = "scores.json"
HIDDEN = 0.6  # of the tokens, where the text score asks how likely they are
Score = Annotated[float, Meta(ge=-1e9, le=1e9)]


class _Scores(Struct):
    """What is kept of a training that was stopped."""

    prompts: Annotated[list[str], Meta(max_length=1000)]
    history: Annotated[list[tuple[Annotated[int, Meta(ge=0)], Score, Score]], Meta(max_length=100_000)]


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture with its prompt and the tokens it was made of."""

    prompt: str
    image: Image.Image
    tokens: np.ndarray  # (N,)


def draw_samples(amused: AmusedPipeline, prompts: Sequence[str], seed: int = 0) -> list[Sample]:
    """One picture of each prompt; prompt k has seed + k."""
    pictures = [(prompt, amused.generate(prompt, seed=seed + k)) for k, prompt in enumerate(prompts)]
    return [Sample(prompt, picture.image, picture.recipe.tokens) for prompt, picture in pictures]


def text_scores(amused: AmusedPipeline, samples: Sequence[Sample]) -> list[float]:
    """For each picture: by how many nats a token its own prompt explains it better than the other samples' prompts do.

    The drawing model itself is asked, about tokens that are hidden from it. A model that has come to draw one picture
    whatever it is told scores 0; no image encoder is needed. One sample alone scores 0 as well.
    """
    config = amused.runtime.config
    uvit = config.uvit
    micro = GenerateOptions().complete(config).micro_conditioning.array()
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    said = {text: amused.runtime.encode_prompt(amused.tokenizer.encode([text]), micro) for text in prompts}
    hidden = noise.order_noise(0, 0, 0, uvit.num_tokens).argsort() < HIDDEN * uvit.num_tokens
    scores = []
    for sample in samples:
        tokens = np.where(hidden, uvit.mask_token_id, sample.tokens).astype(np.int32)[None]
        likely = {}
        for text, conditioning in said.items():
            log_probs = amused.runtime.predict(tokens, conditioning, 1.0)[0]  # (N, K)
            likely[text] = float(log_probs[hidden, sample.tokens[hidden]].mean())
        others = [value for text, value in likely.items() if text != sample.prompt]
        scores.append(likely[sample.prompt] - float(np.mean(others)) if others else 0.0)
    return scores


@dataclass
class StyleMonitor:
    """Draws a strip every so often, and says when to stop.

    Args:
        opened: gives the model with the adapter as it is now, as a new `AmusedPipeline`, which caches prompts.
        prompts: with words of style.
        references: the style's pictures.
        folder: for `samples-00100.png` and so on, and for the scores, which a training that goes on reads again.
        keep: called with the number of steps, to put the adapter of each strip away.
        patience: strips without a gain of `step` in style after which the training ends; 0 never ends it.
    """

    opened: Callable[[], AmusedPipeline]
    prompts: Sequence[str]
    references: Sequence[Picture]
    folder: Path
    keep: Callable[[int], object] | None = None
    patience: int = 4
    gain: float = 0.02
    least_text: float = 0.5  # of the base's text score; below it the training ends
    history: list[tuple[int, float, float]] = field(default_factory=list)  # steps, style, text

    def __post_init__(self) -> None:
        remembered = self._remembered()  # first of all, for it may be wrong
        self._reference = StyleStatistics.of("references", self.references)
        self._real = float(np.mean([self._reference.distance(picture) for picture in self.references]))
        before = draw_samples(self.opened(), self.prompts)
        self._plain = float(np.mean([self._reference.distance(sample.image) for sample in before]))
        self._text = float(np.mean(text_scores(self.opened(), before)))
        self.history += remembered

    def __call__(self, steps: int) -> str:
        """Draw and score; the reason to stop, or ""."""
        amused = self.opened()
        samples = draw_samples(amused, self.prompts)
        contact_sheet([sample.image for sample in samples], self.prompts, self.strip(steps), columns=len(samples))
        distance = float(np.mean([self._reference.distance(sample.image) for sample in samples]))
        style = (self._plain - distance) / max(self._plain - self._real, 1e-6)
        text = float(np.mean(text_scores(amused, samples))) / max(self._text, 1e-6)
        if self.keep is not None:
            self.keep(steps)
        self.history[:] = [entry for entry in self.history if entry[0] < steps] + [(steps, style, text)]
        self._remember()
        return self._reason()

    def strip(self, steps: int) -> Path:
        """Where the samples after so many steps are."""
        return self.folder / f"samples-{steps:05d}.png"

    @property
    def best(self) -> int:
        """Steps after which style and text, each worth at most 1, were best together."""
        return max(self.history, key=lambda entry: min(entry[1], 1.0) + min(entry[2], 1.0))[0]

    def _remember(self) -> None:
        values = {"prompts": list(self.prompts), "history": self.history}
        replace_text(self.folder / SCORES, json.dumps(values) + "\n")

    def _remembered(self) -> list[tuple[int, float, float]]:
        """Scores of the same prompts, from before this training was stopped."""
        if not (self.folder / SCORES).is_file():
            return []
        remedy = f"remove {self.folder} to start anew"
        kept = read_json(self.folder / SCORES, _Scores, remedy)
        return kept.history if kept.prompts == [*self.prompts] else []

    def _reason(self) -> str:
        if not self.patience or len(self.history) < 2:
            return ""
        styles = [style for _, style, _ in self.history]
        if len(self.prompts) > 1 and self.history[-1][2] < self.least_text and self.history[-2][2] < self.least_text:
            return "the prompt's own words count for less and less"
        if len(styles) > self.patience and max(styles[-self.patience :]) < max(styles[: -self.patience]) + self.gain:
            return "the style does not come nearer any more"
        return ""

"""What a user may choose about a picture, checked and completed with a model's defaults. Knows no runtime."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from amused_lite.conditioning import MicroConditioning
from amused_lite.config import ModelConfig
from amused_lite.files.png import MAX_CODEBOOK, MAX_STEPS, Recipe
from amused_lite.sampling import noise
from amused_lite.sampling.distribution import ORDERS, TokenDistribution
from amused_lite.sampling.schedule import SCHEDULES

GUIDANCE_SCHEDULES = ("constant", "linear")


@dataclass(frozen=True)
class GenerateOptions:
    """How to make a picture. None stands for the model's own default; docs/sampling.md measures the choices.

    Raises:
        ValueError: a number is out of range or a name is unknown.
    """

    steps: int = 12
    guidance_scale: float | None = None
    guidance_schedule: str = "constant"  # "linear" rises from 1 (Muse, Chang et al. 2023, section 2.7)
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # share of the steps that are guided (Kynkäänniemi et al. 2024)
    guidance_every: int = (
        1  # compute the negative prompt in every n-th guided step, reuse its difference between (Yan et al. 2025)
    )
    mask_temperature: tuple[float, float] = (2.0, 0.0)  # at the first and at the last step
    mask_schedule: str = "cosine"
    order: str = "confidence"  # MaskGIT's; "halton" is the same for every picture (Besnier et al. 2025)
    token_temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    refine: int = 0  # further steps that draw the least sure tokens again
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
        for value in self.guidance_interval:
            _check_number("guidance_interval", value, 0, 1)
        if self.guidance_interval[0] > self.guidance_interval[1]:
            first, last = self.guidance_interval
            raise ValueError(f"guidance_interval must rise, got {first:g} to {last:g}")
        if not 1 <= self.guidance_every <= MAX_STEPS:
            raise ValueError(f"guidance_every must be 1 to {MAX_STEPS}, got {self.guidance_every}")
        if self.top_k is not None and not 1 <= self.top_k <= MAX_CODEBOOK:
            raise ValueError(f"top_k must be 1 to {MAX_CODEBOOK}, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p:g}")
        if not 0 <= self.refine <= 1000:
            raise ValueError(f"refine must be 0 to 1000 steps, got {self.refine}")
        _check_word("guidance_schedule", self.guidance_schedule, GUIDANCE_SCHEDULES)
        _check_word("mask_schedule", self.mask_schedule, tuple(SCHEDULES))
        _check_word("order", self.order, ORDERS)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """The options that a picture was made with.

        Raises:
            ValueError: the recipe, which may be anyone's, holds a number that is out of range or an unknown name.
        """
        if len(recipe.micro_conditioning) != 5:
            raise ValueError(f"micro_conditioning must be 5 numbers, got {len(recipe.micro_conditioning)}")
        values = {name: getattr(recipe, name) for name in cls.__dataclass_fields__}
        return cls(**{**values, "micro_conditioning": MicroConditioning(*recipe.micro_conditioning)})

    def complete(self, config: ModelConfig) -> "Settings":
        """Settings with this model's defaults in place of None.

        Raises:
            ValueError: there are more steps than this model has tokens.
        """
        if self.steps > config.uvit.num_tokens:
            most = f"at most {config.uvit.num_tokens} for this model (one token each)"
            raise ValueError(f"steps must be {most}, got {self.steps}")
        size = config.image_size
        values: dict[str, Any] = {name: getattr(self, name) for name in Settings._fields}
        defaults = {
            "guidance_scale": config.guidance_scale,
            "token_temperature": config.token_temperature,
            "micro_conditioning": MicroConditioning(size, size),
        }
        values |= {name: default for name, default in defaults.items() if values[name] is None}
        return Settings(**values)


class Settings(NamedTuple):
    """`GenerateOptions` with the model's defaults in place of None."""

    steps: int
    guidance_scale: float
    guidance_schedule: str
    guidance_interval: tuple[float, float]
    guidance_every: int
    mask_temperature: tuple[float, float]
    mask_schedule: str
    order: str
    token_temperature: float
    top_k: int | None
    top_p: float | None
    refine: int
    seed: int
    micro_conditioning: MicroConditioning

    @property
    def token_distribution(self) -> TokenDistribution:
        """Token temperature, top-k and top-p, as `sampling.distribution` takes them."""
        return TokenDistribution(self.token_temperature, self.top_k, self.top_p)

    def guidance_scales(self) -> list[float]:
        """The scale of each step; 1 means unguided, and such a step never computes the negative half.

        Step i of n stands at i / n of the way; it is guided when that lies in the interval, its end left out.
        """
        scale, (first, last) = self.guidance_scale, self.guidance_interval
        scales = [scale] * self.steps
        if self.guidance_schedule == "linear" and self.steps > 1:
            scales = np.linspace(1.0, scale, self.steps).tolist()
        return [value if first <= i / self.steps < last else 1.0 for i, value in enumerate(scales)]

    def mask_temperatures(self) -> list[float]:
        """The mask temperature of each step."""
        return np.linspace(*self.mask_temperature, self.steps, dtype=np.float32).tolist()


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be {low:g} to {high:g}, got {value:g}")


def _check_word(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")

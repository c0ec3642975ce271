"""What a user may choose about a picture, checked and completed with a model's defaults. Knows no runtime.

Each sampling setting is declared once, as a field of `GenerateOptions`: its type and range in the annotation, the rest
in `_setting`. Command-line flags, request schemas, the recipe in a picture and the demo's sliders are made from it.
Importing it costs no NumPy, so that `--help` stays quick.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

from msgspec import Meta

from amused_lite.conditioning import MicroConditioning
from amused_lite.config import MAX_SEED, ModelConfig
from amused_lite.sampling.schedule import SCHEDULES

if TYPE_CHECKING:
    from amused_lite.sampling.distribution import TokenDistribution

MAX_CODEBOOK = 2**24
_KEY = "setting"
_UNLIMITED = Meta()


class Slider(NamedTuple):
    """A control of the demo's page. At 0 an optional setting is left at None."""

    label: str
    low: float
    high: float
    step: float
    info: str


@dataclass(frozen=True)
class Setting:
    """What is declared of a sampling setting; `kind` to `choices` are read from its annotation."""

    help: str
    metavar: str
    alone: float | None = None  # of a pair: the second number where a user gives one
    a1111: tuple[str, str] | None = None  # AUTOMATIC1111's words for it: in a picture's text, and in the API
    slider: Slider | None = None
    since: int = 1  # from 2 on recipes hold it only where it differs from its default, so that older versions read them
    name: str = ""
    kind: type = float  # int, float or str; of both numbers where it is a pair
    is_pair: bool = False
    limits: Meta = _UNLIMITED
    choices: tuple[str, ...] = ()
    default: Any = None

    @property
    def description(self) -> str:
        """Help with the default behind it."""
        if self.default is None:
            return self.help
        shown = ",".join(f"{number:g}" for number in self.default) if self.is_pair else self.default
        return f"{self.help} ({shown})"

    def check(self, value: Any) -> None:
        """Raise ValueError where a value is out of range or an unknown word; None is none of these."""
        if value is None:
            return
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{self.name} {str(value)[:40]!r} is unknown; choose one of {', '.join(self.choices)}")
            return
        for number in value if self.is_pair else (value,):
            low, above, high = self.limits.ge, self.limits.gt, self.limits.le
            fits = (low is None or low <= number) and (above is None or above < number)
            if not (math.isfinite(number) and fits and (high is None or number <= high)):
                raise ValueError(f"{self.name} must be {self._range()}, got {_shown(number)}")

    def _range(self) -> str:
        low, above, high = self.limits.ge, self.limits.gt, self.limits.le
        if high is None:
            return f"{_shown(low)} or more"
        return f"{_shown(low)} to {_shown(high)}" if above is None else f"above {above:g} and at most {high:g}"


def _setting(default: Any, help: str, metavar: str, **facts: Any) -> Any:
    return dataclasses.field(default=default, metadata={_KEY: Setting(help, metavar, default=default, **facts)})


GuidanceScale = Annotated[float, Meta(ge=0, le=100)]
TokenTemperature = Annotated[float, Meta(ge=0.01, le=10)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_MaskTemperature = Annotated[float, Meta(ge=0, le=1000)]


@dataclass(frozen=True)
class GenerateOptions:
    """How to make a picture. None stands for the model's own default; docs/sampling.md measures the choices.

    Raises:
        ValueError: a number is out of range or a name is unknown.
    """

    steps: Annotated[int, Meta(ge=1, le=2**20)] = _setting(
        12,
        "unmask steps",
        "N",
        a1111=("Steps", "steps"),
        slider=Slider("Steps", 1, 48, 1, "More take longer and look finer"),
    )
    guidance_scale: GuidanceScale | None = _setting(  # noqa: RUF009 -- it is a field
        None,
        "pull towards the prompt (the model's own)",
        "G",
        a1111=("CFG scale", "cfg_scale"),
        slider=Slider("Guidance", 0, 20, 0.5, "Pull to the words; 0: the model's own"),
    )
    # "linear" rises from 1 (Muse, Chang et al. 2023, section 2.7)
    guidance_schedule: Literal["constant", "linear"] = _setting(
        "constant", "constant, or linear: rising from 1", "NAME"
    )
    # Kynkäänniemi et al. 2024
    guidance_interval: tuple[_Share, _Share] = _setting(
        (0.0, 1.0), "share of the steps that are guided; the others cost half", "A,B", alone=1.0
    )
    # One number falls to 0.01, as published
    mask_temperature: tuple[_MaskTemperature, _MaskTemperature] = _setting(
        (2.0, 0.0), "randomness of the order, first and last step", "A,B", alone=0.01
    )
    mask_schedule: str = _setting(
        "cosine", f"{', '.join([*SCHEDULES][:-1])} or {[*SCHEDULES][-1]}", "NAME", choices=tuple(SCHEDULES)
    )
    # MaskGIT's; "halton" is the same for every picture (Besnier et al. 2025)
    order: Literal["confidence", "halton"] = _setting("confidence", "confidence or halton", "NAME")
    token_temperature: TokenTemperature | None = _setting(  # noqa: RUF009 -- it is a field
        None, "randomness of the drawing (the model's own)", "T"
    )
    top_k: Annotated[int, Meta(ge=1, le=MAX_CODEBOOK)] | None = _setting(
        None, "draw among the K likeliest tokens only", "K"
    )
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = _setting(
        None, "draw among the likeliest that together reach P", "P"
    )
    # Nguyen et al. 2024
    min_p: Annotated[float, Meta(gt=0, le=1)] | None = _setting(
        None,
        "draw among tokens at least P times as likely as the likeliest",
        "P",
        slider=Slider("Min-p", 0, 1, 0.05, "Leaves unlikely tokens out; 0: none"),
        since=2,
    )
    refine: Annotated[int, Meta(ge=0, le=1000)] = _setting(0, "steps that draw the least likely tokens again", "N")
    seed: Annotated[int, Meta(ge=0)] = 0  # at most MAX_SEED, which msgspec cannot say
    micro_conditioning: MicroConditioning | None = None  # None: the model's own size, no crop, score 6

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            setting.check(getattr(self, name))
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be 0 to {MAX_SEED}, got {self.seed}")
        if self.guidance_interval[0] > self.guidance_interval[1]:
            first, last = self.guidance_interval
            raise ValueError(f"guidance_interval must rise, got {first:g} to {last:g}")

    def complete(self, config: ModelConfig) -> "Settings":
        """Settings with this model's defaults in place of None.

        Raises:
            ValueError: there are more steps than this model has tokens.
        """
        if self.steps > config.uvit.num_tokens:
            most = f"at most {config.uvit.num_tokens} for this model (one token each)"
            raise ValueError(f"steps must be {most}, got {self.steps}")
        size = config.image_size
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in dataclasses.fields(GenerateOptions)}
        defaults = {
            "guidance_scale": config.guidance_scale,
            "token_temperature": config.token_temperature,
            "micro_conditioning": MicroConditioning(size, size),
        }
        values |= {name: default for name, default in defaults.items() if values[name] is None}
        return Settings(**values)


def _declared() -> dict[str, Setting]:
    """Every setting by its name, with what its annotation says."""
    found = {}
    for one in dataclasses.fields(GenerateOptions):
        if _KEY not in one.metadata:
            continue
        kinds = [kind for kind in get_args(one.type) if kind is not type(None)]
        kind = kinds[0] if type(None) in get_args(one.type) else one.type
        is_pair = get_origin(kind) is tuple
        kind = get_args(kind)[0] if is_pair else kind
        facts: dict[str, Any] = {"name": one.name, "is_pair": is_pair}
        if get_origin(kind) is Literal:
            facts |= {"kind": str, "choices": get_args(kind)}
        elif kind is str:
            facts |= {"kind": str}
        else:
            facts |= {"kind": get_args(kind)[0], "limits": get_args(kind)[1]}
        found[one.name] = dataclasses.replace(one.metadata[_KEY], **facts)
    return found


SETTINGS = _declared()


@dataclass(frozen=True, kw_only=True)
class Settings(GenerateOptions):
    """`GenerateOptions` with the model's defaults in place of None, and so no defaults of its own."""

    guidance_scale: GuidanceScale  # pyright: ignore[reportGeneralTypeIssues]
    token_temperature: TokenTemperature  # pyright: ignore[reportGeneralTypeIssues]
    micro_conditioning: MicroConditioning  # pyright: ignore[reportGeneralTypeIssues]

    @property
    def token_distribution(self) -> "TokenDistribution":
        """Token temperature, top-k, top-p and min-p, as `sampling.distribution` takes them."""
        from amused_lite.sampling.distribution import TokenDistribution

        return TokenDistribution(self.token_temperature, self.top_k, self.top_p, self.min_p)

    def guidance_scales(self) -> list[float]:
        """The scale of each step; 1 means unguided, and such a step never computes the negative half.

        Step i of n stands at i / n of the way; it is guided when that lies in the interval, its end left out.
        """
        import numpy as np

        scale, (first, last) = self.guidance_scale, self.guidance_interval
        scales = [scale] * self.steps
        if self.guidance_schedule == "linear" and self.steps > 1:
            scales = np.linspace(1.0, scale, self.steps).tolist()
        return [value if first <= i / self.steps < last else 1.0 for i, value in enumerate(scales)]

    def mask_temperatures(self) -> list[float]:
        """The mask temperature of each step."""
        import numpy as np

        return np.linspace(*self.mask_temperature, self.steps, dtype=np.float32).tolist()


def _shown(number: float | None) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)[:40]

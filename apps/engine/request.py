"""What may be asked of the engine: everything a picture depends on, checked. Knows no model, no server and no page."""

import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from amused_lite.config import MAX_SEED
from amused_lite.editing.operations import Editable
from amused_lite.editing.settings import OPERATIONS, EditSetting
from amused_lite.pipeline import check_prompts
from amused_lite.sampling.settings import SETTINGS as SAMPLING
from amused_lite.sampling.settings import GenerateOptions

# Each operation's own settings; `invert` is of the mask that was sent, so that white is what stays.
_INVERT = EditSetting(bool, False, "draw anew what is black in the mask")
SETTINGS: dict[str, Mapping[str, EditSetting]] = {"generate": {}}
SETTINGS |= {name: operation.settings for name, operation in OPERATIONS.items()}
SETTINGS["inpaint"] = {**SETTINGS["inpaint"], "invert": _INVERT}
MAX_COUNT = 16  # pictures of one job
_MOST = 2**20  # of any setting


@dataclass(frozen=True, eq=False)
class Request:
    """What to draw. Pictures are the same whoever asks, whenever: everything they depend on is here.

    Raises:
        ValueError: something is out of range or unknown; what only the model can find out comes out of the job.
    """

    operation: str = "generate"  # a key of `SETTINGS`
    prompt: str | None = None  # None: that of the source's own recipe, for vary, reroll and outpaint
    negative_prompt: str = ""
    seed: int | None = None  # None or -1: a random one, which the job then knows
    image_index: int = 0  # number of the first picture within its seed
    count: int = 1
    next_seeds: bool = False  # more pictures by counting the seed up, instead of the picture's number
    options: Mapping[str, Any] = field(default_factory=dict)  # fields of `GenerateOptions`; what is left out is default
    source: Editable | bytes | Path | None = None  # the earlier picture; bytes are those of a picture file
    mask: Image.Image | bytes | None = None  # inpaint: white is drawn anew; vary, edit, reroll: white stays
    settings: Mapping[str, Any] = field(default_factory=dict)  # the operation's own, see `SETTINGS`
    model: str | None = None  # a name that the engine offers; None is its first
    runtime: str = "auto"
    adapters: tuple[tuple[str, float], ...] = ()  # names that the engine offers, with weights
    size: tuple[int, int] | None = None  # width and height that the pictures must have, or it fails
    parent: str = ""  # who it was made from, for those who show pictures as a tree
    trace: bool = False  # generate: keep a `trace.Trace` with the result
    keep: bool = True  # put the pictures into the history, where there is one

    def __post_init__(self) -> None:
        if self.operation not in SETTINGS:
            raise ValueError(f"operation {self.operation!r} is unknown; choose one of {', '.join(SETTINGS)}")
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"count must be 1 to {MAX_COUNT} pictures, got {self.count}")
        if not 0 <= self.image_index < 2**31:
            raise ValueError(f"picture must be 0 to {2**31 - 1}, got {self.image_index}")
        self._check_words()
        _check_names("option", self.options, SAMPLING)
        _check_names(f"setting of {self.operation}", self.settings, SETTINGS[self.operation])
        _check_kinds(self.settings, SETTINGS[self.operation])
        self.generate_options(0 if self.seed in (None, -1) else self.seed)
        if self.operation != "generate" and self.source is None:
            raise ValueError(f"{self.operation} needs a picture to start from")
        operation = OPERATIONS.get(self.operation)
        if self.mask is not None and (operation is None or operation.mask is None):
            raise ValueError(f"{self.operation} takes no mask; leave it out, or use inpaint")
        if self.trace and self.operation != "generate":
            raise ValueError("a trace is for new pictures; leave trace out")

    def _check_words(self) -> None:
        needed = self.operation == "generate" or OPERATIONS[self.operation].needs_prompt
        if self.prompt is not None or needed:
            check_prompts(self.prompt or "", self.negative_prompt)
        for text in (self.prompt or "", self.negative_prompt):
            if any((ord(letter) < 32 and letter not in "\t\n\r") or 0xD800 <= ord(letter) < 0xE000 for letter in text):
                raise ValueError("the prompt holds a control character or half of one; send plain text in UTF-8")

    def generate_options(self, seed: int | None) -> GenerateOptions:
        """The options with a seed.

        Raises:
            ValueError: one is out of range or not of its type.
        """
        try:
            return GenerateOptions(**{**self.options, "seed": seed})
        except TypeError as error:
            raise ValueError(f"an option is not of its type: {error}") from error

    def settled(self) -> "Request":
        """With a seed."""
        return replace(self, seed=secrets.randbelow(2**32)) if self.seed in (None, -1) else self

    def without_pictures(self) -> "Request":
        """For keeping it in mind: what it says, without the pictures that came with it."""
        light = copy.copy(self)
        for name in ("source", "mask"):
            object.__setattr__(light, name, None)
        return light

    def number(self, index: int) -> tuple[int, int]:
        """Seed and picture number of the picture with this index, once the request is settled."""
        assert self.seed is not None
        if self.next_seeds:
            return (self.seed + index) % (MAX_SEED + 1), self.image_index
        return self.seed, self.image_index + index


def _check_names(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            listed = f"; choose among {', '.join(sorted(known))}" if known else ", which has none"
            raise ValueError(f"unknown {what}: {name!r}{listed}")


def _check_kinds(settings: Mapping[str, Any], known: Mapping[str, EditSetting]) -> None:
    for name, value in settings.items():
        kind = known[name].kind
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or not abs(value) < _MOST:  # written so that NaN fails
            wanted = {float: "a number", int: "a whole number of px", bool: "true or false"}[kind]
            raise ValueError(f"{name} must be {wanted}, got {str(value)[:40]!r}")

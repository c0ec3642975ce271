"""Pydantic schemas of the sampling fields that every HTTP dialect accepts.

Pydantic checks types, the rest is `jobs.Request`'s.
"""

from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from amused_lite.sampling.settings import GenerateOptions

from ..engine.request import OPTIONS

_SAID = {"steps": "unmask steps (12)", "guidance_scale": "pull towards the prompt (the model's own)"}
_KINDS = get_type_hints(GenerateOptions)
# Every option there is becomes a field, None where the default is meant.
_FIELDS: dict[str, Any] = {
    name: (_KINDS[name] | None, Field(None, description=_SAID.get(name, "see docs/sampling.md")))
    for name in GenerateOptions.__dataclass_fields__
    if name in OPTIONS
}
Sampling = create_model("Sampling", **_FIELDS)


class AdapterSchema(BaseModel):
    """A style and how strongly it counts."""

    name: str = Field(max_length=200)
    weight: float = 1.0


class PictureSchema(Sampling):
    """How to draw; what is left out is the model's own default."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, max_length=500, description="a name out of GET /v1/models; the first if left out")
    runtime: str = Field("auto", max_length=50)
    adapters: list[AdapterSchema] = Field(default_factory=list, max_length=16)
    negative_prompt: str | None = Field("", description="what to keep away from")
    seed: int | None = Field(None, description="repeats a picture; left out or -1: random")
    picture: int = Field(0, description="number of the first picture within its seed")

    def request_fields(self) -> dict[str, Any]:
        """These fields as `Request` has them."""
        options = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        adapters = tuple((adapter.name, adapter.weight) for adapter in self.adapters)
        return {
            "negative_prompt": self.negative_prompt or "",
            "seed": self.seed,
            "image_index": self.picture,
            "options": options,
            "model": self.model,
            "runtime": self.runtime,
            "adapters": adapters,
        }

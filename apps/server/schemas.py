"""Pydantic schemas of the sampling fields that every HTTP dialect accepts.

Pydantic checks types, the rest is `jobs.Request`'s.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from amused_lite.sampling.settings import SETTINGS, Setting


def setting_type(setting: Setting) -> Any:
    """A setting's type as Pydantic takes it; what its range is, `GenerateOptions` checks, in words of its own."""
    kind: Any = tuple[setting.kind, setting.kind] if setting.is_pair else setting.kind
    return Annotated[kind | None, Field(description=setting.description)]


# Every setting there is becomes a field, None where the default is meant.
_FIELDS: dict[str, Any] = {name: (setting_type(setting), None) for name, setting in SETTINGS.items()}
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
        options = {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}
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

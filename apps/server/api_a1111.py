"""AUTOMATIC1111's endpoints below /sdapi/v1, as far as clients use them: txt2img, img2img, progress, interrupt, reads.

A batch counts the seed up, as there, so that each picture can be asked for alone. Samplers, schedulers and further
passes mean nothing to this model; such fields are taken and not used. `<lora:NAME:WEIGHT>` in a prompt adds a style.
"""

import json
import re
from typing import Any, Self

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from amused_lite.sampling.settings import SETTINGS

from ..engine.engine import Engine
from ..engine.jobs import Job, JobResult, picture_bytes
from .responses import ApiError, as_text, asker, encoded, finished, from_text, run_in_thread, submit
from .schemas import setting_type

_ORIGIN = "a1111"
_LORA = re.compile(r"<lora:([^:<>]{1,200})(?::([^:<>]{1,20}))?>")
_SAMPLER = {"name": "amused", "aliases": ["amused"], "options": {}}


_NAMES = {setting.a1111[1]: name for name, setting in SETTINGS.items() if setting.a1111 is not None}
_FIELDS: dict[str, Any] = {given: (setting_type(SETTINGS[name]), None) for given, name in _NAMES.items()}


class Txt2Img(create_model("_Sampling", **_FIELDS)):
    """What txt2img takes; anything else that A1111 knows is left aside."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = ""
    negative_prompt: str | None = ""
    seed: int = -1
    width: int | None = None
    height: int | None = None
    batch_size: int = 1
    n_iter: int = 1
    send_images: bool = True
    override_settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_sent_back(self) -> Self:
        """Before anything is drawn, since the answer repeats what was sent."""
        try:
            json.dumps(self.sent(), ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            raise ValueError("a field holds half a character or a number that is none; send plain JSON") from None
        return self

    def sent(self) -> dict[str, Any]:
        """What the answer repeats: all but the pictures."""
        return self.model_dump(exclude={"init_images", "mask"})


class Img2Img(Txt2Img):
    """What img2img takes: with a mask its white part is drawn anew, without one the whole picture varies."""

    init_images: list[str] = Field(default_factory=list)
    mask: str | None = None
    inpainting_mask_invert: int = 0
    denoising_strength: float = 0.75


class Options(BaseModel):
    """The one option that can be set."""

    model_config = ConfigDict(extra="ignore")

    sd_model_checkpoint: str | None = None


def make_router(engine: Engine) -> APIRouter:
    """The routes on an engine."""
    router = APIRouter(prefix="/sdapi/v1", tags=["A1111"])
    chosen = {"model": next(iter(engine.model_cache.models))}  # what POST /options sets, for this dialect only

    async def draw(http: HttpRequest, body: Txt2Img, fields: dict[str, Any]) -> dict[str, Any]:
        model = body.override_settings.get("sd_model_checkpoint") or chosen["model"]
        job = submit(http, engine, {**_fields(body), "model": str(model), **fields}, _ORIGIN)
        results = await finished(http, engine, job)
        engine.forget(job)
        images = [as_text(await encoded(result)) for result in results] if body.send_images else []
        return {"images": images, "parameters": body.sent(), "info": json.dumps(_info(body, results))}

    @router.post("/txt2img")
    async def txt2img(http: HttpRequest, body: Txt2Img) -> dict[str, Any]:
        """Pictures from a prompt."""
        size = None if body.width is None or body.height is None else (body.width, body.height)
        return await draw(http, body, {"operation": "generate", "size": size})

    @router.post("/img2img")
    async def img2img(http: HttpRequest, body: Img2Img) -> dict[str, Any]:
        """Pictures from a picture."""
        if len(body.init_images) != 1:
            raise ApiError(422, f"init_images must hold one picture, got {len(body.init_images)}")
        source = from_text(body.init_images[0], "init_images")
        if body.mask is None:
            settings: dict[str, Any] = {"strength": body.denoising_strength}
            prompt = {} if body.prompt.strip() else {"prompt": None}
            return await draw(http, body, {"operation": "vary", "source": source, "settings": settings, **prompt})
        mask, settings = from_text(body.mask, "mask"), {"invert": bool(body.inpainting_mask_invert)}
        return await draw(http, body, {"operation": "inpaint", "source": source, "mask": mask, "settings": settings})

    def own(http: HttpRequest) -> Job | None:
        """The asker's job of this dialect: that which is drawn, or else the next."""
        jobs = (engine.running(), *engine.waiting())
        fits = (job for job in jobs if job is not None and (job.origin, job.owner) == (_ORIGIN, asker(http)))
        return next(fits, None)

    @router.get("/progress")
    async def progress(http: HttpRequest, skip_current_image: bool = False) -> dict[str, Any]:
        """Of the asker's own picture. It holds no id with which others could end or read the job."""
        return await _progress(own(http), not skip_current_image)

    @router.post("/interrupt")
    async def interrupt(http: HttpRequest) -> dict[str, Any]:
        """Finish the client's own picture from its latest sampled tokens."""
        job = own(http)
        if job is not None:
            engine.stop(job)
        return {}

    @router.get("/options")
    async def options() -> dict[str, Any]:
        """The model in use."""
        return {"sd_model_checkpoint": chosen["model"], "samples_format": "png", "sd_vae": "None"}

    @router.post("/options")
    async def set_options(body: Options) -> None:
        """Choose another model for later requests."""
        if body.sd_model_checkpoint is not None:
            name = body.sd_model_checkpoint
            if name not in engine.model_cache.models:
                raise ApiError(404, f"the model {name[:80]!r} does not exist here")
            chosen["model"] = name

    _add_reads(router, engine)
    return router


def _add_reads(router: APIRouter, engine: Engine) -> None:
    """What clients ask for before they begin."""

    @router.get("/sd-models")
    async def models() -> list[dict[str, Any]]:
        """The models that may be chosen."""
        names = ("title", "model_name", "filename")
        return [
            {**dict.fromkeys(names, name), "hash": None, "sha256": None, "config": None}
            for name in engine.model_cache.models
        ]

    @router.get("/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """The one way in which tokens are drawn."""
        return [_SAMPLER]

    @router.get("/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        """None."""
        return [{"name": "automatic", "label": "Automatic", "aliases": None}]

    @router.get("/loras")
    async def loras() -> list[dict[str, Any]]:
        """The styles that prompts may name."""
        return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in engine.model_cache.adapters]

    @router.get("/scripts")
    async def scripts() -> dict[str, list[str]]:
        """None."""
        return {"txt2img": [], "img2img": []}

    @router.get("/embeddings")
    async def embeddings() -> dict[str, dict[str, Any]]:
        """None."""
        return {"loaded": {}, "skipped": {}}

    @router.get("/cmd-flags")
    async def flags() -> dict[str, Any]:
        """None that matter."""
        return {"api": True}

    for name in ("upscalers", "latent-upscale-modes", "hypernetworks", "face-restorers", "prompt-styles", "sd-vae"):
        router.add_api_route(f"/{name}", _nothing, methods=["GET"], operation_id=f"a1111-{name}")


async def _nothing() -> list[Any]:
    """None of these."""
    return []


def _fields(body: Txt2Img) -> dict[str, Any]:
    """As `Request` has them."""
    adapters = [(name, _weight(weight)) for name, weight in _LORA.findall(body.prompt[:100_000])]
    options = {name: getattr(body, given) for given, name in _NAMES.items()}
    if min(body.batch_size, body.n_iter) < 1:
        raise ApiError(422, "batch_size and n_iter must be 1 or more")
    return {
        "prompt": _LORA.sub("", body.prompt) if adapters else body.prompt,
        "negative_prompt": body.negative_prompt or "",
        "seed": body.seed,
        "count": body.batch_size * body.n_iter,
        "next_seeds": True,
        "options": {name: value for name, value in options.items() if value is not None},
        "adapters": tuple(adapters),
    }


def _weight(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        raise ApiError(422, f"the weight {text!r} of a lora is no number") from None


def _info(body: Txt2Img, results: tuple[JobResult, ...]) -> dict[str, Any]:
    recipes = [result.picture.recipe for result in results]
    first = recipes[0]
    return {
        "prompt": first.prompt,
        "all_prompts": [recipe.prompt for recipe in recipes],
        "negative_prompt": first.negative_prompt,
        "seed": first.seed,
        "all_seeds": [recipe.seed for recipe in recipes],
        "width": first.width,
        "height": first.height,
        "sampler_name": "amused",
        **{given: getattr(first, name) for given, name in _NAMES.items()},
        "batch_size": body.batch_size,
        "sd_model_name": first.model,
        "sd_model_hash": first.model_hash[:10],
        "infotexts": [recipe.parameters() for recipe in recipes],
        "styles": [],
        "version": first.version,
    }


async def _progress(job: Job | None, with_image: bool) -> dict[str, Any]:
    now = None if job is None else job.peek()
    image = job.preview() if job is not None and with_image else None
    state = {
        "skipped": False,
        "interrupted": bool(now and now.stopped),
        "stopping_generation": bool(now and now.stopped),
        "job": now.operation if now else "",
        "job_count": now.count if now else 0,
        "job_no": now.finished if now else 0,
        "job_timestamp": "0",
        "sampling_step": now.step if now else 0,
        "sampling_steps": now.steps if now else 0,
    }
    return {
        "progress": now.share if now else 0.0,
        "eta_relative": (now.seconds_left or 0.0) if now else 0.0,
        "state": state,
        "current_image": None if image is None else as_text(await run_in_thread(picture_bytes, image, "png")),
        "textinfo": None,
    }

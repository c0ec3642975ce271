"""OpenAI's image endpoints: /v1/images/generations, /edits and /variations, and /v1/models.

The sampling fields of this project stand beside OpenAI's as plain ones (`extra_body` of the official client); fields
that mean nothing here, such as quality, are taken and not used. OpenAI's own models stand for the first one here,
with a warning. Answers say seed and picture of each image.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from typing import Any, Literal, TypeVar

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile

from amused_lite.files.images import open_picture

from ..engine.engine import Engine
from ..engine.errors import JobCancelledError, JobError
from ..engine.jobs import Job, JobResult, picture_bytes
from .responses import (
    ApiError,
    as_text,
    changes,
    encoded,
    error_body,
    event,
    finished,
    run_in_thread,
    submit,
    to_api_error,
)
from .schemas import PictureSchema

_MOST = 10  # pictures of one request, as at OpenAI
_THEIRS = re.compile(r"(?:dall-e|gpt-image|chatgpt-image)[\w.-]{0,60}", re.ASCII)  # written into many programs
W = TypeVar("W", bound=PictureSchema)


class ImageGenerationSchema(PictureSchema):
    """The body of /v1/images/generations."""

    prompt: str = Field(description="what to draw")
    n: int | None = Field(1, description="how many pictures, 1 to 10")
    size: str | None = Field(None, description='the model\'s own, such as "512x512", or "auto"')
    background: Literal["auto", "opaque", "transparent"] | None = Field(None, description="opaque, as all are")
    response_format: Literal["b64_json", "url"] | None = Field(None, description="b64_json unless url is asked for")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="only png carries the recipe")
    output_compression: int | None = Field(None, ge=1, le=100, description="quality of jpeg and webp")
    stream: bool | None = Field(False, description="answer with events as the pictures form")
    partial_images: int | None = Field(0, ge=0, le=3, description="previews in a stream")


class ImageEditSchema(ImageGenerationSchema):
    """The fields of /v1/images/edits beside its files."""

    strength: float | None = Field(None, description="without a mask: draw anew as much as this says")
    share: float | None = Field(None, description="without a mask: tokens that each step draws anew")


class ImageVariationSchema(ImageEditSchema):
    """The fields of /v1/images/variations beside its file."""

    prompt: str | None = Field(None, description="that of the picture's own recipe, if left out")  # type: ignore[assignment]


def make_router(engine: Engine) -> APIRouter:
    """The routes on an engine."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The models that requests may name."""
        return {"object": "list", "data": [_model(name) for name in engine.model_cache.models]}

    @router.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        if name not in engine.model_cache.models:
            raise ApiError(404, f"the model {name[:80]!r} does not exist here", "model_not_found")
        return _model(name)

    @router.post("/images/generations")
    async def generations(http: HttpRequest, body: ImageGenerationSchema) -> Response:
        """Pictures from a prompt."""
        return await _answer(http, engine, body, {"operation": "generate"})

    @router.post("/images/edits", openapi_extra=_form_schema(ImageEditSchema, "image", "mask"))
    async def edits(http: HttpRequest) -> Response:
        """A picture drawn anew where the mask, or the picture itself, is see-through.

        With neither, the whole picture moves to the prompt; `strength` or `share` says how far.
        """
        body, files = await _read_form(http, ImageEditSchema)
        fields = await _edit_fields(body, files)
        return await _answer(http, engine, body, fields)

    @router.post("/images/variations", openapi_extra=_form_schema(ImageVariationSchema, "image"))
    async def variations(http: HttpRequest) -> Response:
        """Other pictures like this one."""
        body, files = await _read_form(http, ImageVariationSchema)
        settings = {} if body.strength is None else {"strength": body.strength}
        return await _answer(http, engine, body, {"operation": "vary", "source": files["image"], "settings": settings})

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "amused-lite"}


def _form_schema(kind: type[PictureSchema], *files: str) -> dict[str, Any]:
    """A form for the OpenAPI description."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["properties"]["adapters"] = {"type": "string", "description": "JSON list of {name, weight}"}
    schema["required"] = [*schema.get("required", []), "image"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def _read_form(http: HttpRequest, kind: type[W]) -> tuple[W, dict[str, bytes]]:
    """The fields and files of a form; the names that files bring are never looked at."""
    if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "send the picture as multipart/form-data")
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    async with http.form(max_files=4, max_fields=64) as form:
        for name, value in form.multi_items():
            name = name.removesuffix("[]")
            if name in files:
                raise ApiError(400, f"one {name} is taken at a time, got several")
            if isinstance(value, UploadFile):
                files[name] = await value.read()
            else:
                fields[name] = value
    if "image" not in files:
        raise ApiError(400, "the form holds no file called image")
    if isinstance(fields.get("adapters"), str):
        fields["adapters"] = _from_json(fields["adapters"])
    try:
        return kind.model_validate(fields), files
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "adapters must be a JSON list of {name, weight}") from error


async def _edit_fields(body: ImageEditSchema, files: dict[str, bytes]) -> dict[str, Any]:
    """Which operation an edit is: with something to fill it is inpaint, else vary or edit."""
    fields: dict[str, Any] = {"source": files["image"]}
    if "mask" in files:
        return fields | {"operation": "inpaint", "mask": files["mask"]}
    if await run_in_thread(_has_holes, files["image"]):
        return fields | {"operation": "inpaint"}
    if body.strength is not None:
        return fields | {"operation": "vary", "settings": {"strength": body.strength}}
    return fields | {"operation": "edit", "settings": {} if body.share is None else {"share": body.share}}


def _has_holes(data: bytes) -> bool:
    try:
        return open_picture(BytesIO(data)).alpha is not None
    except ValueError as error:
        raise ApiError(400, str(error)) from error


async def _answer(http: HttpRequest, engine: Engine, body: ImageGenerationSchema, fields: dict[str, Any]) -> Response:
    """Draw what was asked for and answer in the form that was asked for."""
    count = 1 if body.n is None else body.n
    if not 1 <= count <= _MOST:
        raise ApiError(400, f"n must be 1 to {_MOST}, got {count}", param="n")
    if body.background == "transparent":
        raise ApiError(400, "pictures are opaque here; leave background out, or send opaque", param="background")
    model, warnings = _served(engine, body.model)
    words = {
        **body.request_fields(),
        "prompt": body.prompt,
        "count": count,
        "size": _wanted_size(body.size),
        "model": model,
    }
    job = submit(http, engine, words | fields, "openai")
    created = int(time.time())
    if body.stream:
        return StreamingResponse(_stream(engine, job, body, created, warnings), media_type="text/event-stream")
    results = await finished(http, engine, job)
    by_url = body.response_format == "url"
    form, quality = body.output_format or "png", body.output_compression or 90
    data = []
    for index, result in enumerate(results):
        recipe = result.picture.recipe
        place = f"{http.base_url}pictures/{job.id}/{index}.{form}"
        shown = {"url": place} if by_url else {"b64_json": as_text(await encoded(result, form, quality))}
        data.append({**shown, "seed": recipe.seed, "picture": recipe.picture})
    if not by_url:
        engine.forget(job)
    about = {"output_format": form, "size": _size(results[0]), "background": "opaque", "usage": _usage(results)}
    return JSONResponse({"created": created, "data": data, **about, "warnings": [*warnings, *job.peek().remarks]})


async def _stream(
    engine: Engine, job: Job, body: ImageGenerationSchema, created: int, warnings: list[str]
) -> AsyncIterator[str]:
    """Events of OpenAI's form: previews at even distances, then each picture."""
    kind = "image_edit" if job.request.operation != "generate" else "image_generation"
    form, quality = body.output_format or "png", body.output_compression or 90
    about = {"created_at": created, "background": "opaque", "quality": "auto", "output_format": form}
    shown, told, wanted = 0, 0, body.partial_images or 0
    try:
        async for now in changes(job):
            if now is None:
                yield ": still here\n\n"
                continue
            due = int((wanted + 1) * now.step / now.steps) if now.steps else 0
            preview = job.preview() if shown < min(due, wanted) and not told else None
            if preview is not None:
                data = as_text(await run_in_thread(picture_bytes, preview, form, quality))
                values = {"partial_image_index": shown, "b64_json": data, "size": _sides(preview.size), **about}
                yield event(f"{kind}.partial_image", {"type": f"{kind}.partial_image", **values})
                shown += 1
            for result in job.results[told:]:
                recipe, told = result.picture.recipe, told + 1
                values = {"b64_json": as_text(await encoded(result, form, quality)), "size": _size(result), **about}
                numbers = {"seed": recipe.seed, "picture": recipe.picture, "usage": _usage((result,))}
                numbers["warnings"] = [*warnings, *now.remarks]
                yield event(f"{kind}.completed", {"type": f"{kind}.completed", **values, **numbers})
        job.outcome()
    except (JobError, JobCancelledError) as error:
        yield event("error", error_body("/v1/", to_api_error(error)))
    finally:
        engine.cancel(job, "its client left")
        engine.forget(job)


def _served(engine: Engine, name: str | None) -> tuple[str | None, list[str]]:
    """The model that a request means, and a warning where it named one of OpenAI's."""
    offered = engine.model_cache.models
    if name is None or name in offered:
        return name, []
    if _THEIRS.fullmatch(name):
        own = next(iter(offered))
        return own, [f"{name} is not here; {own} drew this"]
    message = f"model {name[:80]!r} is not offered here; choose one of {', '.join(offered)}"
    raise ApiError(400, message, "model_not_found", "model")


def _usage(results: Sequence[JobResult]) -> dict[str, Any]:
    """Tokens in and out, in OpenAI's form: the prompts once, an edited picture once, every picture drawn."""
    recipes = [result.picture.recipe for result in results]
    text, image = results[0].text_tokens, recipes[0].tokens.size if recipes[0].edit is not None else 0
    drawn = sum(recipe.tokens.size for recipe in recipes)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": drawn,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        "total_tokens": text + image + drawn,
    }


def _wanted_size(text: str | None) -> tuple[int, int] | None:
    if text is None or text == "auto":
        return None
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if sides is None:
        raise ApiError(400, 'size must be like "512x512", or "auto"', param="size")
    return int(sides[1]), int(sides[2])


def _size(result: JobResult) -> str:
    return _sides(result.picture.image.size)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

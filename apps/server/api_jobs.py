"""This project's own endpoints: jobs with progress, previews, cancel and stop, for every operation there is."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from pydantic import Field, create_model

from ..engine.engine import Engine
from ..engine.jobs import OVER, Job, Progress, picture_bytes
from ..engine.request import SETTINGS
from .responses import LEASE, ApiError, as_text, asker, changes, encoded, event, from_text, run_in_thread, submit
from .schemas import PictureSchema

_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


# Every setting of an edit is a field, None where the default is meant; `Request` knows whose it is.
_EDITS = {name: setting for settings in SETTINGS.values() for name, setting in settings.items()}
_FIELDS: dict[str, Any] = {name: (setting.kind | None, None) for name, setting in _EDITS.items()}


class JobSchema(create_model("_Edits", __base__=PictureSchema, **_FIELDS)):
    """The body of POST /jobs."""

    operation: str = Field("generate", max_length=20, description=", ".join(SETTINGS))
    prompt: str | None = Field(None, description="what to draw; vary, reroll and outpaint know it from our PNG files")
    count: int = Field(1, description="how many pictures, 1 to 16")
    image: str | None = Field(None, description="base64 or data URL: the earlier picture of an edit")
    mask: str | None = Field(None, description="likewise; white is drawn anew, or stays, as the operation has it")

    def fields(self) -> dict[str, Any]:
        """As `Request` has them."""
        return {
            **self.request_fields(),
            "operation": self.operation,
            "prompt": self.prompt,
            "count": self.count,
            "source": None if self.image is None else from_text(self.image, "image"),
            "mask": None if self.mask is None else from_text(self.mask, "mask"),
            "settings": {name: value for name in _EDITS if (value := getattr(self, name)) is not None},
        }


def make_router(engine: Engine) -> APIRouter:
    """The routes on an engine."""
    router = APIRouter(tags=["jobs"])

    def find(id: str) -> Job:
        try:
            return engine.job(id)
        except KeyError:
            raise ApiError(404, "there is no such job, or it was forgotten since", "not_found") from None

    @router.post("/jobs", status_code=202)
    async def start(http: HttpRequest, body: JobSchema) -> dict[str, Any]:
        """Queue something. A job that nobody asks about for a minute is cancelled."""
        return _shown(http, submit(http, engine, body.fields(), "jobs", LEASE))

    @router.get("/jobs")
    async def mine(http: HttpRequest) -> dict[str, Any]:
        """The jobs of whoever asks, of every dialect, the newest last; only for those who bring a key."""
        client = asker(http)
        if not client.name:
            message = "whose jobs? bring a key of your own choice, here and with POST /jobs: Authorization: Bearer KEY"
            raise ApiError(401, message, "no_key", WWW_Authenticate="Bearer")
        return {"jobs": [_shown(http, job) for job in engine.jobs(client)]}

    @router.get("/jobs/{id}")
    async def look(http: HttpRequest, id: str) -> dict[str, Any]:
        """How a job stands, with the places of its finished pictures."""
        return _shown(http, find(id))

    @router.get("/jobs/{id}/preview.jpeg")
    async def preview(id: str) -> Response:
        """The picture as it forms."""
        image = find(id).preview()
        if image is None:
            raise ApiError(404, "there is no preview yet", "not_found")
        return Response(await run_in_thread(picture_bytes, image, "jpeg", 80), media_type="image/jpeg")

    @router.get("/jobs/{id}/events", response_class=StreamingResponse)
    async def events(http: HttpRequest, id: str, previews: bool = True) -> StreamingResponse:
        """Server-sent events: `progress` after every step, with a preview as a data URL, then how it ended."""
        stream = _events(http, find(id), previews)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @router.delete("/jobs/{id}")
    async def cancel(http: HttpRequest, id: str) -> dict[str, Any]:
        """End a job: at once where it waits, within one step where it runs."""
        job = find(id)
        engine.cancel(job, "cancelled on request")
        return _shown(http, job)

    @router.post("/jobs/{id}/stop")
    async def stop(http: HttpRequest, id: str) -> dict[str, Any]:
        """Finish the running picture from its latest sampled tokens."""
        job = find(id)
        engine.stop(job)
        return _shown(http, job)

    @router.get("/pictures/{id}/{index}.{form}", tags=["pictures"])
    async def picture(id: str, index: int, form: str, http: HttpRequest) -> Response:
        """A finished picture, for as long as its job is remembered."""
        results = find(id).results
        if form not in _TYPES or not 0 <= index < len(results):
            raise ApiError(404, "there is no such picture", "not_found")
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(await encoded(results[index], form), media_type=_TYPES[form], headers=headers)

    return router


def _shown(http: HttpRequest, job: Job, now: Progress | None = None) -> dict[str, Any]:
    """Progress and what is finished."""
    pictures = [
        {
            "url": f"{http.scope['root_path']}/pictures/{job.id}/{index}.png",
            "seed": result.picture.recipe.seed,
            "picture": result.picture.recipe.picture,
            "width": result.picture.image.width,
            "height": result.picture.image.height,
        }
        for index, result in enumerate(job.results)
    ]
    return {**asdict(now or job.progress()), "pictures": pictures}


async def _events(http: HttpRequest, job: Job, previews: bool) -> AsyncIterator[str]:
    number = 0
    async for now in changes(job):
        if now is None:
            yield ": still here\n\n"
            continue
        values = _shown(http, job, now)
        image = job.preview() if previews and now.state == "running" else None
        if image is not None:
            values["preview"] = "data:image/jpeg;base64," + as_text(
                await run_in_thread(picture_bytes, image, "jpeg", 80)
            )
        yield event(now.state if now.state in OVER else "progress", values, number)
        number += 1

"""Shared by all HTTP routes: errors as responses, waiting for jobs, images as base64. Has no routes."""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from amused_lite.sampling.settings import SETTINGS

from ..engine.engine import Engine
from ..engine.errors import ClosingError, JobCancelledError, JobError, QueueFullError
from ..engine.jobs import Job, JobResult, Progress
from ..engine.request import Request
from .tokens import Client

LEASE = 60.0  # s that a job waits for anyone to ask about it
_KEEP_ALIVE = 15.0  # s after which a silent stream says something, so that nothing between closes it
_DATA_URL = re.compile(r"data:[\w/+.-]*;base64,")
_AGAIN = "10"  # s after which a server that stops may be up again
_CODES = {400: "invalid_value", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 422: "invalid_value"}
_CODES |= {415: "unsupported_media_type", 500: "internal"}
_FIELDS = {*Request.__dataclass_fields__, *SETTINGS, "n", "image", "init_images", "batch_size", "n_iter"}
_STATUS = {"input": 400, "model": 503, "memory": 507, "stopping": 503, "internal": 500}
_aside: list[CapacityLimiter] = []  # made in the server's loop
T = TypeVar("T")


class ApiError(Exception):
    """An error with its HTTP status and message."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None, **headers: str
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code or _CODES.get(status), param
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def to_api_error(error: Exception) -> ApiError:
    """An exception of the engine as an `ApiError`."""
    match error:
        case ApiError():
            return error
        case QueueFullError():
            return ApiError(429, str(error), "rate_limit_exceeded", Retry_After=str(error.retry_after))
        case ClosingError():
            return ApiError(503, str(error), "server_stopping", Retry_After=_AGAIN)
        case JobError():
            headers = {"Retry_After": _AGAIN} if error.kind == "stopping" else {}
            return ApiError(_STATUS[error.kind], str(error), None if error.kind == "input" else error.kind, **headers)
        case JobCancelledError():  # by the server: clients that cancel do not wait
            return ApiError(503, str(error), "cancelled", Retry_After=_AGAIN)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return ApiError(error.status_code, str(error.detail), **dict(error.headers or {}))
        case ValueError():
            return ApiError(400, str(error))
    return ApiError(500, f"something unexpected went wrong ({type(error).__name__}); see the server's output")


def _invalid(error: RequestValidationError) -> ApiError:
    """The first fault of a body, without repeating what was sent."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    message = str(first["msg"]).removeprefix("Value error, ")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(422, f"{place}: {message}" if place else message, code, place or None)


def route_path(scope: Scope) -> str:
    """The path below the prefix that a proxy may have put before it."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def error_body(path: str, error: ApiError) -> dict[str, Any]:
    """An error as the dialect of a path has it: OpenAI's form, or A1111's below /sdapi."""
    message = str(error)
    if path.startswith("/sdapi/"):
        return {"error": "HTTPException", "detail": message, "body": "", "errors": message}
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    if error.status == 429:
        kind = "rate_limit_error"
    param = error.param
    if param is None and error.status == 400:  # the library's messages begin with what they are about
        param = next((word for word in re.findall(r"[a-z_]+", message) if word in _FIELDS), None)
    return {"error": {"message": message, "type": kind, "param": param, "code": error.code}}


async def answer_error(http: HttpRequest, error: Exception) -> JSONResponse:
    """An exception as an answer; OpenAI's dialect knows 400 for what others call 422."""
    said, path = to_api_error(error), route_path(http.scope)
    if said.status == 405:
        said.headers["Allow"] = _allowed(http) or said.headers.get("Allow", "GET")
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    whole = isinstance(error, RequestValidationError) and error.errors()[0]["loc"] == ("body",)
    if whole and kind != "application/json":
        sent = f"not as {kind[:80]}" if kind else "and say so"
        said = ApiError(415, f"send the body as JSON, {sent}: the header must be content-type: application/json")
    status = 400 if said.status == 422 and path.startswith("/v1/") else said.status
    return JSONResponse(error_body(path, said), status, said.headers)


def _allowed(http: HttpRequest) -> str:
    """The methods of a path, which may be spread over several routes."""
    place = getattr(http.scope.get("route"), "path_format", "")
    methods = [method.upper() for method in http.app.openapi()["paths"].get(place, ())]
    return ", ".join([*methods, "HEAD"] if "GET" in methods else methods)


def asker(http: HttpRequest) -> Client:
    """Who asks."""
    return http.state.client


def submit(
    http: HttpRequest, engine: Engine, fields: Mapping[str, Any], origin: str, lease: float | None = None
) -> Job:
    """Queue a request with these fields for whoever asks.

    Raises:
        ApiError: it cannot be done, or not now.
    """
    try:
        return engine.submit(Request(**fields), origin, lease, asker(http))
    except (ValueError, QueueFullError, ClosingError) as error:
        raise to_api_error(error) from error


async def finished(http: HttpRequest, engine: Engine, job: Job) -> tuple[JobResult, ...]:
    """Wait for a job; a client that leaves meanwhile takes its job with it.

    Raises:
        ApiError: it gave no picture.
    """
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_gone(http))
        over = group.create_task(_over(job))
        try:
            await asyncio.wait({gone, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            over.cancel()
            left = not job.over
            engine.cancel(job, "its client left")
    if left:
        raise ApiError(499, "the client left")  # which nobody reads
    try:
        return job.outcome()
    except (JobError, JobCancelledError) as error:
        raise to_api_error(error) from error


async def changes(job: Job) -> AsyncIterator[Progress | None]:
    """Progress now and after every change, until it is over; None where nothing happened for a while."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    end = job.subscribe(tell)
    try:
        while True:
            changed.clear()
            now = job.progress()
            yield now
            if job.over and now.state == job.state:
                return
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), _KEEP_ALIVE)
                    break
                except TimeoutError:
                    yield None
    finally:
        end()


async def _over(job: Job) -> None:
    async for _ in changes(job):
        pass


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def run_in_thread(function: Callable[..., T], *given: Any) -> T:
    """Run a blocking function on a thread, at most two at a time, so that memory stays bounded."""
    if not _aside:
        _aside.append(CapacityLimiter(2))
    return await to_thread.run_sync(function, *given, limiter=_aside[0])


async def encoded(result: JobResult, form: str = "png", quality: int = 90) -> bytes:
    """A picture's file."""
    return await run_in_thread(result.encoded, form, quality)


def as_text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def from_text(text: str, what: str) -> bytes:
    """The bytes of a picture out of base64 or a data URL. Never a path, never an address: nothing is fetched.

    Raises:
        ApiError: it is neither.
    """
    head = _DATA_URL.match(text[:100])
    try:
        return base64.b64decode(text[head.end() :] if head else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{what} must be a picture as base64 or as a data URL") from error


def event(name: str, values: Mapping[str, Any], number: int | None = None) -> str:
    """One server-sent event."""
    lines = [f"event: {name}", *([] if number is None else [f"id: {number}"]), f"data: {json.dumps(values)}"]
    return "\n".join(lines) + "\n\n"

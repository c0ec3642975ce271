"""What of gradio a client may reach: the routes that the page uses, with the files that were uploaded here. No more.

gradio has many routes besides, which open files, fetch addresses and run code for whoever names them, and every version
brings new ones. So the list is of what is let through, and all else is answered with 404 before gradio sees it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import safehttpx
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..server.responses import route_path
from .uploads import Uploads

EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")  # with a place in the queue, and at once
_DEVICES = r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:[./]|$))"  # names that Windows keeps for itself
_PART = rf"{_DEVICES}[A-Za-z0-9_@-][A-Za-z0-9_.@-]{{0,127}}"  # no dot in front, so none that climbs
_FILE = rf"(?:{_PART}/){{0,4}}{_PART}"
USED = {  # path: method, and whether gradio gets to see the query
    r"/": ("GET", False),
    r"/favicon\.ico": ("GET", False),
    r"/theme\.css": ("GET", False),
    rf"/(?:assets|static)/{_FILE}": ("GET", False),
    r"/gradio_api/app_id": ("GET", False),  # after a lost connection: whether the server is another by now
    r"/gradio_api/heartbeat/[A-Za-z0-9]{1,64}": ("GET", False),
    r"/gradio_api/queue/data": ("GET", True),
    **{path: ("POST", False) for path in EVENTS},
}
_NO_EVENT = "this is no event of the page"
_KEY, _MARK = "path", "meta"  # what gradio knows a file by, within the data of an event


class Gate:
    """An ASGI layer in front of the mounted page."""

    def __init__(self, app: ASGIApp, uploads: Uploads, events: Mapping[int, int]) -> None:
        """`events` has the number of inputs of each of the page's events."""
        self._app, self._uploads, self._events = app, uploads, events
        self._page = GZipMiddleware(app)  # the scripts come compressed already, and previews are too many to be

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a known request on with its known fields only, or answer 404."""
        takes_query = let_through(scope)
        if takes_query is None:
            await _refuse(404, "the page has nothing here", scope, receive, send)
            return
        if not takes_query:
            scope = {**scope, "query_string": b""}
        if route_path(scope) not in EVENTS:
            app = self._page if route_path(scope) == "/" else self._app
            await app(scope, receive, send)
            return
        try:
            body = _known_event(_with_known_files(json.loads(await _read(receive)), self._uploads), self._events)
            encoded = json.dumps(body).encode()
        except (ValueError, RecursionError) as error:
            text = _NO_EVENT if isinstance(error, RecursionError) else str(error)
            await _refuse(400, text, scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
        scope = {**scope, "headers": [*headers, (b"content-length", str(len(encoded)).encode())]}
        await self._app(scope, _again(encoded, receive), send)


def fetch_nothing() -> None:
    """Take from gradio what it fetches addresses with, in case a request ever gets past the gate."""

    async def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("this server fetches nothing")

    safehttpx.get = safehttpx.async_validate_url = refuse


def let_through(scope: Scope) -> bool | None:
    """Whether a request is one that the page makes, and then whether its query counts; None if it is not."""
    if scope["type"] != "http":
        return None
    path = route_path(scope)
    for pattern, (method, takes_query) in USED.items():
        if scope["method"] in (method, "HEAD" if method == "GET" else method) and re.fullmatch(pattern, path):
            return takes_query
    return None


def _known_event(body: Any, events: Mapping[int, int]) -> Any:
    """The same.

    Raises:
        ValueError: it names no event, or has not one value for each input; gradio would print a traceback.
    """
    number, data = (body.get("fn_index"), body.get("data")) if isinstance(body, dict) else (None, None)
    if type(number) is not int or not isinstance(data, list) or events.get(number) != len(data):
        raise ValueError(f"{_NO_EVENT}; load it again")
    return body


def _with_known_files(body: Any, uploads: Uploads) -> Any:
    """The same, with every file reduced to its key.

    Raises:
        ValueError: a file is named that is not one of `uploads`.
    """
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and (_KEY in value or _MARK in value):
            uploads.open(value.get(_KEY))
            known = {_KEY: value[_KEY], _MARK: {"_type": "gradio.FileData"}}
            value.clear()
            value.update(known)
        elif isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return body


async def _read(receive: Receive) -> bytes:
    """The whole body; `access.Guard` ends those that are too large."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _refuse(status: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await JSONResponse({"detail": text}, status)(scope, receive, send)  # as gradio's own errors are

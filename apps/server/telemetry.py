"""What the server tells of its work: an id on every answer, a line a request, and numbers for Prometheus.

Nothing of it holds a prompt: addresses are logged as the routes they fell to, without their queries.
"""

import json
import secrets
import sys
import time
import traceback
from datetime import UTC, datetime
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..engine.engine import Engine
from .responses import error_body, route_path, to_api_error

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_LEFT = 499  # nginx's status for a client that left before it was answered
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Meters:
    """The numbers of one server."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files; on Linux
        named = {"namespace": "amused_lite", "registry": self.registry}
        labels = ("method", "route", "status")
        self.requests = Counter("requests", "Answered requests; status 429 is a full queue", labels, **named)
        self._pictures = Histogram("picture_seconds", "Drawing of a picture", ("model",), buckets=_SECONDS, **named)
        Gauge("queue_length", "Requests that wait", **named).set_function(lambda: len(engine.waiting()))
        Gauge("queue_limit", "Requests that may wait", **named).set(engine.queue_limit)
        Gauge("running", "Requests that are drawn: 0 or 1", **named).set_function(lambda: engine.running() is not None)
        engine.observe = lambda model, seconds: self._pictures.labels(model).observe(seconds)


class Telemetry:
    """The layer; it answers what nothing inside could, too."""

    def __init__(self, app: ASGIApp, meters: Meters, log: bool = False) -> None:
        self._app, self._meters, self._log = app, meters, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, id = time.monotonic(), f"req_{secrets.token_hex(12)}"
        status, sent = 0, 0
        inner = {**scope, "state": dict(scope.get("state", {}))}  # where the layers inside leave what they find out

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", id.encode())]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(inner, receive, watched)
        except Exception as error:
            if status:
                raise  # the connection is closed, so that nobody takes the half for the whole
            traceback.print_exc(file=sys.stderr)
            await _fail(scope, error, watched)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(inner.get("route"), "path_format", "")
            self._meters.requests.labels(method, route or "none", str(status or _LEFT)).inc()
            if self._log:
                what = f"{method} {route or _beginning(scope)} {status or _LEFT}"
                print(_line(inner, what, sent, time.monotonic() - began, id), file=sys.stderr, flush=True)


def _beginning(scope: Scope) -> str:
    """Of an address that fell to no route: what follows may be somebody's secret."""
    head, more, _ = route_path(scope)[1:].partition("/")
    return quote(f"/{head[:40]}{more and '/...'}")


def _line(scope: Scope, what: str, sent: int, seconds: float, id: str) -> str:
    """Time, address and name of the client, method, route and status, bytes sent, seconds, id."""
    client = scope["state"].get("client")
    name = client.name if client is not None and not client.address else ""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{when} {(scope.get('client') or ('-',))[0]} {name or '-'} {what} {sent} {seconds:.3f} {id}"


async def _fail(scope: Scope, error: Exception, send: Send) -> None:
    said = to_api_error(error)
    body = json.dumps(error_body(route_path(scope), said)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

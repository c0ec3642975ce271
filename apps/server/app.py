"""The HTTP server: every dialect on one engine, as a FastAPI application that a page can be mounted on.

app = build_app(engine, make_access("127.0.0.1"))        # Proxied > Telemetry > CORS > Guard > routes
app = gradio.mount_gradio_app(app, page, path="/")     # if there is one, last; the rules of `access` hold for it too
serve(app, engine, listen("127.0.0.1", 7860))
"""

import asyncio
import errno
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from amused_lite import __version__

from ..engine.engine import Engine
from . import api_a1111, api_jobs, api_mcp, api_openai
from .access import MAX_BODY, Access, Guard
from .proxy import Proxied
from .responses import ApiError, answer_error
from .telemetry import Meters, Telemetry
from .timeouts import TimedProtocol

GRACE = 30.0  # s that a running picture gets when the server is told to stop
_LAST_WORDS = 1.0  # s for answers to leave after the second Ctrl-C
_MAX_CONNECTIONS = 512  # at a time; more are told 503
MultiPartParser.spool_max_size = MAX_BODY  # uploads stay in memory, and off the disk
_ABOUT = """Text to pictures on this machine. One engine answers OpenAI's image endpoints, A1111's, assistants through
the Model Context Protocol at /mcp, and its own jobs with progress and previews. Pictures are made one at a time;
requests that wait are bounded, and more are told 429."""


def build_app(engine: Engine, access: Access, access_log: bool = False) -> FastAPI:
    """The application. Its interactive pages are left out, since they would load scripts from elsewhere."""
    meters = Meters(engine)
    mcp = api_mcp.make_mcp(engine)
    mcp_routes = mcp.streamable_http_app().routes
    app = FastAPI(
        title="amused-lite",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda _: mcp.session_manager.run(),
        routes=mcp_routes,
    )

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, Any]:
        """Whether it is up, and whether it takes more: "ok", "full" or "stopping"."""
        waiting = len(engine.waiting())
        status = "stopping" if engine.closing else "full" if waiting >= engine.queue_limit else "ok"
        return {"status": status, "version": __version__, "waiting": waiting, "queue": engine.queue_limit}

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Numbers in Prometheus' form: requests, queue, seconds a picture, memory."""
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    for api in (api_openai, api_jobs, api_a1111):
        app.include_router(api.make_router(engine))
    for kind in (ApiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer_error)  # type: ignore[arg-type]  # it takes each of them
    app.add_middleware(Guard, access=access)
    if access.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after", "x-request-id"],
        )
    app.add_middleware(Telemetry, meters=meters, log=access_log)
    app.add_middleware(Proxied, trusted=access.proxies)
    return app


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes any that is free.

    Raises:
        ValueError: the port is in use or may not be used, or the host is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except socket.gaierror as error:
        raise ValueError(f"host {host!r} is not known; give an address of this machine") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use; choose another with --port, or --port 0 for any that is free"
        elif error.errno == errno.EACCES:
            message = f"port {port} may not be used by this user; choose one above 1023 with --port"
        else:
            message = f"{host} port {port} cannot be used: {error.strerror}; give an address of this machine"
        raise ValueError(message) from error


def address(bound: socket.socket) -> str:
    """What to type into a browser."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def serve(app: FastAPI, engine: Engine, bound: socket.socket, grace: float = GRACE) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C: then new requests are refused, the running picture is finished, the rest
    is told. Ctrl-C again waits for nothing.

    Returns, or lets the signal's own handler have the last word.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=TimedProtocol,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=int(grace) + 5,  # the engine gives up first, so that the last client is told
        timeout_keep_alive=30,
    )
    server = _Server(config, engine, grace)
    try:
        server.run(sockets=[bound])
    finally:
        running = engine.running()
        engine.close(max(1.0, server.until - time.monotonic()))  # uvicorn has waited for open requests already
        if running is not None:
            print(f"amused-lite: the running picture ended as {running.state}", file=sys.stderr)


class _Server(uvicorn.Server):
    """uvicorn's server that closes the engine at the first signal: open requests wait for the engine."""

    def __init__(self, config: uvicorn.Config, engine: Engine, grace: float) -> None:
        super().__init__(config)
        self._engine, self._grace = engine, grace
        self.until = time.monotonic()  # when the running picture must be finished

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Those that uvicorn captures, and SIGHUP unless nohup made the program deaf to it."""
        with super().capture_signals():
            hang_up = getattr(signal, "SIGHUP", None)
            before = signal.SIG_IGN if hang_up is None else signal.getsignal(hang_up)
            if hang_up is None or before == signal.SIG_IGN:
                yield
                return
            signal.signal(hang_up, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(hang_up, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the engine, then handle the signal as uvicorn does."""
        again = self.should_exit and sig == signal.SIGINT
        self._captured_signals.append(sig)
        self.should_exit = True
        loop = asyncio.get_running_loop()
        if again:
            self.until = time.monotonic()
            loop.call_soon_threadsafe(self._leave)
        elif len(self._captured_signals) == 1:
            self.until = time.monotonic() + self._grace
            print("amused-lite: stopping; the running picture is finished first", file=sys.stderr)
            loop.call_soon_threadsafe(self._engine.refuse)
            loop.call_soon_threadsafe(loop.call_later, self._grace, self._give_up)

    def _give_up(self) -> None:
        running = self._engine.running()
        if running is not None:
            self._engine.cancel(running, "the program is stopping and could not wait for this picture any longer")

    def _leave(self) -> None:
        """Tell those who wait, and hang up on those who do not even read it."""
        self._engine.abandon()
        loop = asyncio.get_running_loop()
        loop.call_later(_LAST_WORDS, self._hang_up)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

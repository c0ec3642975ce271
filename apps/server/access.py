"""Who may talk to the server, and how much: tokens, names, foreign pages, sizes. An ASGI layer around everything.

* Without a token only this machine can connect, since the server then binds a loopback address and nothing else.
* A page from elsewhere cannot use a visitor's browser: requests that change something are refused when their Origin is
  not this server, and names that only an attacker's DNS gives (rebinding) are refused whatever they ask.
* A body is refused by what it says about its size, and cut off where it says nothing.
"""

import hmac
import ipaddress
import json
import secrets
import socket
import time
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .responses import ApiError, error_body

MAX_BODY = 32 * 2**20  # bytes
MIN_TOKEN = 16  # characters
_COOKIE = "amused_token"
_DRAIN_SECONDS, _DRAIN_BYTES = 20.0, 2**30  # of a body that is refused, so that its sender gets to read why
_OPEN = ("/health", "/pictures/")  # pictures have names that nobody can guess
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
)


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    token: str = ""  # "": none is asked for
    cors: tuple[str, ...] = ()  # origins of other pages that may use it
    names: frozenset[str] = field(default_factory=frozenset)  # host names beside localhost and plain addresses
    max_body: int = MAX_BODY


def make_access(host: str, token: str | None = None, cors: Iterable[str] = (), names: Iterable[str] = ()) -> Access:
    """The rules for a host to bind: this machine alone needs no token, any other host gets one if none is given.

    Raises:
        ValueError: a token is too short, or an origin is none.
    """
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(f"a token needs {MIN_TOKEN} or more plain characters; leave --token out to have one made")
    for origin in cors:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(f"--cors {origin!r} is no origin; write it like http://localhost:3000")
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    own = {host, socket.gethostname(), *names} if not is_loopback(host) else set(names)
    return Access(token or "", tuple(cors), frozenset(name.lower() for name in own))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The layer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or answer."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refused = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refused is not None:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        moved = self._with_cookie(scope) if refused is None or refused.status == 401 else None
        if moved is not None:
            await _answer(send, 303, b"", moved)
        elif refused is not None:
            await self._drain(headers, receive)
            body = json.dumps(error_body(scope["path"], refused)).encode()
            plain = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
            await _answer(send, refused.status, body, [(b"content-type", b"application/json"), *plain])
        else:
            with suppress(ClientDisconnect):  # whoever leaves in the middle of an upload is no error of ours
                await self._app(scope, self._counted(receive), _hardened(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> ApiError | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return ApiError(403, "this server does not go by that name; use its address, or start it with --allow-host")
        origin, changes = headers.get("origin"), scope.get("method") not in ("GET", "HEAD", "OPTIONS")
        if origin is not None and changes and origin not in self._access.cors and urlsplit(origin).netloc != host:
            return ApiError(403, "pages from elsewhere may not use this server; allow them with --cors ORIGIN")
        if self._access.token and not scope["path"].startswith(_OPEN) and not self._has_token(headers):
            browser = "text/html" in headers.get("accept", "")
            asks = 'Basic realm="amused-lite: any name, and the token as password"' if browser else "Bearer"
            message = "this server needs its token: Authorization: Bearer TOKEN"
            return ApiError(401, message, "invalid_api_key", WWW_Authenticate=asks)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._access.max_body:
            most = f"at most {self._access.max_body // 2**20} MB are taken"
            return ApiError(413, f"the body is too large; {most}", "body_too_large", Connection="close")
        return None

    def _knows(self, host: str) -> bool:
        """Whether a Host header is one of this server's: an address, localhost or a name it was given."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._access.names:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True

    def _has_token(self, headers: dict[str, str]) -> bool:
        given = []
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            given.append(value.strip())
        elif kind.lower() == "basic":  # for clients that know names and passwords only
            try:
                given.append(b64decode(value).decode("utf-8", "replace").partition(":")[2])
            except ValueError:
                return False
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None:
            given.append(cookie.value)
        return any(self._is_token(one) for one in given)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._access.token.encode())

    def _with_cookie(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """For a browser that opens ?token=...: the headers that send it on, with a cookie and without the token."""
        if not self._access.token or scope["method"] != "GET" or b"token=" not in scope["query_string"]:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=100)
        given = [value for name, value in query if name == "token"]
        if len(given) != 1 or not self._is_token(given[0]):
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + scope["path"].lstrip("/\\")  # never another host's
        place = urlencode({"": path}, safe="/")[1:].encode() + (b"?" + rest.encode() if rest else b"")
        cookie = f"{_COOKIE}={self._access.token}; HttpOnly; SameSite=Strict; Path=/".encode()
        return [(b"location", place), (b"set-cookie", cookie)]

    async def _drain(self, headers: dict[str, str], receive: Receive) -> None:
        """Read what is refused and drop it, within limits: a sender that is cut off never sees the answer."""
        if headers.get("expect", "").lower() == "100-continue":
            return
        until, left, more = time.monotonic() + _DRAIN_SECONDS, _DRAIN_BYTES, True
        while more and left > 0 and time.monotonic() < until:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)

    def _counted(self, receive: Receive) -> Receive:
        """The same body, ended by an error where it grows too large."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._access.max_body:
                raise HTTPException(
                    413, f"the body is too large; at most {self._access.max_body // 2**20} MB are taken"
                )
            return message

        return counted


def _headers(scope: Scope) -> dict[str, str]:
    """Header names in lower case; of a header that comes twice, values that match nothing."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in there)]
        await send(message)

    return hardened


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})

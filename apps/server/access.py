"""ASGI middleware for access control: tokens, host names, origins of pages, and sizes of bodies.

* Without a token only this machine can connect, since the server then binds a loopback address and nothing else; what
  a proxy hands on is refused then, because anyone may have sent it.
* Clients are told apart by the name of their token, or by what they send as one and by their address.
* A page from elsewhere cannot use a visitor's browser: requests that change something are refused when their Origin is
  not this server, and names that only an attacker's DNS gives (rebinding) are refused whatever they ask.
* A body is refused by what it says about its size, and cut off where it says nothing.
"""

import ipaddress
import json
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .proxy import FORWARDING
from .responses import ApiError, error_body, route_path
from .tokens import COOKIE, Client, digest, name_of, sent_tokens

MAX_BODY = 32 * 2**20  # bytes
_DRAIN_SECONDS, _DRAIN_BYTES = 20.0, 2**30  # of a body that is refused, so that its sender gets to read why
_OPEN = ("/health", "/pictures/")  # pictures have random names
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
)


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    tokens: Mapping[str, str] = field(default_factory=dict)  # by name; empty: none is asked for
    cors: tuple[str, ...] = ()  # origins of other pages that may use it
    names: frozenset[str] = field(default_factory=frozenset)  # host names beside localhost and plain addresses
    proxies: tuple[str, ...] = ()  # addresses and networks whose forwarding headers count
    made: bool = False  # whether the token was made here, and so must be told
    max_body: int = MAX_BODY

    @property
    def token(self) -> str:
        """The first token, or ""."""
        return next(iter(self.tokens.values()), "")


def make_access(
    host: str,
    tokens: Mapping[str, str] | None = None,
    cors: Iterable[str] = (),
    names: Iterable[str] = (),
    proxies: Iterable[str] = (),
) -> Access:
    """The rules for a host to bind: this machine alone, without a proxy, needs no token; else one is made if needed.

    Raises:
        ValueError: an origin or a proxy's address is none.
    """
    for origin in cors:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(f"--cors {origin!r} is no origin; write it like http://localhost:3000")
    proxies = tuple(proxies)
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            known = "an address like 127.0.0.1 or a network like 10.0.0.0/8"
            raise ValueError(f"--forwarded-allow-ips {proxy!r} is neither; write {known}") from None
    made = not tokens and (bool(proxies) or not is_loopback(host))
    own = {host, socket.gethostname(), *names} if not is_loopback(host) else set(names)
    return Access(
        {"": secrets.token_urlsafe(24)} if made else tokens or {},
        tuple(cors),
        frozenset(name.lower() for name in own),
        proxies,
        made,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that applies `Access` to every request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        client = self._client(scope, headers)
        refused = self._refusal(scope, headers, client)
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in FORWARDING]
        scope["state"]["client"] = client
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
            body = json.dumps(error_body(route_path(scope), refused)).encode()
            plain = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
            await _answer(send, refused.status, body, [(b"content-type", b"application/json"), *plain])
        else:
            if (
                scope["method"] == "HEAD"
            ):  # whatever can be got can be asked for without its body, which uvicorn leaves out
                scope["method"] = "GET"
            with suppress(ClientDisconnect):  # whoever leaves in the middle of an upload is no error of ours
                await self._app(scope, self._counted(receive), _hardened(send))

    def _client(self, scope: Scope, headers: dict[str, str]) -> Client | None:
        """Who asks; None for a client without a token where one is needed."""
        given, address = list(sent_tokens(headers)), (scope.get("client") or ("",))[0]
        if not self._access.tokens:
            return Client(digest(given[0]) if given else "", address)
        for one in given:
            name = name_of(one, self._access.tokens)
            if name is not None:
                return Client(name, "") if name else Client(digest(one), address)
        return None

    def _refusal(self, scope: Scope, headers: dict[str, str], client: Client | None) -> ApiError | None:
        host = headers.get("host", "")
        if not self._access.tokens and _was_forwarded(scope):
            return ApiError(403, "this came through a proxy; start the server with --forwarded-allow-ips ADDRESS")
        if not self._knows(host) and "proxied" not in scope["state"]:  # there is a token then, which no name replaces
            return ApiError(403, "this server does not go by that name; use its address, or start it with --allow-host")
        origin, changes = headers.get("origin"), scope.get("method") not in ("GET", "HEAD", "OPTIONS")
        if origin is not None and changes and origin not in self._access.cors and _host_of(origin) != host:
            return ApiError(403, "pages from elsewhere may not use this server; allow them with --cors ORIGIN")
        if client is None and not route_path(scope).startswith(_OPEN):
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

    def _with_cookie(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """For a browser that opens ?token=...: the headers that send it on, with a cookie and without the token."""
        if not self._access.tokens or scope["method"] != "GET" or b"token=" not in scope["query_string"]:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=100)
        given = [value for name, value in query if name == "token"]
        if len(given) != 1 or name_of(given[0], self._access.tokens) is None:
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + scope["path"].lstrip("/\\")  # never another host's
        place = urlencode({"": path}, safe="/")[1:].encode() + (b"?" + rest.encode() if rest else b"")
        secure = "; Secure" if scope["scheme"] == "https" else ""
        cookie = f"{COOKIE}={given[0]}; HttpOnly; SameSite=Strict; Path={scope.get('root_path') or '/'}{secure}"
        return [(b"location", place), (b"set-cookie", cookie.encode())]

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


def _host_of(origin: str) -> str | None:
    """Host and port of a header's origin; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _was_forwarded(scope: Scope) -> bool:
    """Whether a proxy handed this on. Plain ones, nginx among them, speak HTTP/1.0, which hardly a client does."""
    return scope["http_version"] == "1.0" or any(name in FORWARDING for name, _ in scope["headers"])


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

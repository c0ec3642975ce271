"""What a reverse proxy says of a request, believed from those proxies alone that the command named. An ASGI layer.

X-Forwarded-For and -Proto are uvicorn's to read; -Host and -Prefix, which it leaves aside, are read here. Afterwards
the headers are gone, so whatever comes later and still finds one knows that nobody vouches for it.
"""

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

FORWARDING = frozenset(
    (b"forwarded", b"via", b"x-real-ip", *(b"x-forwarded-" + name for name in b"for host port prefix proto".split()))
)
_HOST = re.compile(r"[\w.-]{1,253}(?::\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::\d{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(?:/\w[\w.~-]{0,99}){1,10}", re.ASCII)


class Proxied:
    """The layer; the outermost."""

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(one) for one in trusted]
        self._uvicorns = ProxyHeadersMiddleware(self._without_headers, list(trusted))  # type: ignore[arg-type]  # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, as it was seen from outside."""
        if scope["type"] == "lifespan" or not self._trusts(scope):
            await self._app(scope, receive, send)
        else:
            await self._uvicorns(_as_asked(scope), receive, send)  # type: ignore[arg-type]  # as above

    def _trusts(self, scope: Scope) -> bool:
        try:
            peer = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(peer in network for network in self._networks)

    async def _without_headers(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [pair for pair in scope["headers"] if pair[0] not in FORWARDING]
        await self._app({**scope, "headers": headers}, receive, send)


def _as_asked(scope: Scope) -> Scope:
    """With the host and below the prefix by which the proxy's client asked."""
    headers = {name: value.decode("latin-1").rpartition(",")[2].strip() for name, value in scope["headers"]}
    host, prefix = headers.get(b"x-forwarded-host", ""), headers.get(b"x-forwarded-prefix", "").rstrip("/")
    asked = {**scope, "state": {**scope.get("state", {}), "proxied": True}}
    if _HOST.fullmatch(host):
        kept = [pair for pair in scope["headers"] if pair[0] != b"host"]
        asked["headers"] = [*kept, (b"host", host.encode())]
    if _PREFIX.fullmatch(prefix):
        asked["root_path"] = prefix
        if not f"{scope['path']}/".startswith(f"{prefix}/"):  # most proxies take it off
            asked["path"] = prefix + scope["path"]
            asked["raw_path"] = prefix.encode() + scope.get("raw_path", b"")
    return asked

"""Connections that begin a request and stall: closed in their time, of which docs/server.md states the true one."""

import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from amused_lite.apps.server.timeouts import BODY_SECONDS, HEADER_SECONDS
from serving import Start

HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


HEADER, BODY = 2.0, 8.0  # s, to wait less
SHORTER = f"from amused_lite.apps.server import timeouts as t; t.HEADER_SECONDS, t.BODY_SECONDS = {HEADER}, {BODY}"


def trickle(wire: socket.socket) -> None:
    """A header that comes to no end, though bytes keep coming."""
    with suppress(OSError):
        while True:
            wire.sendall(b"X")
            time.sleep(0.5)


def test_what_stalls_is_closed(start: Start) -> None:
    server = start(first=SHORTER)
    place = urlsplit(server.url)
    began = time.monotonic()
    stalls = {
        "nothing": b"",
        "half a header": HEAD,
        "half of a second header": GET + HEAD,
        "half a body": HEAD + b"\r\n{",
    }
    wires = {name: socket.create_connection((place.hostname, place.port), 60) for name in stalls}
    for name, wire in wires.items():
        wire.sendall(stalls[name])
    drip = socket.create_connection((place.hostname, place.port), 60)
    threading.Thread(target=trickle, args=(drip,), daemon=True).start()
    took, said = {}, {}
    for name, wire in wires.items():  # the body, which has the longest time, is the last
        said[name] = b""
        while data := wire.recv(4096):
            said[name] += data
        took[name] = time.monotonic() - began
        wire.close()
    assert HEADER - 1 < min(took.values()) and took["half of a second header"] < BODY
    assert took["half a body"] > BODY - 1
    assert said["nothing"] == b"" and said["half a header"].startswith(b"HTTP/1.1 408 ")
    assert said["half a body"].startswith(b"HTTP/1.1 408 ")
    assert (
        said["half of a second header"].startswith(b"HTTP/1.1 200 ")
        and b"HTTP/1.1 408 " in said["half of a second header"]
    )
    assert drip.recv(4096).startswith(b"HTTP/1.1 408 ")
    drip.close()


def test_the_page_states_these_times() -> None:
    text = (Path(__file__).parents[3] / "docs" / "server.md").read_text()
    assert re.search(rf"header .*{HEADER_SECONDS:g} s", text) and re.search(rf"body .*{BODY_SECONDS:g} s", text)

"""What strangers may send: the right status, nothing written, and a server that goes on."""

import base64
import http.client
import json
import socket
import time
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image
from serving import Server, Start, is_alone, png

LARGE = 200 * 2**20  # bytes


@pytest.fixture(autouse=True)
def still_there(server: Server) -> Iterator[None]:
    """After each of these the server answers, and has written nothing."""
    yield
    assert requests.get(f"{server.url}/health").json()["status"] == "ok"
    assert server.process.poll() is None
    assert server.written() == []


def test_malformed_bodies(server: Server) -> None:
    bodies = [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b'{"prompt": }']
    bodies += [b'{"prompt": 3}', b'{"prompt": ["a"]}', b'{"prompt": null}', b'{"prompt": "a", "seed": 1e999}']
    bodies += [b'{"prompt": "a", "seed": ' + b"9" * 10_000 + b"}", b'{"prompt": "a", "guidance_scale": NaN}']
    bodies += [b'{"prompt": "a\\ud800"}', b'{"prompt": "a\\u0000"}', b'{"prompt": "a", "n": -1}']
    for path in ("/v1/images/generations", "/jobs", "/sdapi/v1/txt2img"):
        for body in bodies:
            if path == "/sdapi/v1/txt2img":
                body = body.replace(b"guidance_scale", b"cfg_scale").replace(b'"n"', b'"n_iter"')
            if path == "/jobs":
                body = body.replace(b'"n"', b'"count"')
            reply = requests.post(server.url + path, data=body, headers={"content-type": "application/json"})
            assert reply.status_code in (400, 422), (path, body[:40], reply.status_code, reply.text[:200])
            assert len(reply.content) < 1000 and set(reply.json()) & {"error", "detail"}


@pytest.fixture(scope="module")
def keeper(start: Start) -> Iterator[Server]:
    """One that keeps what it draws, so that a picture drawn for nobody is seen."""
    server = start("--history", "kept")
    yield server
    server.process.terminate()
    assert "Traceback" not in server.process.communicate(timeout=60)[1]


@pytest.mark.parametrize("value", ['"\\ud800"', '{"\\udfff": 1}', "[NaN]", "-Infinity", "[" * 5000 + "]" * 5000])
def test_what_cannot_be_sent_back_is_refused_before_it_is_drawn(keeper: Server, value: str) -> None:
    before, body = keeper.written(), f'{{"prompt": "a", "steps": 1, "override_settings": {{"x": {value}}}}}'
    reply = requests.post(f"{keeper.url}/sdapi/v1/txt2img", data=body, headers={"content-type": "application/json"})
    assert keeper.written() == before
    assert reply.status_code in (400, 422) and len(reply.json()["detail"]) < 200


def test_malformed_forms(server: Server) -> None:
    url = f"{server.url}/v1/images/edits"
    assert requests.post(url, data=b"x", headers={"content-type": "multipart/form-data"}).status_code == 400
    assert requests.post(url, data=b"x", headers={"content-type": "multipart/form-data; boundary=b"}).status_code == 400
    assert requests.post(url, json={"prompt": "a"}).status_code == 415
    for files, fields in (
        ({"mask": b"x"}, {"prompt": "a"}),
        ({"image": b"no picture"}, {"prompt": "a"}),
        ({"image": png(Image.new("RGB", (64, 64))), "mask": b"no picture"}, {"prompt": "a"}),
        ({"image": png(Image.new("RGB", (64, 64)))}, {}),
        ({"image": png(Image.new("RGB", (64, 64)))}, {"prompt": "a", "adapters": "[[[["}),
        ({"image": png(Image.new("RGB", (4, 4)))}, {"prompt": "a"}),
        ([("image", b"a"), ("image", b"b")], {"prompt": "a"}),
        ([(f"file{i}", b"a") for i in range(50)], {"prompt": "a"}),
    ):
        reply = requests.post(url, files=files, data=fields)
        assert reply.status_code == 400, (fields, reply.text)
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_names_of_files_are_never_looked_at(server: Server) -> None:
    picture = png(Image.new("RGB", (64, 64), "red"))
    for name, status in (("../../../etc/passwd", 200), ("C:\\$(reboot)", 200), ("a\0b", 200), ("x" * 10_000, 400)):
        files = {"image": (name, picture)}
        reply = requests.post(
            f"{server.url}/v1/images/edits", files=files, data={"prompt": "a", "steps": 1, "strength": 1}
        )
        assert reply.status_code == status, name


PATHS = (
    *("/../../etc/passwd", "/pictures/../../etc/passwd", "/pictures/x/0.png/../../../etc/passwd"),
    *("/%2e%2e/%2e%2e/etc/passwd", "/pictures/..%2f..%2fetc/0.png", "/v1/models/../../etc/passwd"),
    *("/jobs/%00", "//etc/passwd", "/file=/etc/passwd", "/static/..%2f..%2fetc/passwd"),
)


@pytest.mark.parametrize("path", PATHS)
def test_paths_reach_no_file(server: Server, path: str) -> None:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    connection.request("GET", path)  # as written: requests would tidy it up
    reply = connection.getresponse()
    assert reply.status == 404 and b"root:" not in reply.read()
    connection.close()


def test_models_and_pictures_are_never_paths_or_addresses(server: Server) -> None:
    for fields in (
        {"model": "/etc"}, {"model": "amused/amused-512"}, {"adapters": [{"name": "/etc/passwd"}]},
        {"runtime": "torch; ls"},
        {"operation": "vary", "image": "/etc/passwd"}, {"operation": "vary", "image": "http://127.0.0.1/x.png"},
        {"operation": "vary", "image": "file:///etc/passwd"}, {"adapters": [{"name": "x", "weight": 1e99}]},
    ):  # fmt: skip
        reply = requests.post(f"{server.url}/jobs", json={"prompt": "a", **fields})
        assert reply.status_code == 400, (fields, reply.text)


def test_a_prompt_of_a_million_characters(server: Server) -> None:
    for letter in ("x", "🎈", "\\"):
        for path in ("/v1/images/generations", "/jobs", "/sdapi/v1/txt2img"):
            reply = requests.post(server.url + path, json={"prompt": letter * 10**6})
            assert reply.status_code == 400 and len(reply.content) < 1000
    form = requests.post(f"{server.url}/v1/images/edits", files={"image": b"x"}, data={"prompt": "x" * 10**6})
    assert form.status_code == 400


def test_large_uploads_are_refused_by_their_size(server: Server) -> None:
    before = server.memory()
    for path, kind in (("/v1/images/edits", "multipart/form-data; boundary=b"), ("/jobs", "application/json")):
        reply = upload(server, path, {"content-type": kind, "content-length": str(LARGE)})
        assert reply is not None and reply.status == 413 and b"32 MB" in reply.read()
    assert server.memory() - before < 40, "a refused body was kept"


def test_large_uploads_that_do_not_say_so_are_cut_off(server: Server) -> None:
    before = server.memory()
    reply = upload(server, "/jobs", {"content-type": "application/json", "transfer-encoding": "chunked"})
    assert reply is None or reply.status == 413
    assert server.memory() - before < 150, "more than the limit was kept"


def upload(server: Server, path: str, headers: dict[str, str]) -> http.client.HTTPResponse | None:
    """Send 200 MB; None where the server hung up before all was sent, so that its answer may be lost."""
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    try:
        connection.request("POST", path, _zeros(LARGE), headers, encode_chunked="transfer-encoding" in headers)
        return connection.getresponse()
    except ConnectionError:
        return None


def _zeros(count: int) -> Iterator[bytes]:
    for _ in range(count // 2**20):
        yield bytes(2**20)


def test_false_lengths(server: Server) -> None:
    place = urlsplit(server.url)
    for length in (b"-1", b"99999999999999999999999999", b"1e9", b"0x10", b"5, 6"):
        with socket.create_connection((place.hostname, place.port), 10) as wire:
            head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            wire.sendall(head + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n")
            assert wire.recv(20).split()[1] in (b"400", b"413")


def test_bombs(server: Server) -> None:
    """A picture of 30000 x 30000 px in a few kilobytes, and one that says so without being it."""
    rows = zlib.compress(b"\0" * 30_000 * 100, 9)
    header = (30_000).to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    before = server.memory()
    reply = requests.post(f"{server.url}/v1/images/edits", files={"image": bomb}, data={"prompt": "a"})
    assert reply.status_code == 400 and "px" in reply.json()["error"]["message"]
    assert server.memory() - before < 100


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_names_of_rebinding_attackers_are_refused(server: Server) -> None:
    for host in ("attacker.example", "localhost.attacker.example", "127.0.0.1.nip.io:80", "", "[", "a@localhost:1@b"):
        reply = requests.get(f"{server.url}/v1/models", headers={"host": host})
        assert reply.status_code in (400, 403), host
    for host in ("localhost", "127.0.0.1:1", "[::1]:7860"):
        assert requests.get(f"{server.url}/v1/models", headers={"host": host}).status_code == 200


def test_pages_from_elsewhere_can_change_nothing(server: Server) -> None:
    for origin in (
        "http://attacker.example",
        "null",
        "http://[",
        "http://localhost:1",
        "https://" + urlsplit(server.url).netloc + ".x",
    ):
        for path in ("/jobs", "/v1/images/generations", "/sdapi/v1/interrupt"):
            reply = requests.post(server.url + path, json={"prompt": "a"}, headers={"origin": origin})
            assert reply.status_code == 403
            assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    own = requests.post(f"{server.url}/jobs", json={"prompt": "a", "steps": 1}, headers={"origin": server.url})
    assert own.status_code == 202
    preflight = requests.options(
        f"{server.url}/jobs", headers={"origin": "http://x", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in preflight.headers


def test_slow_and_silent_connections_hold_nobody_up(server: Server) -> None:
    place = urlsplit(server.url)
    wires = [socket.create_connection((place.hostname, place.port), 10) for _ in range(100)]
    for wire in wires:
        wire.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    reply = requests.post(f"{server.url}/v1/images/generations", json={"prompt": "a red cup", "seed": 7, "steps": 2})
    assert is_alone(reply.json()["data"][0]["b64_json"], "a red cup", 7, 2)
    for wire in wires:
        wire.close()


def test_a_client_that_leaves_takes_its_picture_with_it(start: Start) -> None:
    server = start()
    place = urlsplit(server.url)
    body = json.dumps({"prompt": "a cup", "steps": 1000}).encode()
    for path, extra in (("/v1/images/generations", b""), ("/sdapi/v1/txt2img", b""), ("/v1/images/generations", b"s")):
        sent = body if not extra else json.dumps({"prompt": "a cup", "steps": 1000, "stream": True}).encode()
        wire = socket.create_connection((place.hostname, place.port), 10)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}"
        )
        wire.sendall(head.encode() + b"\r\n\r\n" + sent)
        time.sleep(0.5)  # it is being drawn by now, for minutes if nothing ended it
        wire.close()
        reply = requests.post(f"{server.url}/v1/images/generations", json={"prompt": "a", "steps": 1}, timeout=30)
        assert reply.status_code == 200
    server.process.terminate()
    assert "Traceback" not in server.process.communicate()[1]


def test_another_host_needs_the_token(start: Start) -> None:
    server = start("--host", "0.0.0.0")
    assert len(server.token) >= 24
    url, good = f"{server.url}/v1/models", f"Bearer {server.token}"
    basic = base64.b64encode(f"anyone:{server.token}".encode()).decode()
    wrongs = ("Bearer x", good + "x", "Basic !!!", "Bearer ", "Bearer \xff\xfe", f"bearer{server.token}")
    for wrong in ({}, {"cookie": "amused_token=x"}, *({"authorization": value} for value in wrongs)):
        reply = requests.get(url, headers=wrong)
        assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"
        assert requests.post(f"{server.url}/jobs", json={"prompt": "a"}, headers=wrong).status_code == 401
    assert requests.get(f"{url}?token=wrong").status_code == 401
    for right in (
        {"authorization": good},
        {"authorization": f"Basic {basic}"},
        {"cookie": f"amused_token={server.token}"},
    ):
        assert requests.get(url, headers=right).status_code == 200
    moved = requests.get(f"{server.url}/v1/models?a=b&token={server.token}", allow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, "/v1/models?a=b")
    assert "HttpOnly" in moved.headers["set-cookie"] and "SameSite=Strict" in moved.headers["set-cookie"]
    off = requests.get(f"{server.url}//attacker.example/?token={server.token}", allow_redirects=False)
    assert off.headers["location"].startswith("/attacker.example")
    reply = requests.post(
        f"{server.url}/v1/images/generations",
        json={"prompt": "a red cup", "seed": 7, "steps": 2, "response_format": "url"},
        headers={"authorization": good},
    )
    picture = reply.json()["data"][0]["url"]
    assert is_alone(requests.get(picture).content, "a red cup", 7, 2)  # its name is the secret
    server.process.terminate()


def test_only_named_pages_get_cors(start: Start) -> None:
    server = start("--cors", "http://localhost:3000")
    for origin, allowed in (("http://localhost:3000", True), ("http://localhost:3001", False)):
        reply = requests.post(f"{server.url}/jobs", json={"prompt": "a", "steps": 1}, headers={"origin": origin})
        assert (reply.status_code, reply.headers.get("access-control-allow-origin")) == (
            (202, origin) if allowed else (403, None)
        )
    server.process.terminate()

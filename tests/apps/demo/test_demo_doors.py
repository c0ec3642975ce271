"""What a client may name to the page: files that it uploaded. Nothing else is opened, and nothing is fetched.

The routes are those that the mounted application really has, so that a new gradio brings none unseen.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from PIL import Image
from serving import Server, Start, png
from starlette.routing import Route
from visiting import Listener, Visitor, ask, file, wire

pytest.importorskip("gradio")

from amused_lite.apps.demo.app_state import AppState
from amused_lite.apps.demo.page import MOST_TABS, mount
from amused_lite.apps.engine.engine import Engine
from amused_lite.apps.server import app as servers
from amused_lite.apps.server.access import make_access

SECRET = b"the-secret-of-another-folder"
CLIMBS = ("../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "..;/" * 12, "..\\" * 12, "..%5c" * 12, "%252e%252e%252f" * 12)
CLIMBS += ("\u2025/" * 12, "\uff0e\uff0e/" * 12, "..\u2215" * 12, "....//" * 12, "%c0%ae%c0%ae/" * 12, ".\0./" * 12)
ELSEWHERE = (
    *(
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd",
        "~/.profile",
        "C:\\Windows\\win.ini",
        "\\\\host\\share\\x",
    ),
    *("NUL", "CON.png", "aux.png", "COM1", "file:///etc/passwd", "file://localhost/etc/passwd", "file:/etc/passwd"),
    *("data:image/png;base64,iVBORw0KGgo=", "", ".", "/", "\0", "x" * 5000, "pyproject.toml", "gradio", ".gradio"),
)
ADDRESSES = (  # private, carrier, link-local, metadata, loopback in disguise, trusted by gradio, other schemes
    *("http://10.0.0.1/x.png", "http://192.168.1.1/x.png", "http://100.64.0.1/x.png", "http://100.127.255.254/x.png"),
    *(
        "http://169.254.1.1/x.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x.png",
        "http://[::1]/",
    ),
    *(
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://localhost/x.png",
    ),
    *("http://huggingface.co/x.png", "http://x.hf.space/x.png", "https://100.64.0.1/x.png", "http://192.0.2.1/x.png"),
    *("ftp://100.64.0.1/x.png", "gopher://100.64.0.1/", "HTTP://100.64.0.1/x.png", "http:/100.64.0.1/x.png"),
)
PLACE = re.compile(r"\{\w+(:path)?\}")
USED = {  # as gradio writes them; whoever adds one has looked at what it opens
    *("/", "/favicon.ico", "/theme.css", "/assets/{path:path}", "/static/{path:path}"),
    *("/gradio_api/app_id", "/gradio_api/heartbeat/{session_hash}", "/gradio_api/queue/data"),
    *("/gradio_api/queue/join", "/gradio_api/run/{api_name}"),
}
REFUSED = b"the page has nothing here"
OURS = {  # what stands before gradio's routes of these names, and what it says of nothing
    ("GET", "/gradio_api/file={path_or_url:path}"): b"this file is not in memory",
    ("POST", "/gradio_api/upload"): b"a form with files",
    ("GET", "/openapi.json"): b'"title":"amused-lite"',
    ("HEAD", "/openapi.json"): b"",
}


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


@pytest.fixture(scope="module")
def page(start: Start, listener: Listener) -> Server:
    """Whatever this server fetched, by any name, it would ask the listener for: that is its proxy."""
    proxies = {name: listener.url for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY")}
    return start(
        "--no-browser", "--no-history", command="demo", no_proxy="", NO_PROXY="", HF_HUB_OFFLINE="0", **proxies
    )


@pytest.fixture(scope="module")
def outside(page: Server) -> list[str]:
    """Names of files that no client uploaded: two that are there, by their paths, climbing, and through links."""
    folder = page.folder / "elsewhere"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "secret.png")
    (folder / "secret.txt").write_bytes(SECRET)
    scratch = next(page.folder.glob("amused-lite-*"))
    (scratch / "link.txt").symlink_to(folder / "secret.txt")
    (scratch / "secret.txt").write_bytes(SECRET)  # not even there: it is the server's own
    (scratch / "folder").symlink_to(folder)
    names = [str(folder / "secret.txt"), str(folder / "secret.png"), str(folder)]
    names += [str(scratch / "link.txt"), str(scratch / "folder" / "secret.txt"), str(scratch / "secret.txt")]
    names += [f"{climb}{folder / 'secret.txt'}" for climb in CLIMBS]
    names += [f"{scratch}/uploads/{climb}{folder / 'secret.txt'}" for climb in CLIMBS]
    names += [f"file://{folder / 'secret.txt'}", "elsewhere/secret.txt", f"//{folder / 'secret.txt'}"]
    return [*names, *ELSEWHERE]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """gradio's application, as the page mounts it."""
    engine = Engine()
    app_state = AppState(engine, tmp_path_factory.mktemp("styles"))
    try:
        last: Any = mount(servers.build_app(engine, make_access("127.0.0.1")), app_state).routes[-1]
        yield last.app
    finally:
        engine.close()
        app_state.close()


@pytest.fixture(scope="module")
def routes(mounted: Any) -> list[tuple[str, str]]:
    """Method and path of every route that gradio mounts."""
    found = sorted(set(walk(mounted.routes)))
    assert len(found) > 60
    return found


def walk(routes: list[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        inner = getattr(route, "original_router", None)  # newer versions of FastAPI keep routers whole
        if inner is not None:
            yield from walk(inner.routes)
            continue
        assert isinstance(route, Route), f"{route} is of a kind that these tests do not walk"
        yield from ((method, route.path) for method in route.methods or ())


def test_every_route_of_gradio_is_used_or_refused(page: Server, routes: list[tuple[str, str]]) -> None:
    from amused_lite.apps.demo import gate

    used, patterns = set(), set()
    for method, path in routes:
        target = PLACE.sub("x", path.replace("{api_name}", "predict"))
        scope = {"type": "http", "method": method, "path": target}
        if gate.let_through(scope) is None:
            status, body = ask(page, method, target, b"{}")
            ours = OURS.get((method, path))
            assert (status == 404 or ours is not None) and (method == "HEAD" or (ours or REFUSED) in body), (
                method,
                path,
            )
        else:
            used.add(path)
            patterns |= {pattern for pattern in gate.USED if re.fullmatch(pattern, target)}
    assert used == USED
    assert patterns == set(gate.USED), "a pattern lets through what is not there"


def test_no_route_opens_what_it_is_told(
    page: Server, routes: list[tuple[str, str]], outside: list[str], listener: Listener
) -> None:
    """In path, query and body: every name for the routes that are used, one of each kind for the others."""
    every = [*outside, *ADDRESSES, f"{listener.url}/x.png"]
    few = [*outside[:7], "file:///etc/passwd", "http://100.64.0.1/x.png", f"{listener.url}/x.png"]
    for method, path in routes:
        for name in every if path in USED or (method, path) in OURS else few:
            query = "&".join(f"{key}={wire(name)}" for key in ("path", "file", "url", "deep_link", "upload_id"))
            body = json.dumps({"data": [file(name)], "path": name, "session_hash": "x", "fn_index": 0}).encode()
            status, answer = ask(page, method, f"{PLACE.sub(lambda _, n=name: wire(n), path)}?{query}", body)
            assert SECRET not in answer and b"root:" not in answer, (method, path, name)
            assert status < 500, (method, path, name, status, answer[:300])
    assert listener.seen == []


def test_a_picture_elsewhere_is_not_sent_back(page: Server, outside: list[str]) -> None:
    """The first hole as it was found: a path, for a handler that takes a picture."""
    visitor = Visitor(page.url)
    event, target = visitor.event("open-picture", "upload"), visitor.component("open-picture")
    reply = visitor.join(event["id"], [file(outside[1])], target)
    said = json.dumps(list(visitor.messages())) if reply.ok else ""
    assert "64 x 64 px" not in said and "file=" not in said
    assert reply.status_code == 400


def test_no_address_is_fetched(page: Server, listener: Listener) -> None:
    """The second hole as it was found, and as a file of an event."""
    visitor = Visitor(page.url)
    event, target = visitor.event("open-picture", "upload"), visitor.component("open-picture")
    for name in [*ADDRESSES, f"{listener.url}/x.png"]:
        ask(page, "GET", f"/gradio_api/file={wire(name)}")
        assert listener.seen == [], name
        if visitor.join(event["id"], [file(name)], target).ok:
            list(visitor.messages())
        assert listener.seen == [], name


def test_nothing_is_given_out_by_name(page: Server, outside: list[str], listener: Listener) -> None:
    for name in [*outside, *ADDRESSES, f"{listener.url}/x.png"]:
        for way in ("file=", "file/", "proxy=", "stream/", "custom_component/"):
            for encoded in {wire(name), quote(name, safe="")}:
                status, answer = ask(page, "GET", f"/gradio_api/{way}{encoded}")
                assert status in (400, 404), (way, name, status, answer[:200])
                assert SECRET not in answer
    assert listener.seen == []


def test_events_take_no_files_but_uploads(page: Server, outside: list[str], listener: Listener) -> None:
    """Each event of the page, each of its inputs, as a file, in a list, and in the editor's parts."""
    visitor = Visitor(page.url)
    events = [(event["id"], len(event["inputs"])) for event in visitor.config["dependencies"] if event["inputs"]]
    assert len(events) > 20
    for number, count in events:
        for name in (outside[0], outside[1], "http://100.64.0.1/x.png"):
            data = [file(name)] * count
            assert visitor.join(number, data).status_code == 400, (number, name)
    (number, count), target = _takes_a_picture(visitor), visitor.component("open-picture")
    for name in [*outside, *ADDRESSES, f"{listener.url}/x.png"]:
        for way in ("queue/join", "run/predict"):
            assert visitor.join(number, [file(name)] * count, target, way).status_code == 400, (way, name)
    for name in (outside[0], "http://100.64.0.1/x.png", f"{listener.url}/x.png"):
        for value in (
            [file(name)],
            {"background": file(name), "layers": [file(name)], "composite": None},
            {**file(name), "meta": {}},
            {"path": name},
            file(name, url=f"{listener.url}/x.png", is_stream=True),
            {"url": name, "meta": {"_type": "gradio.FileData"}},
        ):
            assert visitor.join(number, [value] * count, target).status_code == 400, (name, value)
            assert visitor.join(number, [value] * count, target, "run/predict").status_code == 400, (name, value)
    for way in ("api/predict", "call/_upload", "call/v2/_upload", "run/_upload"):
        reply = requests.post(f"{page.url}/gradio_api/{way}", json={"data": [file(outside[1])], "fn_index": number})
        assert reply.status_code == 404, way
    assert listener.seen == []


def _takes_a_picture(visitor: Visitor) -> tuple[int, int]:
    event = visitor.event("open-picture", "upload")
    return event["id"], len(event["inputs"])


def test_events_that_the_page_has_not(page: Server) -> None:
    visitor = Visitor(page.url)
    number, count = _takes_a_picture(visitor)
    strangers: list[tuple[Any, Any]] = [(-1, []), (10**9, []), ("x", []), (None, []), (True, []), ([], [])]
    strangers += [(number, data) for data in ([], [None] * (count + 1), "x", None, {"0": None})]
    for event, data in strangers:
        for way in ("queue/join", "run/predict"):
            reply = visitor.join(event, data, None, way)
            assert reply.status_code == 400 and "no event of the page" in reply.text, (event, data, way)


def test_an_upload_is_opened_and_an_address_beside_it_is_not(page: Server, listener: Listener) -> None:
    visitor = Visitor(page.url)
    upload = visitor.upload(png(Image.new("RGB", (64, 48), "green")), "../../../etc/passwd")
    upload |= {"url": "http://100.64.0.1/x.png", "is_stream": True}
    visitor.set("open-picture", upload)
    changed = visitor.do("open-picture", "upload")
    assert "64 x 48 px" in changed
    shown = set(re.findall(r'"url": "([^"]+)"', changed))
    assert len(shown) == 1
    picture = requests.get(shown.pop())
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    back = requests.get(f"{page.url}/gradio_api/file={quote(upload['path'])}")
    assert back.headers["content-disposition"] == "attachment"  # what a client sent is shown to nobody
    assert listener.seen == []


def test_a_program_that_draws_for_whoever_opens_it_is_not_run(page: Server) -> None:
    visitor = Visitor(page.url)
    program = visitor.upload(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(x) print\n", "picture.png")
    visitor.set("open-picture", program)
    assert "no picture that can be read" in visitor.do("open-picture", "upload")


def test_events_that_are_none_are_told_so(page: Server) -> None:
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ):
        status, answer = ask(page, "POST", "/gradio_api/queue/join", body)
        assert status in (400, 422) and len(answer) < 2000, (body[:20], status, answer[:200])


def test_too_much_is_forgotten_oldest_first(tmp_path: Path) -> None:
    from amused_lite.apps.demo.uploads import Uploads

    uploads = Uploads(tmp_path / "none", most_bytes=100)
    keys = [uploads.keep(bytes(40)) for _ in range(3)]
    with pytest.raises(ValueError, match="choose it again"):
        uploads.open(keys[0])
    assert len(uploads.open(keys[2]).data) == 40
    for key in (None, 3, [], keys[2] + "/", f"{keys[2]}/../x", keys[2].replace("/", "//")):
        with pytest.raises(ValueError, match="not in memory"):
            uploads.open(key)
    assert list(tmp_path.iterdir()) == []


def test_the_assistants_door_takes_no_files(page: Server, outside: list[str], listener: Listener) -> None:
    """The server's own protocol for assistants has a name for a model, and gradio's is not there."""
    from assistant import with_session

    async def talk(session: Any) -> Any:
        names = [outside[0], "/etc", "http://100.64.0.1/x", "file:///etc/passwd"]
        return [await session.call_tool("create_picture", {"prompt": "a", "steps": 1, "model": one}) for one in names]

    for answer in with_session(page.url, talk):
        assert answer.isError and "not offered" in answer.content[0].text
    for path in ("/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/mcp/sse", "/gradio_api/mcp/schema"):
        assert ask(page, "GET", path)[0] == ask(page, "POST", path, b"{}")[0] == 404
    assert listener.seen == []


def test_gradio_itself_refuses_what_the_gate_would(tmp_path: Path) -> None:
    """The second door behind the first: its own check of paths works, and its own way out is shut."""
    import asyncio

    from gradio import processing_utils
    from gradio.context import LocalContext
    from gradio.exceptions import InvalidPathError

    engine = Engine()
    app_state = AppState(engine, tmp_path)
    try:
        mounted: Any = mount(servers.build_app(engine, make_access("127.0.0.1")), app_state).routes[-1]
        LocalContext.blocks.set(mounted.app.get_blocks())
        with pytest.raises(InvalidPathError):
            processing_utils._check_allowed("/etc/passwd", True)
        for address in ("http://100.64.0.1/x.png", "http://huggingface.co/x.png"):
            with pytest.raises(ValueError, match="fetches nothing"):
                asyncio.run(processing_utils.async_ssrf_protected_download(address, str(tmp_path)))
    finally:
        LocalContext.blocks.set(None)
        engine.close()
        app_state.close()


def test_states_of_tabs_do_not_add_up_for_ever(mounted: Any) -> None:
    assert mounted.state_holder.capacity == MOST_TABS <= 1000  # gradio's own, unless told otherwise: 10,000

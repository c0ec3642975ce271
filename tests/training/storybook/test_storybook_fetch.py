"""The fetch against a registry on the loopback: it goes on after a kill, and keeps nothing it was not promised."""

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("resvg_py", reason="the storybook needs the extra 'train'")
pytest.importorskip("skia", reason="the storybook needs the extra 'train'")

from amused_lite.training.storybook import fetch as fetching
from amused_lite.training.storybook.drawings.sets import HELD_OUT, SETS, DrawingSet
from amused_lite.training.storybook.fetch import fetch

KILLED = """
import json, sys
from pathlib import Path
from amused_lite.training.storybook.fetch import fetch
from amused_lite.training.storybook.drawings.sets import DrawingSet
fetch(Path(sys.argv[1]), [DrawingSet(**entry) for entry in json.loads(sys.argv[2])])
"""


def packed(name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A package with one member beside its package.json."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member, content in (("package/package.json", b'{"name": "x", "version": "1.0.0"}'), (name, data)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            if member == name and kind != tarfile.REGTYPE:
                info.type, info.linkname, info.size = kind, "/etc/hostname", 0
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def drawing_set(hand: str, package: bytes, icons: bytes) -> DrawingSet:
    sha512 = base64.b64encode(hashlib.sha512(package).digest()).decode()
    return DrawingSet(hand, hand, f"@made/{hand}", "1.0.0", sha512, hashlib.sha256(icons).hexdigest(), "", "MIT", "")


class Registry:
    """Serves packages and what npm wants to know of them; `asked` lists the packages that were sent."""

    def __init__(self) -> None:
        self.packages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.stuck: str | None = None  # a package for which it waits, once asked, until `stuck` changes
        self.waiting, self.gone_on = threading.Event(), threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path).strip("/")
        name, tarball, _ = path.partition("/-/")
        package = self.packages.get(name)
        if package is None:
            request.send_error(404)
            return
        if tarball:
            self.asked.append(name)
            if name == self.stuck:
                self.waiting.set()
                self.gone_on.wait(60)
                return
            body = package
        else:
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
            dist = {"tarball": f"{self.address}{name}/-/{name.split('/')[1]}-1.0.0.tgz", "integrity": integrity}
            versions = {"1.0.0": {"name": name, "version": "1.0.0", "dist": dist}}
            body = json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": versions}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


both_ways = pytest.mark.parametrize("registry", ["npm", "without npm"], indirect=True)


@pytest.fixture
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that the fetch asks: without npm, and for tests `both_ways` with it as well, where it is installed."""
    if getattr(request, "param", "") == "npm":
        if not shutil.which("npm"):
            pytest.skip("npm is not installed")
    else:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    registry = Registry()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("npm_config_registry", registry.address)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    yield registry
    registry.gone_on.set()
    registry.server.shutdown()
    registry.server.server_close()


@pytest.fixture
def sets(registry: Registry) -> list[DrawingSet]:
    """Three sets that the registry has."""
    made = []
    for hand in ("flat", "shaded", "ink"):
        icons = json.dumps({"icons": {"cat": {"body": f"<!-- {hand} -->"}}}).encode()
        package = packed("package/icons.json", icons)
        registry.packages[f"@made/{hand}"] = package
        made.append(drawing_set(hand, package, icons))
    return made


@both_ways
def test_a_second_fetch_asks_for_nothing(registry: Registry, sets: list[DrawingSet], tmp_path: Path) -> None:
    folder, said = tmp_path / "sets", []
    fetch(folder, sets, said.append)
    assert registry.asked == ["@made/flat", "@made/shaded", "@made/ink"]
    assert json.loads((folder / "ink.json").read_text())["icons"]["cat"]["body"] == "<!-- ink -->"
    fetch(folder, sets, said.append)
    assert len(registry.asked) == 3
    assert [line.rpartition(", ")[2] for line in said] == ["fetched"] * 3 + ["is here"] * 3
    assert {path.name for path in folder.iterdir()} == {"flat.json", "shaded.json", "ink.json"}


@both_ways
def test_a_killed_fetch_goes_on(registry: Registry, sets: list[DrawingSet], tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    registry.stuck = "@made/shaded"
    arguments = [str(folder), json.dumps([asdict(drawings) for drawings in sets])]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], start_new_session=True)
    assert registry.waiting.wait(60)
    os.killpg(process.pid, signal.SIGKILL)  # npm as well
    process.wait()
    assert sets[0].is_in(folder) and not sets[1].is_in(folder)
    registry.stuck = None
    registry.gone_on.set()
    registry.asked.clear()
    fetch(folder, sets)
    assert set(registry.asked) == {"@made/shaded", "@made/ink"}
    assert all(drawings.is_in(folder) for drawings in sets)


def test_a_damaged_set_is_fetched_again(registry: Registry, sets: list[DrawingSet], tmp_path: Path) -> None:
    fetch(tmp_path / "sets", sets)
    (tmp_path / "sets" / "ink.json").write_text("{}")
    registry.asked.clear()
    fetch(tmp_path / "sets", sets)
    assert registry.asked == ["@made/ink"]
    assert sets[2].is_in(tmp_path / "sets")


@both_ways
def test_another_hash_than_promised_keeps_nothing(registry: Registry, sets: list[DrawingSet], tmp_path: Path) -> None:
    wrong = replace(sets[0], sha512=sets[1].sha512)
    with pytest.raises(ValueError, match=r"^@made/flat@1.0.0 has sha512 .*, expected .*; look at the registry"):
        fetch(tmp_path / "sets", [wrong])
    with pytest.raises(ValueError, match="has another package"):
        fetch(tmp_path / "sets", [replace(sets[0], sha256=sets[1].sha256)])
    assert not list((tmp_path / "sets").iterdir())


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (packed("package/icons.json", b"", tarfile.SYMTYPE), "has no package/icons.json"),
        (packed("../icons.json", b"{}"), "has no package/icons.json"),
        (packed("package/icons.json", b"x" * 2_000), "is larger than"),
    ],
    ids=["a link", "outside", "too large"],
)
def test_only_the_one_file_is_read(
    package: bytes, message: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_LIMIT", 1_000)
    registry.packages["@made/flat"] = package
    with pytest.raises(ValueError, match=message):
        fetch(tmp_path / "sets", [drawing_set("flat", package, b"")])
    assert not list((tmp_path / "sets").iterdir())


@both_ways
def test_without_a_network_one_line(registry: Registry, tmp_path: Path) -> None:
    registry.server.shutdown()
    registry.server.server_close()  # nobody listens there now
    command = [sys.executable, "-m", "amused_lite.training.storybook.fetch", str(tmp_path / "sets")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and not run.stdout
    (line,) = run.stderr.splitlines()
    assert line.startswith("amused-lite: error: cannot fetch @iconify-json/fluent-emoji-flat@1.2.6 (")
    assert line.endswith("look at the network, then run this again: sets that are complete are not fetched twice")


def test_without_npm_and_without_a_registry_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ValueError, match=r"^cannot fetch @iconify-json/[^ ]*: npm is not installed .*; install npm, or set"
    ):
        fetch(tmp_path / "sets")
    assert not list((tmp_path / "sets").iterdir())


def test_every_set_is_credited() -> None:
    notice = (Path(__file__).parents[3] / "NOTICE").read_text(encoding="utf-8")
    for drawings in SETS + HELD_OUT:
        assert drawings.title in notice and drawings.author in notice and drawings.source in notice

"""Behind a reverse proxy: a real one, between a real client and a real server."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from PIL import Image
from serving import Server, Start, is_alone, png
from visiting import Visitor

FORWARDER = Path(__file__).with_name("forwarder.py")
OUTSIDE = ("X-Forwarded-Proto=https", "X-Forwarded-Host=pictures.example", "X-Forwarded-Prefix=/draw")
Forward = Callable[..., str]


@pytest.fixture(scope="module")
def forward() -> Iterator[Forward]:
    """Starts proxies, and gives the address of each."""
    started: list[subprocess.Popen[str]] = []

    def run(server: Server, *headers: str, prefix: str = "/draw") -> str:
        command = [sys.executable, str(FORWARDER), str(urlsplit(server.url).port), prefix, *headers]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        return f"http://127.0.0.1:{int(started[-1].stdout.readline())}{prefix}"

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def behind(start: Start) -> Iterator[Server]:
    server = start("--forwarded-allow-ips", "127.0.0.1")
    yield server
    server.process.terminate()


def draw(url: str, token: str = "") -> requests.Response:
    fields = {"prompt": "a red cup", "seed": 7, "steps": 2, "response_format": "url"}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return requests.post(f"{url}/v1/images/generations", json=fields, headers=headers)


def test_addresses_are_those_of_outside(behind: Server, forward: Forward) -> None:
    proxy = forward(behind, *OUTSIDE)
    url = draw(proxy, behind.token).json()["data"][0]["url"]
    assert url.startswith("https://pictures.example/draw/pictures/")
    assert is_alone(requests.get(proxy + url.removeprefix("https://pictures.example/draw")).content, "a red cup", 7, 2)
    headers = {"authorization": f"Bearer {behind.token}"}
    job = requests.post(f"{proxy}/jobs", json={"prompt": "a cup", "steps": 1}, headers=headers).json()
    while not (now := requests.get(f"{proxy}/jobs/{job['id']}", headers=headers).json())["pictures"]:
        assert now["state"] in ("queued", "running")
    assert now["pictures"][0]["url"].startswith("/draw/pictures/")
    moved = requests.get(f"{proxy}/v1/models?token={behind.token}", allow_redirects=False)
    assert moved.headers["location"] == "/draw/v1/models"
    assert "Path=/draw" in moved.headers["set-cookie"] and "Secure" in moved.headers["set-cookie"]


def test_a_proxy_is_asked_for_the_token(behind: Server, forward: Forward) -> None:
    for url in (forward(behind, *OUTSIDE), forward(behind), behind.url):
        assert requests.get(f"{url}/v1/models").status_code == 401
        assert requests.get(f"{url}/v1/models", headers={"authorization": f"Bearer {behind.token}"}).ok


def test_a_proxy_that_nobody_named_gets_nothing(server: Server, forward: Forward) -> None:
    for header in (
        *OUTSIDE,
        "X-Forwarded-For=192.0.2.1",
        "Forwarded=for=192.0.2.1",
        "Via=1.1 x",
        "X-Real-IP=192.0.2.1",
    ):
        reply = requests.get(f"{forward(server, header)}/v1/models")
        assert reply.status_code == 403 and "--forwarded-allow-ips" in reply.json()["error"]["message"]


def test_a_client_is_not_believed(start: Start, forward: Forward) -> None:
    server = start("--forwarded-allow-ips", "192.0.2.0/24")
    reply = draw(forward(server, *OUTSIDE), server.token)
    assert reply.json()["data"][0]["url"].startswith(server.url)
    server.process.terminate()


@pytest.mark.parametrize("prefix", ["//attacker.example", "/a/../b", "/a b", "javascript:x", "/" + "a" * 200])
def test_a_prefix_is_a_path(behind: Server, forward: Forward, prefix: str) -> None:
    reply = draw(forward(behind, f"X-Forwarded-Prefix={prefix}"), behind.token)
    assert urlsplit(reply.json()["data"][0]["url"]).path.startswith("/pictures/")


def test_pages_of_the_outside_name_may_change_something(behind: Server, forward: Forward) -> None:
    proxy, token = forward(behind, *OUTSIDE), f"Bearer {behind.token}"
    for origin, status in (("https://pictures.example", 202), ("https://attacker.example", 403)):
        headers = {"authorization": token, "origin": origin}
        assert requests.post(f"{proxy}/jobs", json={"prompt": "a"}, headers=headers).status_code == status


def test_the_page_works_below_a_path(start: Start, forward: Forward) -> None:
    pytest.importorskip("gradio")
    server = start("--forwarded-allow-ips", "127.0.0.1", "--no-browser", command="demo")
    proxy = forward(server, *OUTSIDE)
    visitor = Visitor(proxy, server.token)
    assert visitor.config["root"] == "https://pictures.example/draw"
    visitor.set("open-picture", visitor.upload(png(Image.new("RGB", (64, 48), "green"))))
    assert "64 x 48 px" in visitor.do("open-picture", "upload")
    for name, value in {"How many": 1, "Steps": 1, "prompt": "a red cup"}.items():
        visitor.set(name, value)
    addresses = set(re.findall(r'src=\\"([^"\\]+)', visitor.draw())) | set(
        re.findall(r'src=\\"([^"\\]+)', visitor.do("search", "change"))
    )
    places = {one for one in addresses if not one.startswith("data:")}
    assert {place.partition("/")[0] for place in places} == {"pictures", "small", "history"}
    for place in places:
        assert visitor.http.get(urljoin(f"{proxy}/", place)).headers["content-type"].startswith("image/")
    for path in ("gradio_api/info", "gradio_api/file=/etc/passwd", "jobs/x"):
        assert visitor.http.get(f"{proxy}/{path}").status_code == 404
    server.process.terminate()

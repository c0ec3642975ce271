"""docs/deployment.md: its nginx configurations run as they stand, apart from ports, before real servers."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from serving import Server, Start, is_alone

ROOT = Path(__file__).parents[3]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") or shutil.which("nginx")
ALICE, BOB = "alice-0123456789", "bob-0123456789ab"
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def configurations() -> list[str]:
    return re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)


def port_of(server: Server) -> str:
    return str(urlsplit(server.url).port)


class Nginx:
    """A process with this server configuration, on a free port."""

    def __init__(self, folder: Path, configuration: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{place}_temp_path {folder / place};" for place in places)
        listening = re.sub(r"listen [^;]*;", f"listen 127.0.0.1:{port};", configuration)
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
            f"http {{ access_log off; {temporary}\n{re.sub('ssl_certificate[^;]*;', '', listening)} }}"
        )
        assert NGINX is not None
        command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self._process.communicate()[1] + (folder / "errors").read_bytes())

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"alice: {ALICE}\nbob: {BOB}\n")
    return file


@pytest.fixture(scope="module")
def two(start: Start, tokens: Path) -> Iterator[tuple[Server, Server]]:
    flags = ("--forwarded-allow-ips", "127.0.0.1", "--token-file", str(tokens), "--queue", "2")
    servers = start(*flags), start(*flags)
    yield servers
    for server in servers:
        server.process.terminate()


def post(url: str, path: str, key: str = ALICE, **fields: object) -> requests.Response:
    return requests.post(f"{url}{path}", json={"prompt": "a cup", **fields}, headers={"authorization": f"Bearer {key}"})


@needs_nginx
def test_one_server_behind_nginx(two: tuple[Server, Server], tmp_path: Path) -> None:
    nginx = Nginx(tmp_path, configurations()[0].replace("7860", port_of(two[0])))
    assert requests.get(f"{nginx.url}/v1/models").status_code == 401
    body = {"prompt": "a red cup", "seed": 7, "steps": 2, "response_format": "url"}
    url = post(nginx.url, "/v1/images/generations", **body).json()["data"][0]["url"]
    assert url.startswith(f"{nginx.url}/pictures/") and is_alone(requests.get(url).content, "a red cup", 7, 2)
    nginx.close()


@needs_nginx
def test_plain_nginx_needs_no_header_to_be_noticed(server: Server, tmp_path: Path) -> None:
    """As in many a tutorial: nothing but proxy_pass. Before a server without a token it must not get through."""
    nginx = Nginx(tmp_path, f"server {{ listen 1; location / {{ proxy_pass {server.url}; }} }}")
    assert requests.get(f"{nginx.url}/v1/models").status_code == 403
    nginx.close()


@needs_nginx
def test_two_servers_share_the_work(two: tuple[Server, Server], tmp_path: Path) -> None:
    configuration = configurations()[1]
    for port, server in zip(("7861", "7862"), two, strict=True):
        configuration = configuration.replace(port, port_of(server))
    nginx = Nginx(tmp_path, configuration)
    try:
        body = {"seed": 7, "steps": 2, "response_format": "url"}
        with ThreadPoolExecutor(4) as pool:  # each machine takes one and lets two wait; none is told 429
            asked = [
                pool.submit(post, nginx.url, "/v1/images/generations", key, **(body | {"prompt": "a red cup"}))
                for key in (ALICE, BOB, ALICE, BOB)
            ]
        urls = [one.result().json()["data"][0]["url"] for one in asked]
        assert all(is_alone(requests.get(url).content, "a red cup", 7, 2) for url in urls)  # wherever it is
        for server in two:
            seen = requests.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {ALICE}"}).text
            assert re.search(r'requests_total\{method="POST",route="/v1/images/generations",status="200"\} [1-9]', seen)
        jobs = [post(nginx.url, "/jobs", steps=1000).json() for _ in range(2)]
        headers = {"authorization": f"Bearer {ALICE}"}
        for job in jobs:
            for _ in range(4):  # by whichever turn
                assert requests.get(f"{nginx.url}/jobs/{job['id']}", headers=headers).json()["id"] == job["id"]
        listed = requests.get(f"{nginx.url}/jobs", headers=headers).json()["jobs"]
        assert {job["id"] for job in jobs} <= {job["id"] for job in listed}
        for job in jobs:
            assert requests.delete(f"{nginx.url}/jobs/{job['id']}", headers=headers).ok
        assert requests.get(f"{nginx.url}/jobs/none", headers=headers).status_code == 404
    finally:
        nginx.close()

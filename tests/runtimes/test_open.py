"""Finding models: names, folders, hub ids, missing parts, and a hub that a test can hold in its hand."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from amused_lite.runtimes.open import open_model
from amused_lite.system.extras import MissingExtraError


def test_the_bundled_model_opens_by_name_and_by_path() -> None:
    runtime, tokenizer, info = open_model("tiny")
    assert runtime.name == "onnx" and info.name == "tiny" and len(info.model_hash) == 64
    assert tokenizer.context_length == runtime.config.text.context_length
    import amused_lite

    folder = Path(amused_lite.__file__).parent / "bundled"
    assert open_model(folder)[2] == open_model(str(folder))[2] == info


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("nosuchmodel", FileNotFoundError, 'give "tiny", a bundle folder, a diffusers folder or a hub id'),
        ("./no/such/folder", FileNotFoundError, "not found"),
        ("weights.pt", ValueError, "pickle"),
        ("file.safetensors", ValueError, "is a file; give the folder"),
        ("empty", FileNotFoundError, "has neither a manifest.json"),
    ],
)
def test_wrong_names_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.safetensors").write_bytes(b"x")
    with pytest.raises(error, match=message):
        open_model(model)


def test_a_runtime_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="is a diffusers folder, which ONNX Runtime cannot run; use the torch runtime"):
        open_model(tmp_path, "onnx")
    with pytest.raises(ValueError, match="runtime 'gpu' is unknown"):
        open_model("tiny", "gpu")
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        open_model("tiny", threads=0)


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # what Python itself does to forbid an import
    (tmp_path / "model_index.json").write_text("{}")
    model = "tiny" if runtime == "torch" else tmp_path
    with pytest.raises(MissingExtraError, match=r'needs torch, .*pip install "amused-lite\[torch\]"'):
        open_model(model, runtime)


FILES = {
    "model_index.json": b"{}",
    "transformer/config.json": b'{"a": 1}',
    "transformer/diffusion_pytorch_model.safetensors": b"w" * 25_000_000,
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"h" * 1000,
    "transformer/diffusion_pytorch_model.bin": b"pickle",
    "tokenizer/merges.txt": b"#version: 0.2\n",
    "evil.py": b"raise SystemExit",
}
REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a snapshot needs; may break off in the middle of the weights."""

    asked: ClassVar[list[str]] = []
    break_after: ClassVar[int | None] = None

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/model"):
            if "/tree/" in path:
                tree = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in FILES.items()]
                self.reply(json.dumps(tree).encode(), body)
            else:
                siblings = [{"rfilename": name} for name in FILES]
                self.reply(json.dumps({"id": "org/model", "sha": REVISION, "siblings": siblings}).encode(), body)
            return
        prefix = f"/org/model/resolve/{REVISION}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in FILES:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if body:
            self.asked.append(f"{name} {self.headers.get('Range', '')}".strip())
        self.reply(FILES[name], body, name)

    def reply(self, data: bytes, body: bool, name: str = "") -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and not wanted.startswith("bytes=0-"):
            start = int(wanted[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{name.replace("/", "-") or "list"}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            part = data[start:]
            if Hub.break_after is not None and len(part) > Hub.break_after:
                part, self.close_connection = part[: Hub.break_after], True
            self.wfile.write(part)


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    Hub.break_after = None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def find(model: str, endpoint: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`find_model` in a process of its own, since the hub's library reads its settings once."""
    code = "import sys; from amused_lite.runtimes.open import find_model; print(find_model(sys.argv[1]))"
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_ETAG_TIMEOUT": "5"}
    return subprocess.run(
        [sys.executable, "-c", code, model],
        env={**os.environ, **settings, "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_hub_model_is_downloaded_once_without_anything_executable(hub: str, tmp_path: Path) -> None:
    result = find("org/model", hub, tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "model_index.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    Hub.asked.clear()
    assert find("org/model", hub, tmp_path).returncode == 0
    assert Hub.asked == []
    offline = find("org/model", hub, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.stdout == result.stdout


def test_a_broken_connection_is_resumed(hub: str, tmp_path: Path) -> None:
    Hub.break_after = 12_000_000  # the hub's library writes pieces of 10 MB
    result = find("org/model", hub, tmp_path)
    assert result.returncode == 0, result.stderr
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (Path(result.stdout.strip()) / name).read_bytes() == FILES[name]
    assert f"{name} bytes=10485760-" in Hub.asked


def test_a_download_that_fails_is_explained(hub: str, tmp_path: Path) -> None:
    Hub.break_after = 100
    result = find("org/model", hub, tmp_path)
    assert "ConnectionError: model 'org/model' is not complete on this machine" in result.stderr
    Hub.break_after = None
    assert find("org/model", hub, tmp_path).returncode == 0


def test_an_unknown_hub_model(hub: str, tmp_path: Path) -> None:
    result = find("org/other", hub, tmp_path)
    assert (
        "FileNotFoundError: model 'org/other' is neither a folder here nor on the hub; check the name" in result.stderr
    )


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_network_and_no_copy(tmp_path: Path, offline: str) -> None:
    result = find("org/model", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE=offline)
    assert (
        "ConnectionError: model 'org/model' is not complete on this machine and the hub cannot be reached"
        in result.stderr
    )

"""A hub on loopback for the real client: lists with sizes and hashes, files with ranges, tokens, and breakages."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

TOKEN = "hf_loopback"


class Served(NamedTuple):
    """A file as the hub has it."""

    path: Path
    size: int
    etag: str  # sha256 of large files, a made-up git id of small ones
    large: bool


class LoopbackHub:
    """Repositories by revision, and how the connection behaves."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, Served]]] = {}  # "org/name" -> commit -> file name -> file
        self.branches: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []  # "GET name start"
        self.sent = 0  # bytes of files
        self.break_after: int | None = None  # bytes of one answer, after which the connection goes
        self.breaks_left = 10**9
        self.gone_after_breaking = self.gone = False  # no answer any more
        self.bytes_a_second: float | None = None
        self.chunk = 2**16  # bytes sent at once
        self.instead: dict[str, bytes] = {}  # file name -> other bytes of the same length
        self.private = False
        self.address = ""

    def add(self, name: str, folder: Path, revision: str = "main", large: str = ".safetensors") -> str:
        """Serve a folder as a repository at a revision; returns the commit."""
        commit = hashlib.sha1(f"{name} {folder} {revision}".encode()).hexdigest()
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            is_large = path.name.endswith(large)
            with path.open("rb") as file:
                etag = hashlib.file_digest(file, "sha256" if is_large else "sha1").hexdigest()
            files[path.relative_to(folder).as_posix()] = Served(path, path.stat().st_size, etag, is_large)
        self.repositories.setdefault(name, {})[commit] = files
        self.branches[name, revision] = commit
        return commit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.hub.gone:
            self.close_connection = True
            return None
        path = self.path.partition("?")[0].strip("/")
        if self.hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(401, "RepoNotFound")
        if path.startswith("api/models/"):
            owner, model, *rest = path.removeprefix("api/models/").split("/")
            kind, revision = (*rest, "revision", "main")[:2] if rest else ("revision", "main")
        else:
            owner, model, kind, revision, *rest = (*path.split("/"), "", "")
        repository = f"{owner}/{model}"
        if repository not in self.hub.repositories:
            return self._fail(404, "RepoNotFound")
        commit = self.hub.branches.get((repository, revision), revision)
        files = self.hub.repositories[repository].get(commit)
        if files is None:
            return self._fail(404, "RevisionNotFound")
        match kind:
            case "revision":
                return self._json({"id": repository, "sha": commit, "siblings": _siblings(files)})
            case "tree":
                return self._json(_tree(files))
        name = "/".join(part for part in rest if part)
        if name not in files:
            return self._fail(404, "EntryNotFound")
        return self._file(name, files[name], commit, body)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, values: Any) -> None:
        text = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _file(self, name: str, file: Served, commit: str, body: bool) -> None:
        wanted = self.headers.get("Range", "")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last) + 1 if last else file.size, file.size)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{file.size}")
        self.send_header("ETag", f'"{file.etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body:
            self.hub.asked.append(f"{name} {start}")
            self._send(name, file, start, end)

    def _send(self, name: str, file: Served, start: int, end: int) -> None:
        hub = self.hub
        allowed = end - start
        if hub.break_after is not None and file.large and hub.breaks_left and allowed > hub.break_after:
            allowed, self.close_connection = hub.break_after, True
            hub.breaks_left, hub.gone = hub.breaks_left - 1, hub.gone_after_breaking
        with file.path.open("rb") as source:
            source.seek(start)
            while allowed:
                block = source.read(min(hub.chunk, allowed))
                if name in hub.instead:
                    block = hub.instead[name][source.tell() - len(block) : source.tell()]
                try:
                    self.wfile.write(block)
                except OSError:
                    return
                allowed -= len(block)
                hub.sent += len(block)
                if hub.bytes_a_second:
                    threading.Event().wait(len(block) / hub.bytes_a_second)


def _siblings(files: dict[str, Served]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, file in files.items():
        row: dict[str, Any] = {"rfilename": name, "size": file.size, "blobId": file.etag[:40]}
        if file.large:
            row["lfs"] = {"sha256": file.etag, "size": file.size, "pointerSize": 134}
        rows.append(row)
    return rows


def _tree(files: dict[str, Served]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, file in files.items():
        row: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": file.etag[:40]}
        if file.large:
            row["lfs"] = {"oid": file.etag, "size": file.size, "pointerSize": 134}
        rows.append(row)
    return rows


@contextmanager
def running() -> Iterator[LoopbackHub]:
    """A hub that listens."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

"""The browser's half of the page without a browser: the requests that gradio's own script makes."""

import http.client
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from serving import Server

PATIENCE = 240  # s: a busy machine is no failure


class Visitor:
    """One tab of a browser."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.session = secrets.token_hex(6)
        self.http = requests.Session()
        self.http.headers.update({"authorization": f"Bearer {token}"} if token else {})
        page = self.http.get(f"{url}/").text
        self.config = json.JSONDecoder().raw_decode(page.partition("window.gradio_config = ")[2])[0]
        self.values: dict[int, Any] = {one["id"]: one["props"].get("value") for one in self.config["components"]}

    def component(self, name: str) -> int:
        """The number of a component, by its elem_id, its label or its type."""
        for one in self.config["components"]:
            if name in (one["props"].get("elem_id"), one["props"].get("label"), one["type"]):
                return one["id"]
        raise KeyError(name)

    def set(self, name: str, value: Any) -> None:
        """Change a component as a person does."""
        self.values[self.component(name)] = value

    def event(self, elem_id: str, kind: str) -> dict[str, Any]:
        """What happens when `kind` happens to a component."""
        target = [self.component(elem_id), kind]
        return next(one for one in self.config["dependencies"] if target in [list(pair) for pair in one["targets"]])

    def upload(self, data: bytes, name: str = "picture.png") -> dict[str, Any]:
        """A file as the page then speaks of it."""
        (path,) = self.http.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)}).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def join(
        self, number: int, data: list[Any], trigger: int | None = None, way: str = "queue/join"
    ) -> requests.Response:
        """Ask for an event, with these values of its inputs."""
        body = {"fn_index": number, "data": data, "session_hash": self.session, "trigger_id": trigger}
        return self.http.post(f"{self.url}/gradio_api/{way}", json=body)

    def begin(self, name: str, kind: str = "click") -> None:
        """Make an event happen, and do not wait for it."""
        event = self.event(name, kind)
        reply = self.join(event["id"], self._inputs(event), self.component(name))
        assert reply.status_code == 200, reply.text

    def at_once(self, name: str, kind: str) -> str:
        """Make an event happen that waits in no queue, and return all that the server said of it."""
        event = self.event(name, kind)
        reply = self.join(event["id"], self._inputs(event), self.component(name), "run/predict")
        assert reply.status_code == 200, reply.text
        for number, value in zip(event["outputs"], reply.json()["data"], strict=True):
            if not isinstance(value, dict) or "__type__" not in value:
                self.values[number] = value  # as a browser would show and send it
        return reply.text

    def look(self) -> str:
        """What the canvas shows after the page has asked once more."""
        self.at_once("timer", "tick")
        return json.dumps([self.values[self.component(name)] for name in ("stage", "strip", "save", "said")])

    def draw(self, name: str = "go") -> str:
        """Ask for a picture, wait until nothing is drawn any more, and return what the canvas shows then."""
        self.at_once(name, "click")
        return self.wait()

    def wait(self) -> str:
        """Wait until nothing is drawn any more, and return what the canvas shows then."""
        until = time.monotonic() + PATIENCE
        while any(one in (shown := self.look()) for one in ("data-cancel", "<progress")):
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        return shown

    def arrive(self, key: str = "") -> None:
        """What a browser does when the page was loaded, with the key that it has kept."""
        self.values[self.component("browserstate")] = key
        event = next(one for one in self.config["dependencies"] if one["targets"][0][1] == "load")
        reply = self.join(event["id"], self._inputs(event), None, "run/predict")
        for number, value in zip(event["outputs"], reply.json()["data"], strict=True):
            if not isinstance(value, dict) or "__type__" not in value:
                self.values[number] = value

    @property
    def key(self) -> str:
        """Under which the server finds this browser's pictures again."""
        return self.values[self.component("browserstate")]

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says of the events that were begun, until all have ended."""
        address = f"{self.url}/gradio_api/queue/data?session_hash={self.session}"
        with self.http.get(address, stream=True, timeout=PATIENCE) as reply:
            for line in reply.iter_lines():
                if line.startswith(b"data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "close_stream":
                        return
                    yield message

    def do(self, name: str, kind: str = "click") -> str:
        """Make an event happen, and return all that the server said of it."""
        self.begin(name, kind)
        messages = list(self.messages())
        assert [one["success"] for one in messages if one["msg"] == "process_completed"] == [True], messages[-1]
        return json.dumps(messages)

    def click(self, name: str, data: Any) -> str:
        """A click on a component whose own script says `data` with it, and what the server says of it, error or not."""
        event = self.event(name, "click")
        way = "queue/join" if event["queue"] is not False else "run/predict"
        body = {"fn_index": event["id"], "data": self._inputs(event), "session_hash": self.session}
        reply = self.http.post(f"{self.url}/gradio_api/{way}", json=body | {"event_data": data})
        return json.dumps(list(self.messages())) if reply.ok and "event_id" in reply.json() else reply.text

    def _inputs(self, event: dict[str, Any]) -> list[Any]:
        return [self.values.get(one) for one in event["inputs"]]


class Listener:
    """A machine that a server might be made to ask: it counts who comes, and would send them on to another address."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                wire, _ = self._socket.accept()
            except OSError:
                return
            with wire:
                self.seen.append(wire.recv(4096).split(b"\r\n")[0])
                wire.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://100.64.0.2/y.png\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


def ask(page: Server, method: str, target: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
    """Status and the first of the body, for a target sent as it is: requests would tidy it up."""
    place = urlsplit(page.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    connection.putrequest(method, "/", skip_accept_encoding=True)
    connection._buffer[0] = f"{method} {target} HTTP/1.1".encode("latin-1")  # type: ignore[attr-defined]
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    try:
        reply = connection.getresponse()
        endless = "text/event-stream" in reply.headers.get("content-type", "")
        return reply.status, b"" if endless else reply.read()
    finally:
        connection.close()


def wire(name: str) -> str:
    """A name in a request's target, with what HTTP cannot carry percent-encoded and all else as it is."""
    return quote(name, safe="/%;\\:=~.?[]@")


def file(name: str, **more: Any) -> dict[str, Any]:
    return {"path": name, "meta": {"_type": "gradio.FileData"}, **more}

"""The browser's half of the page without a browser: the requests that gradio's own script makes."""

import json
import secrets
from typing import Any

import requests

PATIENCE = 240  # s: a busy machine is no failure


class Visitor:
    """One tab of a browser."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = secrets.token_hex(6)
        self.config = requests.get(f"{url}/config").json()
        self.values: dict[int, Any] = {one["id"]: one["props"].get("value") for one in self.config["components"]}

    def component(self, elem_id: str) -> int:
        """The number of a component."""
        return next(one["id"] for one in self.config["components"] if one["props"].get("elem_id") == elem_id)

    def event(self, elem_id: str, kind: str) -> dict[str, Any]:
        """What happens when `kind` happens to a component."""
        target = [self.component(elem_id), kind]
        return next(one for one in self.config["dependencies"] if target in [list(pair) for pair in one["targets"]])

    def upload(self, data: bytes, name: str = "picture.png") -> dict[str, Any]:
        """A file as the page then speaks of it."""
        (path,) = requests.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)}).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def join(
        self, number: int, data: list[Any], trigger: int | None = None, way: str = "queue/join"
    ) -> requests.Response:
        """Ask for an event, with these values of its inputs."""
        body = {"fn_index": number, "data": data, "session_hash": self.session, "trigger_id": trigger}
        return requests.post(f"{self.url}/gradio_api/{way}", json=body)

    def begin(self, elem_id: str, kind: str = "click", **values: Any) -> None:
        """Make an event happen, with values of components by their elem_id, and do not wait for it."""
        event = self.event(elem_id, kind)
        self.values |= {self.component(name.replace("_", "-")): value for name, value in values.items()}
        reply = self.join(event["id"], [self.values.get(one) for one in event["inputs"]], self.component(elem_id))
        assert reply.status_code == 200, reply.text

    def messages(self) -> Any:
        """What the server says of the events that were begun, until all have ended."""
        address = f"{self.url}/gradio_api/queue/data?session_hash={self.session}"
        with requests.get(address, stream=True, timeout=PATIENCE) as reply:
            for line in reply.iter_lines():
                if line.startswith(b"data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "close_stream":
                        return
                    yield message

    def do(self, elem_id: str, kind: str = "click", **values: Any) -> list[Any]:
        """Make an event happen, and return what it changed in the end."""
        self.begin(elem_id, kind, **values)
        (last,) = [message for message in self.messages() if message["msg"] == "process_completed"]
        assert last["success"], last
        return last["output"]["data"]

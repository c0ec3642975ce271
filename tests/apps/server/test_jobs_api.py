"""Jobs over HTTP: queued, watched, cancelled, finished early; and what the OpenAPI description says of them."""

import base64
import json
import time
from io import BytesIO
from typing import Any

import pytest
import requests
from PIL import Image
from serving import Server, alone, half_mask, is_alone, png, recipe_in

from amused_lite.files.png import encode_png


def post(server: Server, **fields: Any) -> dict[str, Any]:
    reply = requests.post(f"{server.url}/jobs", json={"prompt": "a red cup", **fields})
    assert reply.status_code == 202, reply.text
    return reply.json()


def end(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    """Ask until it is over."""
    while (now := requests.get(f"{server.url}/jobs/{job['id']}").json())["state"] in ("queued", "running"):
        time.sleep(0.02)
    return now


def events(server: Server, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    with requests.get(f"{server.url}/jobs/{job['id']}/events", stream=True) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        name, seen = "", []
        for line in reply.iter_lines(decode_unicode=True):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            if line.startswith("data: "):
                seen.append((name, json.loads(line.removeprefix("data: "))))
        return seen


def test_a_job_from_begin_to_end(server: Server) -> None:
    job = post(server, seed=7, steps=2, count=2)
    assert job["state"] in ("queued", "running") and job["seed"] == 7
    done = end(server, job)
    assert done["state"] == "done" and done["finished"] == 2 and done["share"] == 1
    for number, picture in enumerate(done["pictures"]):
        data = requests.get(server.url + picture["url"]).content
        assert is_alone(data, "a red cup", 7, 2, number)
    with Image.open(BytesIO(requests.get(server.url + picture["url"].replace(".png", ".webp")).content)) as image:
        assert image.format == "WEBP"


def test_events_show_it_forming(server: Server) -> None:
    seen = events(server, post(server, seed=7, steps=8))
    names = [name for name, _ in seen]
    assert set(names[:-1]) == {"progress"} and names[-1] == "done"
    previews = {now["preview"] for _, now in seen if "preview" in now}
    assert len(previews) >= 3
    with Image.open(BytesIO(base64.b64decode(previews.pop().partition(",")[2]))) as image:
        assert image.format == "JPEG" and image.size == (512, 512)
    assert seen[-1][1]["pictures"]


def test_cancel(server: Server) -> None:
    job = post(server, steps=500)
    while not requests.get(f"{server.url}/jobs/{job['id']}").json()["step"]:
        time.sleep(0.02)
    requests.delete(f"{server.url}/jobs/{job['id']}")
    now = end(server, job)
    assert now["state"] == "cancelled" and now["pictures"] == [] and now["error"] == "cancelled on request"


def test_stop(server: Server) -> None:
    job = post(server, steps=500, seed=2)
    while not requests.get(f"{server.url}/jobs/{job['id']}").json()["step"]:
        time.sleep(0.02)
    assert requests.get(f"{server.url}/jobs/{job['id']}/preview.jpeg").headers["content-type"] == "image/jpeg"
    assert requests.post(f"{server.url}/jobs/{job['id']}/stop").json()["stopped"]
    now = end(server, job)
    assert now["state"] == "done" and 0 < now["step"] < 500
    recipe = recipe_in(requests.get(server.url + now["pictures"][0]["url"]).content)
    assert recipe.stopped_after == now["step"] and recipe.steps == 500


def test_every_edit(server: Server) -> None:
    made = alone("a red cup", 7, 2)
    image = base64.b64encode(encode_png(made.image, made.recipe)).decode()
    mask = "data:image/png;base64," + base64.b64encode(png(half_mask())).decode()
    asked: dict[str, dict[str, Any]] = {
        "vary": {"strength": 0.5, "prompt": None},
        "reroll": {"share": 0.1, "prompt": None},
        "edit": {"prompt": "a blue cup", "mask": mask},
        "inpaint": {"prompt": "a blue cup", "mask": mask, "paste": False},
        "outpaint": {"left": 64, "bottom": 32, "prompt": None},
    }
    jobs = {name: post(server, operation=name, steps=2, image=image, **fields) for name, fields in asked.items()}
    for name, job in jobs.items():
        now = end(server, job)
        assert now["state"] == "done", now["error"]
        size = (576, 544) if name == "outpaint" else (512, 512)
        assert (now["pictures"][0]["width"], now["pictures"][0]["height"]) == size
        recipe = recipe_in(requests.get(server.url + now["pictures"][0]["url"]).content)
        assert recipe.edit is not None and recipe.edit.operation == name


def test_a_failure_is_told(server: Server) -> None:
    now = end(server, post(server, operation="vary", image=base64.b64encode(b"nothing").decode()))
    assert (now["state"], now["kind"]) == ("failed", "input") and "no picture" in now["error"]


def test_words_that_are_not_read_are_told(server: Server) -> None:
    now = end(server, post(server, prompt="a red cup " * 100, steps=1))
    assert "not read" in now["remarks"][0]


@pytest.mark.parametrize("path", ["/jobs/none", "/jobs/none/events", "/pictures/none/0.png"])
def test_unknown_jobs(server: Server, path: str) -> None:
    reply = requests.get(server.url + path)
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def test_the_description_names_every_endpoint(server: Server) -> None:
    described = requests.get(f"{server.url}/openapi.json").json()
    assert described["openapi"].startswith("3.")
    paths = described["paths"]
    for path in ("/v1/images/generations", "/v1/images/edits", "/jobs/{id}/events", "/sdapi/v1/txt2img", "/health"):
        assert path in paths
    form = paths["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"image", "mask", "prompt", "seed", "steps", "guidance_scale"} <= set(form["properties"])
    references = {value for value in _values(described, "$ref")}
    assert all(name.removeprefix("#/components/schemas/") in described["components"]["schemas"] for name in references)


def _values(tree: Any, key: str) -> list[str]:
    if isinstance(tree, dict):
        own = [str(tree[key])] if key in tree else []
        return own + [found for value in tree.values() for found in _values(value, key)]
    return [found for value in tree for found in _values(value, key)] if isinstance(tree, list) else []

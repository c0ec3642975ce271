"""What a server answers, in every dialect: a real process on a free port, asked with `requests`."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from digests import Entry, picture, sha
from picture_cases import ATTENTION, PHOTO, SMALL_MASK

QUICK = {"seed": 7, "steps": 4}


@contextmanager
def _server(work: Path, *flags: str | Path) -> Iterator[str]:
    """Its address; it ends with the block."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    own = {name: str(home) for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    command = [sys.executable, "-m", "amused_lite", "serve", "--port", "0", "--threads", "1", *map(str, flags)]
    process = subprocess.Popen(command, cwd=home, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line!r}")
        yield line[line.index("http://") :].strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _json(reply: requests.Response) -> Any:
    if not reply.ok:
        raise RuntimeError(f"{reply.url} answered {reply.status_code}: {reply.text[:300]}")
    return reply.json()


def _pictures(name: str, encoded: list[str]) -> Iterator[tuple[str, Entry]]:
    for number, text in enumerate(encoded):
        yield f"{name} {number}", picture(base64.b64decode(text, validate=True))


def served(work: Path) -> Iterator[tuple[str, Entry]]:
    """Each dialect on one server, with an adapter that requests may name."""
    with _server(work, "--adapter", work / ATTENTION) as url:
        yield from _openai(url, work)
        yield from _a1111(url, work)
        yield from _jobs(url, work)
        described = _json(requests.get(f"{url}/openapi.json", timeout=60))["paths"]
        routes = [f"{method.upper()} {path}" for path, methods in described.items() for method in methods]
        yield "server/routes", {"names": sorted(routes)}


def _openai(url: str, work: Path) -> Iterator[tuple[str, Entry]]:
    asked = {"prompt": "a red cup", "n": 2, "size": "512x512", "negative_prompt": "blue", "top_k": 9, **QUICK}
    answer = _json(requests.post(f"{url}/v1/images/generations", json=asked, timeout=120))
    yield "server/openai answer", {"keys": sorted({*answer, *answer["data"][0]}), "size": answer["size"]}
    yield from _pictures("server/openai", [one["b64_json"] for one in answer["data"]])
    styled = {"prompt": "a star", "adapters": [{"name": "attention", "weight": 0.7}], **QUICK}
    answer = _json(requests.post(f"{url}/v1/images/generations", json=styled, timeout=120))
    yield from _pictures("server/openai adapter", [one["b64_json"] for one in answer["data"]])
    photo, mask = (work / PHOTO).read_bytes(), (work / SMALL_MASK).read_bytes()
    forms: dict[str, tuple[str, dict[str, bytes], dict[str, Any]]] = {
        "inpaint": ("edits", {"image": photo, "mask": mask}, {"prompt": "a tree"}),
        "edit": ("edits", {"image": photo}, {"prompt": "a tree", "share": "0.3"}),
        "vary": ("variations", {"image": photo}, {"prompt": "a boat", "strength": "0.6"}),
    }
    for name, (place, files, fields) in forms.items():
        reply = requests.post(f"{url}/v1/images/{place}", files=files, data={**fields, **QUICK}, timeout=120)
        yield from _pictures(f"server/openai {name}", [one["b64_json"] for one in _json(reply)["data"]])


def _a1111(url: str, work: Path) -> Iterator[tuple[str, Entry]]:
    photo, mask = (base64.b64encode((work / name).read_bytes()).decode() for name in (PHOTO, SMALL_MASK))
    first = {"prompt": "a red cup <lora:attention:0.5>", "batch_size": 2, "cfg_scale": 3, **QUICK}
    later = {"prompt": "a blue cup", "init_images": [photo], "denoising_strength": 0.6, **QUICK}
    for name, place, body in (
        ("txt2img", "txt2img", first),
        ("img2img", "img2img", later),
        ("img2img mask", "img2img", {**later, "mask": mask, "inpainting_mask_invert": 1}),
    ):
        answer = _json(requests.post(f"{url}/sdapi/v1/{place}", json=body, timeout=120))
        yield from _pictures(f"server/a1111 {name}", answer["images"])
        info = json.loads(answer["info"])
        yield f"server/a1111 {name} answer", {"keys": sorted({*answer, *info}), "seeds": info["all_seeds"]}


def _jobs(url: str, work: Path) -> Iterator[tuple[str, Entry]]:
    photo, mask = (base64.b64encode((work / name).read_bytes()).decode() for name in (PHOTO, SMALL_MASK))
    bodies: dict[str, dict[str, Any]] = {
        "generate": {"prompt": "a red cup", "count": 2, "order": "halton"},
        "vary": {"operation": "vary", "prompt": "a boat", "image": photo, "strength": 0.4},
        "inpaint": {"operation": "inpaint", "prompt": "a tree", "image": photo, "mask": mask, "invert": True},
        "outpaint": {"operation": "outpaint", "prompt": "a meadow", "image": photo, "right": 100},
        "edit": {"operation": "edit", "prompt": "a cup", "image": photo, "share": 0.3, "pad": True},
        "reroll": {"operation": "reroll", "prompt": "a cup", "image": photo, "share": 0.2},
    }
    for name, body in bodies.items():
        job = _json(requests.post(f"{url}/jobs", json={**QUICK, **body}, timeout=60))
        while job["state"] in ("queued", "running"):
            time.sleep(0.05)
            job = _json(requests.get(f"{url}/jobs/{job['id']}", timeout=60))
        yield f"server/job {name} answer", {"keys": sorted(job), "state": job["state"], "steps": job["steps"]}
        for number, one in enumerate(job["pictures"]):
            yield f"server/job {name} {number}", picture(requests.get(url + one["url"], timeout=60).content)
            if name == "generate":
                form = requests.get(url + one["url"].replace(".png", ".webp"), timeout=60).content
                yield f"server/job {name} {number} webp", {"pixels": sha(form)}

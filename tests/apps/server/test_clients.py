"""Clients beside each other: what each sees and may end, and its share of the queue."""

import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import webuiapi
from serving import Server, Start

ALICE, BOB = "alice-0123456789", "bob-0123456789ab"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def a1111(server: Server, key: str) -> webuiapi.WebUIApi:
    place = urlsplit(server.url)
    return webuiapi.WebUIApi(host=place.hostname, port=place.port, username="anyone", password=key)


def test_a1111_clients_see_and_end_their_own_work_only(server: Server) -> None:
    alice, bob = a1111(server, ALICE), a1111(server, BOB)
    done: list[webuiapi.WebUIApiResult] = []
    thread = threading.Thread(target=lambda: done.append(alice.txt2img(prompt="a red cup", seed=7, steps=400)))
    thread.start()
    while not (seen := alice.get_progress())["current_image"]:
        time.sleep(0.05)
    for stranger in (bob.get_progress(), requests.get(f"{server.url}/sdapi/v1/progress").json()):
        assert stranger["progress"] == 0 and stranger["current_image"] is None
        assert stranger["state"]["job_count"] == 0
    bob.interrupt()
    requests.post(f"{server.url}/sdapi/v1/interrupt")
    assert alice.get_progress()["state"]["interrupted"] is False
    name = seen["state"]["job"]  # no id of any kind
    assert requests.delete(f"{server.url}/jobs/{name}").status_code == 404
    assert requests.get(f"{server.url}/pictures/{name}/0.png").status_code == 404
    alice.interrupt()
    thread.join(60)
    assert done[0].image.size == (512, 512)


def test_clients_list_their_own_jobs(server: Server) -> None:
    ids = {}
    for key in ("key-of-carol", "key-of-dan"):
        body = {"prompt": "a cup", "steps": 1}
        ids[key] = requests.post(f"{server.url}/jobs", json=body, headers=bearer(key)).json()["id"]
    for key, id in ids.items():
        assert [job["id"] for job in requests.get(f"{server.url}/jobs", headers=bearer(key)).json()["jobs"]] == [id]
    nobody = requests.get(f"{server.url}/jobs")
    assert nobody.status_code == 401 and nobody.json()["error"]["code"] == "no_key"


def test_named_tokens_share_the_queue(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# the team\nalice: {ALICE}\nbob: {BOB}\n")
    server = start("--token-file", str(file), "--queue", "4")
    body = {"prompt": "a cup", "steps": 1000}

    def ask(key: str) -> requests.Response:
        return requests.post(f"{server.url}/jobs", json=body, headers=bearer(key))

    running = ask(ALICE).json()["id"]
    while requests.get(f"{server.url}/jobs/{running}", headers=bearer(ALICE)).json()["state"] == "queued":
        time.sleep(0.02)
    assert [ask(ALICE).status_code for _ in range(3)] == [202, 202, 429]
    assert "share" in ask(ALICE).json()["error"]["message"]
    assert requests.get(f"{server.url}/health").json()["status"] == "ok"
    assert [ask(BOB).status_code for _ in range(3)] == [202, 202, 429]
    assert requests.get(f"{server.url}/health").json() | {"version": ""} == {
        "status": "full", "version": "", "waiting": 4, "queue": 4,
    }  # fmt: skip
    for key, count in ((ALICE, 3), (BOB, 2)):
        assert len(requests.get(f"{server.url}/jobs", headers=bearer(key)).json()["jobs"]) == count
    assert ask("carol-0123456789").status_code == 401
    server.process.terminate()


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_token_from_elsewhere(start: Start, tmp_path: Path, where: str) -> None:
    (tmp_path / "token").write_text(ALICE + "\n")
    flags = ("--token-file", str(tmp_path / "token")) if where == "file" else ()
    server = start(*flags, **({"AMUSED_LITE_TOKEN": ALICE} if where == "environment" else {}))
    assert requests.get(f"{server.url}/v1/models").status_code == 401
    assert requests.get(f"{server.url}/v1/models", headers=bearer(ALICE)).ok
    server.process.terminate()

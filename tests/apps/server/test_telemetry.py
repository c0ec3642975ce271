"""What the server tells of its work: access log, Prometheus' numbers, ids; and plain rules of HTTP."""

import http.client
import signal
from urllib.parse import urlsplit

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from serving import Server, Start

SECRET = "a-prompt-nobody-else-reads"


def test_a_line_a_request_without_prompts_and_secrets(start: Start) -> None:
    server = start("--access-log")
    reply = requests.post(f"{server.url}/jobs?note={SECRET}", json={"prompt": SECRET, "steps": 1})
    id = reply.json()["id"]
    requests.get(f"{server.url}/jobs/{id}")
    requests.get(f"{server.url}/{SECRET[:5]}%0Aforged/{SECRET}")
    requests.post(f"{server.url}/v1/images/generations", json={"prompt": SECRET, "steps": 1})
    server.process.send_signal(signal.SIGTERM)
    _, errors = server.process.communicate(timeout=60)
    lines = [line.split() for line in errors.splitlines() if "req_" in line]
    assert [line[3:6] for line in lines] == [
        ["POST", "/jobs", "202"],
        ["GET", "/jobs/{id}", "200"],
        ["GET", "/a-pro%0Aforged/...", "404"],
        ["POST", "/v1/images/generations", "200"],
    ]
    assert lines[0][-1] == reply.headers["x-request-id"] and lines[0][1:3] == ["127.0.0.1", "-"]
    assert SECRET not in errors and id not in errors


def metrics(server: Server) -> dict[str, float]:
    text = requests.get(f"{server.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{one.name} {' '.join(sorted(one.labels.values()))}".strip(): one.value for one in samples}


def test_prometheus_can_read_how_it_goes(server: Server) -> None:
    before = metrics(server)
    for steps, status in ((1, 200), (-1, 400)):
        reply = requests.post(f"{server.url}/v1/images/generations", json={"prompt": "a cup", "steps": steps})
        assert reply.status_code == status
    after = metrics(server)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("amused_lite_picture_seconds_count tiny") == 1 and more("amused_lite_picture_seconds_sum tiny") > 0
    assert more("amused_lite_requests_total /v1/images/generations 200 POST") == 1
    assert more("amused_lite_requests_total /v1/images/generations 400 POST") == 1
    assert after["amused_lite_queue_length"] == 0 and after["amused_lite_queue_limit"] == 16
    assert after["process_resident_memory_bytes"] == pytest.approx(server.memory() * 2**20, rel=0.2)


def test_every_answer_has_an_id_of_its_own(server: Server) -> None:
    paths = (
        "/health",
        "/gone",
        "/v1/models",
        "/jobs/none",
        "/pictures/none/0.png",
        "/sdapi/v1/options",
        "/openapi.json",
    )
    replies = [requests.get(server.url + path) for path in paths]
    replies += [requests.get(f"{server.url}/v1/models", headers={"host": "attacker.example"})]
    replies += [requests.post(f"{server.url}/jobs", json={}), requests.put(f"{server.url}/jobs")]
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)


@pytest.mark.parametrize("path", ["/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_a_wrong_content_type_is_said_plainly(server: Server, path: str, kind: str) -> None:
    reply = requests.post(server.url + path, data=b'{"prompt": "a"}', headers={"content-type": kind})
    assert reply.status_code == 415
    assert "send the body as JSON" in reply.text and kind.partition(";")[0] in reply.text


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/jobs", "GET HEAD POST"), ("/jobs/x", "DELETE GET HEAD"), ("/health", "GET HEAD"), ("/v1/models/x", "GET HEAD")],
)
def test_another_method_is_told_which_there_are(server: Server, path: str, allowed: str) -> None:
    reply = requests.patch(server.url + path)
    assert reply.status_code == 405 and sorted(reply.headers["allow"].split(", ")) == allowed.split()


def test_head_is_get_without_the_body(server: Server) -> None:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    for path in ("/health", "/v1/models", "/health"):  # on one connection: a body would spoil the next answer
        connection.request("HEAD", path)
        reply = connection.getresponse()
        assert reply.status == 200 and reply.read() == b"" and int(reply.headers["content-length"]) > 0
    connection.close()

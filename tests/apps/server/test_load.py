"""Many clients at once: none lost, none mixed up, over-limit ones told so, memory flat, killed ones out of the way."""

import json
import socket
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

import openai
import pytest
from serving import Server, Start, is_alone

COLOURS = ("red", "blue", "green", "yellow", "white")
THINGS = ("cup", "boat", "house", "tree", "star", "fish", "ball", "lamp", "chair", "moon")
PAIRS = [(f"a {colour} {thing}", seed) for seed, (colour, thing) in enumerate((c, t) for c in COLOURS for t in THINGS)]


def crowd(server: Server, clients: int, requests: int) -> tuple[dict[int, str], Counter[str], list[float]]:
    """So many clients share so many requests; pictures by request, how answers went, and the server's megabytes."""
    todo = list(range(requests))[::-1]
    pictures: dict[int, str] = {}
    told: Counter[str] = Counter()
    memory: list[float] = []

    def client() -> None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=600) as api:
            while todo:
                try:
                    number = todo.pop()
                except IndexError:
                    return
                prompt, seed = PAIRS[number % len(PAIRS)]
                while number not in pictures:
                    try:
                        answer = api.images.generate(prompt=prompt, extra_body={"seed": seed, "steps": 1})
                        pictures[number] = answer.data[0].b64_json or ""  # type: ignore[index]
                        told["200"] += 1
                    except openai.RateLimitError as error:
                        told["429"] += 1
                        wait = int(error.response.headers["retry-after"])
                        assert 1 <= wait <= 60
                        time.sleep(wait)
                    except openai.APIError as error:
                        told[repr(error)] += 1
                        return
                memory.append(server.memory())

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return pictures, told, memory


def leave(server: Server, count: int) -> None:
    """So many clients that ask for long work and are gone before it is done."""
    place = urlsplit(server.url)
    body = json.dumps({"prompt": "a cup", "steps": 1000}).encode()
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    wires = [socket.create_connection((place.hostname, place.port), 30) for _ in range(count)]
    for wire in wires:
        wire.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(0.5)
    for wire in wires:
        wire.close()


def check(pictures: dict[int, str], requests: int) -> None:
    assert sorted(pictures) == list(range(requests))  # none lost
    for number, data in pictures.items():
        prompt, seed = PAIRS[number % len(PAIRS)]
        assert is_alone(data, prompt, seed, 1), f"request {number} got another's picture"


@pytest.mark.slow
def test_ten_clients(start: Start) -> None:
    server = start("--queue", "4")
    leave(server, 5)  # as many as fit: if one kept its place, the others would be told 429 for minutes
    pictures, told, _ = crowd(server, clients=10, requests=20)
    check(pictures, 20)
    assert told["200"] == 20 and told["429"] > 0 and set(told) == {"200", "429"}
    server.process.terminate()


@pytest.mark.slow
def test_fifty_clients_five_hundred_requests(start: Start) -> None:
    server = start("--queue", "16")
    began = time.monotonic()
    leave(server, 17)
    pictures, told, memory = crowd(server, clients=50, requests=500)
    took = time.monotonic() - began
    early, late = max(memory[25:75]), max(memory[-50:])
    print(f"\n500 pictures in {took:.0f} s; {dict(told)}; server {early:.0f} MB after 75, {late:.0f} MB at the end")
    check(pictures, 500)
    assert told["200"] == 500 and told["429"] > 0 and set(told) == {"200", "429"}
    assert late - early < 30, "memory grew by more than the allocator's own noise"
    server.process.terminate()

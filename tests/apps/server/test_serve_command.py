"""The command: what it says before it serves, and how it ends."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from amused_lite.apps.engine.model_cache import ModelCache
from serving import Server, Start, is_alone

from amused_lite import cli


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amused_lite", "serve", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_help_teaches() -> None:
    result = run("--help")
    assert result.returncode == 0
    for word in (
        "--host",
        "--port",
        "--token",
        "--cors",
        "--queue",
        "--history",
        "examples:",
        "/v1/images/generations",
    ):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--port", "70000"), "--port: must be at most 65535"),
        (("--host", "nowhere.invalid"), "not known"),
        (("--host", "0.0.0.0", "--token", "short"), "16 or more"),
        (("--cors", "*"), "origin"),
        (("-m", "gone", "--port", "0"), "not found"),
        (("--adapter", "gone.safetensors", "--port", "0"), "gone.safetensors"),
        (("--history", "x", "--no-history"), "exclude"),
        (("--token-file", "gone.txt"), "gone.txt"),
        (("--token-file", "/dev/zero"), "text file"),
        (("--token-file", "x", "--token", "0123456789abcdef"), "exclude"),
        (("--forwarded-allow-ips", "nginx"), "127.0.0.1"),
        (("--runtime", "torch:float8"), "float8"),
    ],
)
def test_what_a_user_can_cause_is_one_line(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *flags]) == 2
    errors = capsys.readouterr().err
    assert said in errors and len(errors.splitlines()) == 1 and errors.startswith("amused-lite: error: ")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.returncode == 2 and "in use" in result.stderr and len(result.stderr.splitlines()) == 1


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['uvicorn'] = None; import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda name, *a: None if name == 'uvicorn' else f(name, *a); "
    code = hide + "from amused_lite.cli import main; sys.exit(main(['serve']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and 'pip install "amused-lite[demo]"' in result.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "must hold one token"),
        ("short", "line 1"),
        ("a: 0123456789abcdef\n0123456789abcdeg", "must hold one token"),
        ("a: 0123456789abcdef\na: 0123456789abcdeg", "line 2"),
        ("a: 0123456789abcdef\nb: 0123456789abcdef", "line 2"),
        ("a b: 0123456789abcdef", "line 1"),
    ],
)
def test_a_file_of_tokens_is_checked(tmp_path: Path, lines: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens").write_text(lines)
    assert cli.main(["serve", "--token-file", str(tmp_path / "tokens")]) == 2
    errors = capsys.readouterr().err
    assert said in errors and len(errors.splitlines()) == 1
    assert "0123456789abcde" not in errors


@pytest.mark.parametrize("runtime", ["torch:bfloat16", "torch:auto", "auto:bfloat16"])
def test_it_takes_the_runtimes_that_generate_takes(runtime: str) -> None:
    model_cache = ModelCache(["tiny"])
    assert model_cache.check(None, runtime, ()).runtime == runtime
    with pytest.raises(ValueError, match="fast"):
        model_cache.check(None, "torch:fast", ())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_told_to_stop_it_finishes_the_running_picture(start: Start, number: signal.Signals, code: int) -> None:
    server = start()
    replies: list[requests.Response] = []

    def ask() -> None:
        fields = {"prompt": "a red cup", "seed": 7, "steps": 10}
        replies.append(requests.post(f"{server.url}/sdapi/v1/txt2img", json=fields, timeout=120))

    running = threading.Thread(target=ask)
    running.start()
    while not requests.get(f"{server.url}/sdapi/v1/progress?skip_current_image=true").json()["progress"]:
        time.sleep(0.02)
    job = requests.post(f"{server.url}/jobs", json={"prompt": "a cup"}).json()
    assert job["state"] == "queued"
    with requests.get(f"{server.url}/jobs/{job['id']}/events", stream=True) as watched:
        server.process.send_signal(number)
        told = watched.text
    running.join()
    assert replies[0].status_code == 200
    assert is_alone(replies[0].json()["images"][0], "a red cup", 7, 10)
    assert "event: failed" in told and "the program is stopping" in told
    _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == code
    assert "Traceback" not in errors and "stopping" in errors


def test_told_twice_it_ends_at_once_and_says_so(start: Start) -> None:
    """Those who wait are answered, whoever has sent half a request is hung up on, and nothing looks like a failure."""
    server = start()
    place = urlsplit(server.url)
    replies: list[requests.Response] = []

    def ask() -> None:
        fields = {"prompt": "a red cup", "steps": 1000}
        replies.append(requests.post(f"{server.url}/v1/images/generations", json=fields, timeout=120))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    while requests.get(f"{server.url}/health").json()["waiting"] < 1:
        time.sleep(0.02)
    with socket.create_connection((place.hostname, place.port)) as half:
        half.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        server.process.send_signal(signal.SIGINT)
        assert server.process.stderr is not None and "stopping" in server.process.stderr.readline()
        server.process.send_signal(signal.SIGINT)
        for client in clients:
            client.join()
        _, errors = server.process.communicate(timeout=60)
    assert [reply.status_code for reply in replies] == [503, 503]
    assert all(int(reply.headers["retry-after"]) > 0 for reply in replies)
    assert all("stopping" in reply.json()["error"]["message"] for reply in replies)
    assert server.process.returncode == 130
    assert "Traceback" not in errors and "Exception" not in errors


def test_history_keeps_pictures_where_it_is_told(start: Start) -> None:
    server: Server = start("--history", "kept")
    reply = requests.post(f"{server.url}/v1/images/generations", json={"prompt": "a ../ cup", "seed": 7, "steps": 1})
    assert reply.status_code == 200
    names = server.written()
    assert len(names) == 2 and names[1] == "kept/index.jsonl" and names[0].endswith("-a-cup-7.png")
    server.process.terminate()

"""docs/server.md: its examples run as they stand, and its tables say what the server says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from serving import Server

TEXT = (Path(__file__).parents[3] / "docs" / "server.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def here(code: str, server: Server) -> str:
    return code.replace("http://127.0.0.1:7860", server.url).replace('"steps": 12', '"steps": 2')


@pytest.mark.parametrize("code", [code for code in blocks("sh") if "curl" in code], ids=["openai", "a1111", "jobs"])
def test_the_shell_examples(server: Server, tmp_path: Path, code: str) -> None:
    script = here(code, server).replace("curl -s", "curl --fail -s")
    result = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert '"url":"http' in result.stdout or '"images":' in result.stdout or "event: done" in result.stdout
    if "cup.png" in code:
        assert (tmp_path / "cup.png").read_bytes().startswith(b"\x89PNG")


def test_the_python_example(server: Server, tmp_path: Path) -> None:
    (code,) = blocks("python")
    command = [sys.executable, "-c", here(code, server)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "image_generation.completed" in result.stdout and (tmp_path / "star-1.png").exists()


def test_every_endpoint_is_in_it(server: Server) -> None:
    for path in requests.get(f"{server.url}/openapi.json").json()["paths"]:
        if path.startswith("/sdapi/v1/"):
            continue  # its reads are summed up there
        written = path.replace("{id}", "ID").replace("{index}.{form}", "N.png").replace("/{name}", "")
        assert written in TEXT, path

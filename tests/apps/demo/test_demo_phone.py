"""The page for phones beside the demo's: its code carries the token of whoever asks, and no one else's."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")
from amused_lite.apps.demo.phone import add_phone_page, own_address
from amused_lite.apps.server.access import make_access
from fastapi import FastAPI
from fastapi.testclient import TestClient

TOKENS = {"ann": "a" * 24, "ben": "b" * 24}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = FastAPI()
    assert add_phone_page(app, "tiny", tmp_path_factory.mktemp("demo") / "phone", make_access("0.0.0.0", TOKENS))
    yield TestClient(app, base_url="http://127.0.0.1:7860")


def address(client: TestClient, token: str, host: str = "127.0.0.1:7860") -> str:
    headers = {"Authorization": f"Bearer {token}", "Host": host}
    text = client.get("/phone-code", headers=headers).text
    assert "<svg" in text
    (found,) = re.findall(r'href="([^"]+)"', text)
    return found


def test_the_code_leads_a_phone_here_with_its_owners_token(client: TestClient) -> None:
    assert address(client, TOKENS["ben"]) == f"http://{own_address()}:7860/phone/?token={TOKENS['ben']}"
    assert address(client, TOKENS["ann"], "192.168.1.5:7860") == f"http://192.168.1.5:7860/phone/?token={TOKENS['ann']}"
    assert address(client, "neither of these", "192.168.1.5:7860") == "http://192.168.1.5:7860/phone/"


def test_the_page_is_served_whole(client: TestClient) -> None:
    assert "text/html" in client.get("/phone/").headers["content-type"]
    assert "javascript" in client.get("/phone/page/page.js").headers["content-type"]
    for part in client.get("/phone/model.json").json()["files"]:
        assert len(client.get(f"/phone/{part['path']}").content) == part["size"]


def test_a_model_that_no_browser_runs_gets_no_page(tmp_path: Path) -> None:
    assert not add_phone_page(FastAPI(), tmp_path, tmp_path / "phone", make_access("0.0.0.0", TOKENS))

"""One folder that is served, and one browser, for every test that looks at the page."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from amused_lite.apps.web.folder import write_page
from browsing import CHROMIUM, FLAGS, Handler, Site

from amused_lite.bundle import open_bundle
from amused_lite.runtimes.open import find_model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("web") / "site"
    write_page(open_bundle(find_model("tiny")), folder)
    faults: dict[str, str] = {}
    sent: list[int] = []
    handler = type("Handler", (Handler,), {"faults": faults, "sent": sent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served = Site(server, folder, faults, sent)
    yield served
    served.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()

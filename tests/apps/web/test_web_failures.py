"""What goes wrong on the page is said in one sentence, and nothing is broken after it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import CHROMIUM, NAMES, PATIENCE, Site, Visit, open_page
from serving import alone

playwright_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here (looked for {', '.join(NAMES)})"),
    pytest.mark.timeout(1200),
    pytest.mark.slow,
]
# The page's own worker, from where the test can reach it.
_SHOW_WORKER = "window.Worker = class extends Worker { constructor(...all) { super(...all); window.worker = this; } };"
_HIDE_AND_SHOW = """() => {
  worker.terminate();
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def largest(site: Site) -> str:
    """The name of a part with weights."""
    return max((site.folder / "model").iterdir(), key=lambda path: path.stat().st_size).name


def draws(visit: Visit) -> bool:
    """Whether the page draws what Python draws."""
    (source,) = visit.draw("a red star", 1, steps=4)
    assert source.recipe is not None
    return np.array_equal(source.recipe.tokens, alone("a red star", 1, 4).recipe.tokens)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("cut", "The download of the model was cut short; try again."),
        ("flip", "The model arrived damaged and is not used; try again, or copy the folder to the server anew."),
    ],
)
def test_a_download_that_fails_can_be_tried_again(
    browser: Any, site: Site, tmp_path: Path, fault: str, sentence: str
) -> None:
    visit = open_page(browser, tmp_path)
    site.faults[largest(site)] = fault
    try:
        visit.page.goto(site.url)
        visit.message().to_have_text(sentence, timeout=PATIENCE)
        visit.shot(fault)
    finally:
        site.faults.clear()
    visit.page.get_by_role("button", name="Try again").click()
    visit.ready()
    assert draws(visit)
    visit.page.context.close()


def test_a_browser_without_simd_is_told(browser: Any, site: Site, tmp_path: Path) -> None:
    visit = open_page(browser, tmp_path, service_workers="block")
    script = (site.folder / "drawing" / "worker.js").read_text()
    old = f"{script}\nWebAssembly.validate = () => false;"
    visit.page.route("**/worker.js", lambda route: route.fulfill(content_type="text/javascript", body=old))
    visit.page.goto(site.url)
    sentence = "This browser is too old to draw (it has no WebAssembly SIMD); update it or use another."
    visit.message().to_have_text(sentence, timeout=PATIENCE)
    visit.page.context.close()


def test_full_storage_only_costs_the_next_download(browser: Any, site: Site, tmp_path: Path) -> None:
    visit = open_page(browser, tmp_path)
    session = visit.page.context.new_cdp_session(visit.page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": site.url.rstrip("/"), "quotaSize": 5 * 2**20})
    visit.page.goto(site.url)
    visit.ready()
    assert visit.page.locator("#foot").text_content().startswith("There is no room left to keep the model")
    assert draws(visit)
    visit.page.context.close()


def test_a_worker_that_ended_while_hidden_is_replaced(browser: Any, site: Site, tmp_path: Path) -> None:
    visit = open_page(browser, tmp_path)
    visit.page.add_init_script(_SHOW_WORKER)
    visit.page.goto(site.url)
    visit.ready()
    visit.page.fill("#prompt", "a red star")
    visit.page.click("#draw")
    visit.page.locator("#forming").wait_for()
    visit.page.evaluate(_HIDE_AND_SHOW)
    sentence = "The browser stopped the drawing while this tab was hidden; press Draw again."
    visit.message().to_have_text(sentence, timeout=PATIENCE)
    assert draws(visit)
    visit.page.context.close()


@pytest.mark.parametrize(
    ("host", "settings"), [("plain.test", {}), ("127.0.0.1", {"service_workers": "block"})], ids=["no https", "refused"]
)
def test_without_a_service_worker_it_draws_and_promises_nothing(
    browser: Any, site: Site, tmp_path: Path, host: str, settings: dict[str, Any]
) -> None:
    visit = open_page(browser, tmp_path, **settings)
    visit.page.goto(site.url.replace("127.0.0.1", host))
    visit.ready()
    assert visit.page.evaluate("isSecureContext") == (host == "127.0.0.1")
    assert draws(visit)
    foot = visit.page.locator("#foot").text_content()
    assert "leaves this device" in foot and "offline" not in foot
    visit.page.context.close()


def test_words_that_are_not_read_are_named(browser: Any, site: Site, tmp_path: Path) -> None:
    visit = open_page(browser, tmp_path)
    visit.page.goto(site.url)
    visit.ready()
    visit.draw("a red star " * 12 + "zebra", 1, steps=4)
    visit.message().to_have_text(re.compile("too long, it did not read “.* zebra”"), timeout=PATIENCE)
    visit.page.context.close()

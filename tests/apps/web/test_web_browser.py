"""The page in a real browser, from the first visit to one without a network: one server, one page, in order.

Each test goes on where the one before it ended. Screenshots lie in pytest's temporary folder. Without a Chromium all of
it is skipped; on Debian and Ubuntu `apt install chromium` brings one.
"""

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browsing import CHROMIUM, NAMES, PATIENCE, Site, Visit, open_page
from serving import alone

from amused_lite.analysis.verify import verify
from amused_lite.files.images import SourceImage
from amused_lite.files.png import Recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.noise import order_noise, token_noise
from amused_lite.task import Task

playwright_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here (looked for {', '.join(NAMES)})"),
    pytest.mark.timeout(3000),
    pytest.mark.slow,  # dozens of pictures in a browser
]
PROMPTS = (
    "a red balloon above a blue house",
    "two yellow fish at sea",
    "a big green tree in the snow, paper cut-out",
    "a purple heart on the left",
    "three white stars at night",
    "an orange car in the desert",
    "a pink flower left of a blue mushroom",
    "a small boat by the sea at sunset, cartoon style",
    "a Café with 2 émigrés & a 🦊, it's new",
    "a yellow moon over a red cup",
)
LARGEST = 40e6  # bytes of a first visit
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
TIE = 2e-5  # log-probability: ten times what the exported graphs differ from torch's by


def recipe_of(source: SourceImage) -> Recipe:
    assert source.recipe is not None
    return source.recipe


@pytest.fixture(scope="module")
def visit(browser: Any, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    visit = open_page(browser, tmp_path_factory.mktemp("shots"))
    visit.page.goto(site.url)
    visit.ready()
    visit.shot("01-start")
    yield visit
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith((site.url, f"blob:{site.url}"))] == []


class Renderer(NamedTuple):
    """The page's process."""

    megabytes: float  # resident
    seconds: float  # of processor time so far


def renderer() -> Renderer:
    """Chromium's largest renderer."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                pages = int((process / "statm").read_text().split()[1])
                ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
                found.append(Renderer(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, seconds))
        except OSError:
            continue  # it ended
    return max(found)


def closest_call(recipe: Recipe) -> float:
    """How close Python's own drawing comes to another token: the least lead of a draw, or of a token that stays."""
    amused = AmusedPipeline.open("tiny", threads=1)
    settings = recipe.options.complete(amused.runtime.config)
    n, k = amused.runtime.config.uvit.num_tokens, amused.runtime.config.uvit.codebook_size
    least = np.inf
    steps = amused.steps(replace(Task.from_recipe(recipe), trace=True))
    for step, temperature in zip(steps, settings.mask_temperatures(), strict=True):
        assert step.log_probs is not None and step.drawn is not None
        log_probs, drawn = step.log_probs[0], step.drawn[0]
        scores = log_probs / settings.token_temperature + token_noise(settings.seed, recipe.picture, step.index, n, k)
        second, first = np.partition(scores, -2)[drawn, -2:].T
        confidence = log_probs[np.arange(n), step.sampled_tokens[0]]
        confidence = confidence + temperature * order_noise(settings.seed, recipe.picture, step.index, n)
        leads = np.diff(np.sort(confidence[drawn]))
        least = min(least, (first - second).min(), leads.min() if leads.size else np.inf)
    return float(least)


def test_the_first_visit_draws_a_picture_that_forms(visit: Visit) -> None:
    visit.page.fill("#prompt", PROMPTS[0])
    visit.page.fill("#seed", "7")
    visit.page.click("#draw")
    playwright_api.expect(visit.page).to_have_title(re.compile("^[5-9]/12"), timeout=PATIENCE)
    assert visit.page.locator("#forming").is_visible()
    visit.page.screenshot(path=visit.shots / "02-forming.png")
    visit.page.locator("#picture").wait_for()
    visit.shot("03-drawn")


def test_page_and_model_are_sent_once(site: Site, visit: Visit) -> None:
    sent = sum(site.sent)
    print(f"sent for the first picture: {sent / 1e6:.1f} MB")
    assert sent < LARGEST
    visit.page.reload()
    visit.ready()
    assert sum(site.sent) - sent < 0.01 * LARGEST  # the service worker's script, and what it asks again


def test_the_same_seed_gives_pythons_tokens(visit: Visit) -> None:
    differing, browsers, pythons = {}, [], []
    for seed, prompt in enumerate(PROMPTS, 100):
        before = renderer().seconds
        (source,) = visit.draw(prompt, seed)
        browsers.append(renderer().seconds - before)
        before = time.process_time()
        mine = alone(prompt, seed, 12).recipe
        pythons.append(time.process_time() - before)
        wrong = int((recipe_of(source).tokens != mine.tokens).sum())
        if wrong:
            differing[prompt] = (wrong, closest_call(mine))
    print(f"processor seconds a picture: browser {np.median(browsers):.2f}, Python {np.median(pythons):.2f}")
    print(f"pictures with other tokens, and how close Python's was: {differing}")
    assert all(lead < TIE for _, lead in differing.values())


def test_four_pictures_are_those_of_their_numbers(visit: Visit) -> None:
    for number, source in enumerate(visit.draw(PROMPTS[1], 5, steps=4, count=4)):
        assert recipe_of(source).picture == number
        np.testing.assert_array_equal(recipe_of(source).tokens, alone(PROMPTS[1], 5, 4, number).recipe.tokens)
    visit.shot("04-four")


def test_stop_ends_it_and_the_next_one_is_whole(visit: Visit) -> None:
    before = visit.count()
    visit.page.locator("#steps").fill("24")
    visit.page.check("[name=count][value='4']", force=True)
    visit.page.click("#draw")
    visit.page.locator("#forming").wait_for()
    visit.page.click("#draw")
    visit.message().to_have_text("Stopped.", timeout=PATIENCE)
    assert visit.count() == before
    (source,) = visit.draw(PROMPTS[2], 3, steps=4)
    np.testing.assert_array_equal(recipe_of(source).tokens, alone(PROMPTS[2], 3, 4).recipe.tokens)


def test_what_is_saved_can_be_verified(visit: Visit) -> None:
    amused = AmusedPipeline.open("tiny", threads=1)
    (drawn,) = visit.draw(PROMPTS[0], 8, steps=8)
    (varied,) = visit.draw(PROMPTS[0], 9, steps=8, button="#vary")
    visit.page.click("#change")
    box = visit.page.locator("#paint").bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.35, steps=8)
    visit.page.mouse.up()
    visit.shot("05-painted")
    (changed,) = visit.draw("a yellow star above a blue house", 10, steps=8)
    visit.shot("06-changed")
    for source, operation in ((drawn, None), (varied, "vary"), (changed, "inpaint")):
        recipe = recipe_of(source)
        assert (recipe.edit.operation if recipe.edit else None) == operation
        verdict = verify(amused, recipe, source.image)
        assert verdict.identical and verdict.pixels_equal and verdict.other_runtime == "onnx-web"


def test_memory_is_flat_over_thirty_pictures(visit: Visit) -> None:
    sizes = []
    for number in range(30):
        visit.draw(PROMPTS[number % 10], number, steps=4)
        sizes.append(renderer().megabytes)
    print("renderer's MB after each picture:", [round(size) for size in sizes])
    assert np.median(sizes[-5:]) < np.median(sizes[5:10]) + 40


def test_a_slow_phone_draws_and_stops_at_a_touch(browser: Any, site: Site, visit: Visit) -> None:
    """Chromium slows the page down, not its worker: what is proven is that the page stays in hand meanwhile."""
    phone = open_page(browser, visit.shots, color_scheme="dark", **PHONE)
    phone.page.context.new_cdp_session(phone.page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    phone.page.goto(site.url)
    phone.ready()
    phone.page.locator("#examples button").first.tap()
    phone.page.locator("#forming").wait_for()
    phone.shot("07-phone-forming")
    phone.page.tap("#draw")
    phone.message().to_have_text("Stopped.", timeout=PATIENCE)
    (drawn,) = phone.draw(PROMPTS[4], 12, steps=4)
    np.testing.assert_array_equal(recipe_of(drawn).tokens, alone(PROMPTS[4], 12, 4).recipe.tokens)
    phone.page.tap("#change")
    box = phone.page.locator("#paint").bounding_box()
    phone.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    phone.shot("08-phone-painted")
    (changed,) = phone.draw("a yellow moon at night", 13, steps=4)
    phone.shot("09-phone-changed")
    recipe = recipe_of(changed)
    assert recipe.edit is not None and recipe.edit.operation == "inpaint"
    assert 0.9 < (recipe.tokens == recipe.edit.tokens).mean() < 1  # a finger reaches 2.2 cells around itself
    assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
    assert phone.errors == []
    assert [url for url in phone.requests if not url.startswith((site.url, f"blob:{site.url}"))] == []
    phone.page.context.close()


def test_it_works_with_the_network_cut(browser: Any, site: Site, visit: Visit) -> None:
    site.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(site.url, timeout=5)
    visit.page.reload()
    visit.ready()
    (source,) = visit.draw(PROMPTS[3], 11, steps=4)
    np.testing.assert_array_equal(recipe_of(source).tokens, alone(PROMPTS[3], 11, 4).recipe.tokens)

"""One session on the page in a real browser: everything a person does, in order, on one server and one page.

Each test goes on where the one before it ended. Screenshots lie in pytest's temporary folder. Without a Chromium
all of it is skipped; on Debian and Ubuntu `apt install chromium` brings one.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from serving import alone

from amused_lite.adapters.file import load_adapter
from amused_lite.files.png import encode_png, read_recipe

playwright_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium here (looked for {', '.join(_NAMES)})"),
    pytest.mark.timeout(900),
    pytest.mark.slow,  # a browser beside everything else takes minutes on two busy cores
]
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_FLAGS += ["--disable-component-update", "--disable-sync"]
_PATIENCE = 240_000  # ms: a busy machine is no failure
_COUNT_PREVIEWS = """() => {
  window.previews = new Set();
  const stage = document.querySelector('#stage');
  const look = () => stage.querySelectorAll('.forming img').forEach((image) => window.previews.add(image.src));
  new MutationObserver(look).observe(stage, { childList: true, subtree: true, attributes: true });
}"""


@dataclass
class Visit:
    """A page that is open, and everything that it asked for."""

    page: Any
    url: str
    folder: Path  # screenshots
    history: Path
    styles: Path
    requests: list[str]
    errors: list[str]

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def go(self, name: str) -> None:
        """To a tab, or a mode of the first."""
        modes = {"Edit": ("#to-edit", "#editor canvas"), "Look inside": ("#to-look", "#look .canvas")}
        self.tab("Create" if name in modes else name)
        self.page.keyboard.press("Escape")
        if name in modes:
            button, seen = modes[name]
            self.page.locator(button).click()
            self.page.locator(seen).first.wait_for()

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self.folder / f"{name}.png", full_page=True)

    def create(self, prompt: str) -> None:
        self.page.locator("#prompt textarea").fill(prompt)
        self.page.locator("#go").click()
        self.wait_until_said("Drawing")

    def open_options(self) -> None:
        if not self.page.get_by_label("One picture").is_visible():
            self.page.get_by_role("button", name="Options").click()

    def wait_until_said(self, word: str) -> None:
        self.page.wait_for_function(f"document.querySelector('#said')?.textContent.includes('{word}')")

    def wait_for_pictures(self) -> None:
        self.wait_until_said("Done")

    def kept(self) -> list[Path]:
        return sorted(self.history.glob("*.png")) if self.history.is_dir() else []


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "amused_lite", "demo", "--no-browser", "--port", "0", "--threads", "1"]
    command += ["--history", str(folder / "history"), "--styles", str(folder / "styles")]
    environment = {**os.environ, "HOME": str(folder / "home"), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("listening at "), (folder / "errors").read_text()
            yield line.removeprefix("listening at ").strip(), folder
        finally:
            process.terminate()
            process.communicate(timeout=120)
    assert "Traceback" not in (folder / "errors").read_text()


@pytest.fixture(scope="module")
def visit(address: tuple[str, Path]) -> Iterator[Visit]:
    url, folder = address
    with playwright_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme="light")
        page.set_default_timeout(_PATIENCE)
        seen = Visit(page, url, folder, folder / "history", folder / "styles", [], [])
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("websocket", lambda socket: seen.requests.append(socket.url))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.goto(url)
        page.locator("#go").wait_for()
        yield seen
        browser.close()


def test_a_prompt_gives_pictures_that_form_before_ones_eyes(visit: Visit) -> None:
    visit.wait_for_pictures()
    visit.shot("01-start")
    visit.page.evaluate(_COUNT_PREVIEWS)
    assert visit.page.locator("#stage .pick img").count() == 1  # an example
    visit.page.locator("#prompt textarea").fill("a red balloon above a blue house at sunset")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#stage .forming img").first.wait_for()
    visit.shot("02-forming")
    visit.wait_for_pictures()
    assert visit.page.locator("#stage .pick img").count() == 4
    assert visit.page.evaluate("window.previews.size") >= 3
    assert len(visit.kept()) == 4
    second = visit.page.locator("#stage .pick").nth(1)
    second.click()
    assert visit.page.locator(".large:popover-open img").is_visible()
    visit.shot("031-large")
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("Escape")
    assert second.get_attribute("aria-pressed") == "true" and not visit.page.locator(".large:popover-open").count()
    visit.shot("03-four")


def test_what_is_saved_is_the_picture_that_the_library_draws(visit: Visit) -> None:
    link = visit.page.locator("#save a").first
    visit.page.wait_for_function("document.querySelector('#save a').getAttribute('href').endsWith('/1.png')")
    with visit.page.expect_download() as waiting:
        link.click()
    recipe = read_recipe(waiting.value.path())
    mine = alone(recipe.prompt, recipe.seed, recipe.steps, recipe.picture).recipe
    assert recipe.picture == 1 and np.array_equal(recipe.tokens, mine.tokens)


def test_a_page_that_is_loaded_again_shows_the_same(visit: Visit) -> None:
    page = visit.page
    before = page.locator("#stage .pick img").first.get_attribute("src")
    page.reload()
    visit.wait_for_pictures()
    assert page.locator("#stage .pick img").first.get_attribute("src") == before
    assert page.locator("#prompt textarea").input_value() == "a red balloon above a blue house at sunset"
    visit.create("a yellow star at night")
    visit.create("a green fish at sea")  # waits its turn
    page.wait_for_function("document.querySelectorAll('#strip [data-cancel]').length === 2")
    page.locator("#strip .waits .end").click()
    page.wait_for_function("document.querySelectorAll('#strip [data-cancel]').length === 1")
    page.reload()
    page.locator("#stage .forming img").wait_for()
    page.set_viewport_size({"width": 1366, "height": 768})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
    page.set_viewport_size({"width": 1400, "height": 1000})
    visit.wait_for_pictures()


def test_cancel_ends_it_and_stop_keeps_the_guess(visit: Visit) -> None:
    page, before = visit.page, len(visit.kept())
    visit.open_options()
    page.get_by_label("One picture").check()
    page.get_by_label("number input for Steps").first.fill("48")
    page.get_by_label("number input for Steps").first.press("Enter")
    visit.create("a green tree in the snow")
    page.locator("#stage .forming img").wait_for()
    page.locator("#cancel").click()
    page.locator("#stage .message").wait_for()
    assert "Cancelled" in page.locator("#stage").inner_text()
    assert len(visit.kept()) == before
    visit.create("a green tree in the snow")
    page.locator("#stage .forming img").wait_for()
    page.locator("#stop").click()
    visit.wait_for_pictures()
    assert re.search(r"stopped after step \d+", page.locator("#stage .foot").inner_text())
    assert len(visit.kept()) == before + 1
    stopped = max(visit.kept(), key=lambda path: path.stat().st_mtime_ns)
    assert 1 <= (read_recipe(stopped).stopped_after or 0) < 48
    visit.shot("04-options")


def test_a_draft_is_finished_and_a_picture_varied(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("number input for Steps").first.fill("8")
    page.get_by_label("number input for Steps").first.press("Enter")
    page.get_by_label("Drafts first").check()
    visit.create("a yellow star at night")
    page.locator("#finish").wait_for()
    page.locator("#finish").click()
    page.locator("#finish").wait_for(state="hidden")
    visit.wait_for_pictures()
    finished = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert (finished.steps, finished.refine) == (4, 4)
    page.get_by_label("Drafts first").uncheck()
    count = len(visit.kept())
    page.locator("#subtle").click()
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    varied = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert len(visit.kept()) == count + 1 and varied.edit is not None and varied.edit.operation == "vary"
    page.locator("#stage .compare").fill("40")
    cut = page.locator("#stage img.before").first.evaluate("image => getComputedStyle(image).clipPath")
    assert cut in ("inset(0px calc(60%) 0px 0px)", "inset(0px 60% 0px 0px)")
    assert page.locator("#strip .child").count()
    visit.shot("041-before")


def test_paint_and_replace_then_undo_and_redo(visit: Visit) -> None:
    page = visit.page
    page.locator("#to-edit").click()
    page.locator("#editor canvas").first.wait_for()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 1 of 1')")
    page.wait_for_timeout(1500)  # the canvas draws its background in its own time
    page.set_viewport_size({"width": 1366, "height": 768})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.wait_for_timeout(300)
    box = page.locator("#editor canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.down()
    for step in range(13):
        page.mouse.move(middle[0] - 60 + 10 * step, middle[1] + 4 * (step % 2))
    page.mouse.up()
    visit.shot("05-painted")
    before = len(visit.kept())
    page.locator("#edit-prompt textarea").fill("a red heart at night")
    page.locator("#apply").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 2 of 2')")
    visit.shot("06-replaced")
    replaced = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert len(visit.kept()) == before + 1
    assert replaced.edit is not None and replaced.edit.operation == "inpaint"
    changed = replaced.tokens != replaced.edit.tokens
    assert 0 < changed.sum() < 0.5 * len(changed)  # the stroke is a small part of the picture
    page.locator("#undo").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 1 of 2')")
    page.locator("#redo").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 2 of 2')")


def test_extend_to_a_side(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("Extend the picture").check()
    page.locator("#sides").wait_for()
    page.locator("#apply").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 3 of 3')")
    assert "768 x 512" in page.locator("#story").inner_text()
    visit.shot("07-extended")


def test_change_by_words_keeps_a_named_area(visit: Visit) -> None:
    page = visit.page
    page.locator("#undo").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('Version 2 of 3')")
    page.get_by_label("Change it by words").check()
    page.locator("#keep input").check()
    page.get_by_label("Where").click()
    page.get_by_role("option", name="Left half").click()
    page.locator("#edit-prompt textarea").fill("a red heart in the desert")
    page.locator("#apply").click()
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('changed by words')")
    recipe = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert recipe.edit is not None and recipe.edit.operation == "edit"
    same = (recipe.tokens == recipe.edit.tokens).reshape(32, 32)
    assert same[:, :16].all() and not same[:, 16:].all()


def test_escape_leads_back_to_the_canvas_with_what_was_made(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Escape")
    page.locator("#prompt textarea").wait_for()
    page.wait_for_function("document.querySelector('#stage .back')?.textContent.includes('made from')")
    assert not page.locator("#editor").count() and page.locator("#stage .compare").count()
    page.wait_for_function("document.activeElement.id === 'to-edit'")
    visit.shot("071-back")


def test_a_photograph_is_made_smaller_before_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    page, photograph = visit.page, tmp_path / "photograph.jpg"
    Image.effect_noise((4000, 3000), 40).convert("RGB").save(photograph)
    with page.expect_file_chooser() as chooser:
        page.locator("#open-picture").click()
    with page.expect_request("**/gradio_api/upload") as sent:
        chooser.value.set_files(photograph)
    page.wait_for_function("document.querySelector('#story')?.textContent.includes('2048 x 1536 px')")
    assert len(sent.value.post_data_buffer or b"") < photograph.stat().st_size and not page.locator(".scaling").count()


def test_look_inside(visit: Visit) -> None:
    page = visit.page
    page.locator("#edit-back").click()
    visit.create("a purple flower in a meadow")
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    page.locator("#to-look").click()
    page.locator("#look .canvas").wait_for()
    slider = page.locator("#look .step")
    last = page.locator("#look .under").get_attribute("src")
    slider.fill("1")
    first = page.locator("#look .under").get_attribute("src")
    assert first != last and "1 of 8" in page.locator("#look .number").inner_text()
    page.get_by_label("When each token was set").check()
    assert page.locator("#look .under").get_attribute("src") not in (first, last)
    page.locator("#look .canvas").press("ArrowLeft")
    page.locator("#look .canvas").press("Enter")
    page.locator("#tries button").first.wait_for()
    assert page.locator("#look-side tbody tr").count() == page.locator("#tries button").count() == 5
    visit.shot("08-look")
    page.locator("#redo-spot").click()
    page.locator("#stage .forming img").first.wait_for()
    visit.wait_for_pictures()
    assert page.locator("#stage .compare").count()


def test_history_is_searched_restored_and_deleted(visit: Visit) -> None:
    page = visit.page
    visit.tab("History")
    page.locator("#gallery a").first.wait_for()
    visit.shot("09-history")
    every = page.locator("#gallery a").count()
    page.get_by_label("Search").fill("balloon sunset")
    page.wait_for_function(f"document.querySelectorAll('#gallery a').length < {every}")
    found = page.locator("#gallery a").count()
    assert found >= 4
    page.locator("#gallery a").first.click()
    page.locator("#restore").wait_for()
    name = unquote(page.locator("#gallery a").first.get_attribute("href").removeprefix("#history/"))
    recipe = read_recipe(visit.history / name)
    page.locator("#restore").click()
    page.wait_for_function("document.querySelector('#note').textContent.includes('Settings restored')")
    page.wait_for_function("document.querySelector('[role=tab][aria-selected=true]').textContent.includes('Create')")
    assert page.locator("#prompt textarea").input_value() == recipe.prompt
    assert page.get_by_label("Seed", exact=True).input_value() == str(recipe.seed)
    visit.tab("History")
    page.locator("#delete").click()
    page.wait_for_function(f"document.querySelectorAll('#gallery a').length === {found - 1}")
    assert not (visit.history / name).exists()
    page.locator("#undo-delete").click()
    page.wait_for_function(f"document.querySelectorAll('#gallery a').length === {found}")
    assert (visit.history / name).exists()
    address, second = page.url, page.locator("#gallery a").nth(1)
    other = unquote(second.get_attribute("href").removeprefix("#history/"))
    second.click()
    page.wait_for_function("name => document.querySelector('#chosen img').src.endsWith(name)", arg=quote(other))
    page.go_back()
    page.wait_for_function("name => document.querySelector('#chosen img').src.endsWith(name)", arg=quote(name))
    page.reload()
    page.locator("#chosen img").wait_for()  # the address alone leads there
    assert page.url == address and page.locator("#chosen img").get_attribute("src").endswith(name)
    page.locator("#delete").click()
    page.wait_for_function("document.querySelector('#chosen').textContent.includes('Deleted')")
    assert not (visit.history / name).exists()


def test_a_dropped_png_gives_its_settings_back(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    made = alone("a blue cup by the sea", 123, 3)
    data = list(bytes(encode_png(made.image, made.recipe)))
    drop = """([data]) => {
      const moved = new DataTransfer();
      moved.items.add(new File([new Uint8Array(data)], 'cup.png', { type: 'image/png' }));
      const target = document.querySelector('#drop button, #drop [role=button]') || document.querySelector('#drop');
      for (const kind of ['dragenter', 'dragover', 'drop'])
        target.dispatchEvent(new DragEvent(kind, { dataTransfer: moved, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [data])
    page.get_by_text("dropped just now").wait_for()
    page.locator("#restore").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a blue cup by the sea'")
    assert page.get_by_label("Seed", exact=True).input_value() == "123"
    visit.page.locator("#go").click()
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    again = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert np.array_equal(again.tokens, made.recipe.tokens)


def test_the_privacy_switch_writes_nothing(visit: Visit) -> None:
    before = visit.kept()
    visit.page.get_by_label("Write nothing to the disk").check()
    visit.page.wait_for_timeout(500)
    visit.page.locator("#go").click()
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    assert visit.kept() == before and "Not kept" in visit.page.locator("#save").inner_text()
    visit.page.get_by_label("Write nothing to the disk").uncheck()


def test_a_style_is_learned_while_the_page_goes_on(visit: Visit, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    page = visit.page
    picture = tmp_path / "boat.png"
    image = np.zeros((512, 512, 3), np.uint8)
    image[..., 2] = np.linspace(60, 255, 512)
    Image.fromarray(image).save(picture)
    visit.tab("Styles")
    page.locator("#style-files input[type=file]").set_input_files(str(picture))
    page.locator("#style-name input, #style-name textarea").fill("deep blue")
    page.locator("#style-captions textarea").fill("a boat")
    page.get_by_role("button", name="How it learns").click()
    page.locator("#style-steps input").fill("2")
    page.locator("#style-every input").fill("1")
    page.locator("#train").click()
    page.locator("#style-stage progress").wait_for()
    visit.tab("Create")  # the page answers while a style is learned
    visit.open_options()
    page.locator("#prompt textarea").fill("")
    page.locator("#surprise").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.length > 5")
    visit.tab("Styles")
    page.locator("#style-stage .strip img").first.wait_for()
    page.get_by_text("Save the file").wait_for()
    visit.shot("10-style")
    (path,) = visit.styles.glob("*.safetensors")
    assert path.name == "deep-blue.safetensors"
    with page.expect_download() as waiting:
        page.get_by_text("Save the file").click()
    assert Path(waiting.value.path()).read_bytes() == path.read_bytes()
    visit.tab("Create")
    page.locator("#own-styles label", has_text="deep-blue").click()
    assert page.locator("#own-styles label img").first.evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    page.get_by_label("number input for Weight of deep-blue").wait_for()
    visit.create("a red cup at sea in deep blue style")
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    styled = read_recipe(max(visit.kept(), key=lambda path: path.stat().st_mtime_ns))
    assert styled.adapters and styled.adapters[0].startswith("deep-blue:1")


def test_the_second_round_learns_from_what_was_ticked(visit: Visit) -> None:
    pytest.importorskip("torch")
    page = visit.page
    visit.tab("Styles")
    page.locator("#candidates").click()
    page.locator("#train-again").wait_for()
    ticks = page.locator("#candidate-grid input")
    ticks.nth(11).wait_for()  # they come one by one
    assert ticks.count() == 12
    ticks.nth(1).check()
    ticks.nth(4).check()
    visit.shot("11-candidates")
    page.locator("#train-again").click()
    page.locator("#style-stage progress").wait_for()
    page.get_by_text("Save the file").wait_for()
    second = load_adapter(visit.styles / "deep-blue-2.safetensors").record
    assert second.recipe["pictures"] == 2 and second.recipe["style"] == "deep blue" and second.trigger == ""


def test_a_training_is_stopped(visit: Visit) -> None:
    pytest.importorskip("torch")
    page = visit.page
    visit.tab("Styles")
    page.locator("#style-name input, #style-name textarea").fill("never")
    page.locator("#style-steps input").fill("500")
    page.locator("#style-every input").fill("400")
    page.locator("#train").click()
    page.locator("#train-cancel").wait_for()
    page.wait_for_function("document.querySelector('#style-stage').textContent.includes(' of 96')")
    page.locator("#train-cancel").click()  # minutes before the first step
    page.wait_for_function("document.querySelector('#style-stage').textContent.includes('nothing was kept')")
    assert not (visit.styles / "never.safetensors").exists()


def test_only_the_keyboard(visit: Visit) -> None:
    page = visit.page
    visit.tab("Create")
    page.locator("#prompt textarea").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a red fish by the sea")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    visit.wait_until_said("Drawing")
    visit.wait_for_pictures()
    page.get_by_role("tab", name="Create").focus()
    page.keyboard.press("ArrowRight")
    reached = page.evaluate("document.activeElement.textContent.trim()")
    page.keyboard.press("Enter")
    assert reached == "Styles" and page.get_by_role("tab", name="Styles").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize("tab", ["Create", "Edit", "Styles", "Look inside", "History", "Models", "Responsible use"])
@pytest.mark.parametrize("shade", ["light", "dark"])
def test_no_serious_violation_of_accessibility(visit: Visit, tab: str, shade: str) -> None:
    axe = pytest.importorskip("axe_playwright_python")
    page = visit.page
    visit.go(tab)
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", shade == "dark")
    page.wait_for_timeout(300)
    visit.shot(f"20-{tab.split()[0].lower()}-{shade}")
    page.evaluate((files(axe) / "axe.min.js").read_text("utf-8"))
    rules = ", runOnly: ['color-contrast']" if shade == "dark" else ""  # all else is the same as in the light
    found = page.evaluate(f"axe.run(document, {{ resultTypes: ['violations']{rules} }})")["violations"]
    serious = [
        {"id": one["id"], "help": one["help"], "nodes": [node["html"][:160] for node in one["nodes"][:4]]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious, json.dumps(serious, indent=1)


def test_on_a_phone_nothing_runs_off_the_side(visit: Visit) -> None:
    page = visit.page
    visit.tab("Create")
    page.set_viewport_size({"width": 390, "height": 844})
    for mode in ("Edit", "Look inside"):
        visit.go(mode)
        visit.shot(f"30-{mode.split()[0].lower()}-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    for tab in ("Create", "Styles", "History", "Models", "Responsible use"):
        if page.get_by_role("tab", name=tab).count() and page.get_by_role("tab", name=tab).first.is_visible():
            visit.tab(tab)
        else:  # the tabs that do not fit are in a menu
            page.locator(".overflow-menu > button").click()
            page.locator(".overflow-dropdown button", has_text=tab).click()
        page.wait_for_timeout(300)
        visit.shot(f"30-{tab.split()[0].lower()}-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1400, "height": 1000})


def test_an_upload_that_breaks_off_is_no_error(visit: Visit) -> None:
    """That the server says nothing of it is seen when its fixture ends."""
    place = urlsplit(visit.url)
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000\r\n{}\r\n"
    kind = "Content-Type: multipart/form-data; boundary=b\r\n"
    with socket.create_connection((place.hostname, place.port)) as left:
        left.sendall(head.format(place.netloc, kind).encode() + b"--b\r\nContent-Disposition: form-data;")
        time.sleep(0.5)
    visit.page.wait_for_timeout(1000)
    assert visit.page.request.get(visit.url).ok


def test_nothing_was_asked_of_any_other_machine(visit: Visit) -> None:
    """The last: every request of the whole session."""
    outside = [url for url in visit.requests if urlsplit(url).scheme not in ("data", "blob")]
    outside = [url for url in outside if urlsplit(url).hostname != "127.0.0.1"]
    assert len(visit.requests) > 50 and not outside, outside
    assert not visit.errors


def test_a_picture_of_the_session_is_a_picture(visit: Visit) -> None:
    """What was kept opens as a PNG of the model's size, with its own words."""
    image = Image.open(BytesIO(visit.kept()[0].read_bytes()))
    assert image.size == (512, 512) and image.format == "PNG"

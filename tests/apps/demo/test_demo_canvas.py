"""The canvas without a browser: what is drawn is found again, a second wish waits its turn, and nothing ends by a slip.

One server for all; each test is a visitor of its own.
"""

import json
import re
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image
from serving import Server, Start, png, recipe_in
from visiting import Visitor

from amused_lite.files.images import open_picture

pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def page(start: Start) -> Server:
    return start("--no-browser", command="demo")


def visit(page: Server, key: str = "", prompt: str = "a red cup", steps: int = 1) -> Visitor:
    visitor = Visitor(page.url)
    visitor.arrive(key)
    for name, value in (("How many", 1), ("Steps", steps), ("prompt", prompt)):
        visitor.set(name, value)
    return visitor


def pictures(shown: str) -> list[str]:
    return re.findall(r'src="(pictures/[^"]+)"', json.loads(shown)[0])


def test_the_page_is_sent_small(page: Server) -> None:
    with requests.get(f"{page.url}/", stream=True) as reply:
        assert reply.headers["content-encoding"] == "gzip" and len(reply.raw.read()) < 60_000


def test_the_page_opens_with_an_example(page: Server) -> None:
    visitor = visit(page)
    stage = visitor.values[visitor.component("stage")]
    assert "Picture 1 of 1: " + Visitor(page.url).values[visitor.component("prompt")] in visitor.wait()
    assert stage and not json.loads(visitor.look())[1]  # the strip is for one's own


def test_a_picture_is_found_again_by_its_key_and_by_nothing_else(page: Server) -> None:
    first = visit(page, prompt="a yellow star at night")
    shown = first.draw()
    assert len(first.key) >= 22 and pictures(shown)
    again = visit(page, first.key)
    assert again.key == first.key and again.wait() == shown
    for key in ("", "x", first.key[:-1], [], 7, {"a": 1}):
        other = visit(page, key)  # type: ignore[arg-type]  # whatever a client says
        assert other.key != first.key and "yellow star" not in other.wait()
    address = re.findall(r"small/[\w-]+/0\.jpeg", shown)[0]
    small = requests.get(f"{page.url}/{address}")
    assert small.headers["content-type"] == "image/jpeg" and small.content[:2] == b"\xff\xd8"
    assert requests.get(f"{page.url}/small/nothing/0.jpeg").status_code == 404


def test_a_second_wish_waits_and_is_cancelled_alone(page: Server) -> None:
    visitor = visit(page, prompt="a green tree", steps=48)
    visitor.at_once("go", "click")
    visitor.set("prompt", "a pink heart")
    visitor.at_once("prompt", "submit")  # Enter
    strip = json.loads(visitor.look())[1]
    under_way = re.findall(r'data-cancel="([^"]+)"', strip)
    assert len(under_way) == 2 and strip.index("pink heart") < strip.index("green tree")
    gone = visitor.click("strip", {"cancel": under_way[0]})
    assert "pink heart" not in gone and "green tree" in gone
    while "of 48" not in visitor.look():
        pass
    visitor.at_once("stop", "click")
    shown = visitor.wait()
    assert "stopped after step" in shown and "pink heart" not in shown


def test_a_drawing_goes_on_when_its_page_was_closed(page: Server) -> None:
    visitor = visit(page, prompt="a purple moon", steps=24)
    visitor.at_once("go", "click")
    again = visit(page, visitor.key)
    assert again.values[again.component("prompt")] == "a red cup"  # as `visit` has set it
    assert "purple moon" in again.wait() and pictures(again.look())


def test_a_click_that_became_two_is_one(page: Server) -> None:
    visitor = visit(page, prompt="a white cup", steps=24)
    visitor.at_once("go", "click")
    visitor.at_once("go", "click")
    assert json.loads(visitor.wait())[1].count("small/") == 1


def test_cancel_ends_it_and_says_so(page: Server) -> None:
    visitor = visit(page, prompt="a red fish", steps=48)
    visitor.at_once("go", "click")
    while "of 48" not in visitor.look():
        pass
    visitor.at_once("cancel", "click")
    assert "Cancelled" in visitor.wait()


def test_an_earlier_picture_comes_back_to_the_canvas_and_is_varied(page: Server) -> None:
    visitor = visit(page, prompt="a red car")
    visitor.draw()
    visitor.set("prompt", "a blue fish")
    strip = json.loads(visitor.draw())[1]
    earlier = re.findall(r'data-key="([^"]+)"[^>]*title="a red car"', strip)
    shown = visitor.click("strip", {"key": earlier[0]})
    assert "Picture 1 of 1: a red car" in shown
    varied = json.loads(visitor.draw("subtle"))
    parent = re.findall(r'class="back" data-key="([^"]+)"', varied[0])
    assert (
        'class="compare"' in varied[0]
        and f'class="before" decoding="sync" alt="" src="pictures/{earlier[0]}.png"' in varied[0]
    )
    assert parent == earlier and re.search(r'class="tile child"><button[^>]*title="varied: a red car"', varied[1])
    assert "Picture 1 of 1: a red car" in visitor.click("stage", {"key": parent[0]})


def test_a_picture_is_saved_larger_and_said_how(page: Server) -> None:
    visitor = visit(page, prompt="a pink moon")
    shown = visitor.draw()
    made = open_picture(BytesIO(requests.get(f"{page.url}/{pictures(shown)[0]}").content))
    save = json.loads(shown)[2]
    assert "Lanczos" in save and "1024 x 1024 px" in save and "2048 x 2048 px" in save
    address = re.findall(r'href="(large/[^"]+/2\.png)"', save)[0]
    larger = open_picture(BytesIO(requests.get(f"{page.url}/{address}").content))
    assert larger.image == made.image.resize((1024, 1024), Image.Resampling.LANCZOS)
    assert larger.recipe is not None and made.recipe is not None and larger.recipe.to_json() == made.recipe.to_json()
    for other in (address.replace("2.png", "3.png"), address.replace("/0/", "/1/"), "large/none/0/2.png"):
        assert requests.get(f"{page.url}/{other}").status_code == 404


def test_a_picture_is_edited_where_it_is_and_goes_back_to_the_canvas(page: Server) -> None:
    visitor = visit(page, prompt="a red car")
    made = pictures(visitor.draw())[0]
    begun = visitor.do("to-edit")
    assert "Version 1 of 1" in begun and '"visible": true' in begun
    for name, value in (("tool", "Change it by words"), ("edit-prompt", "a blue car"), ("area", "Middle")):
        visitor.set(name, value)
    assert "Version 2 of 2" in visitor.do("apply")
    assert "Version 1 of 2" in visitor.do("undo")
    assert "Version 2 of 2" in visitor.do("redo")
    visitor.at_once("edit-back", "click")
    shown = visitor.wait()
    stage, strip = json.loads(shown)[:2]
    assert pictures(shown)[0] != made and f'class="before" decoding="sync" alt="" src="{made}"' in stage
    assert re.search(r'class="tile child"><button[^>]*title="changed by words: a blue car"', strip)


def test_a_picture_that_was_opened_is_compared_with_what_was_made_of_it(page: Server) -> None:
    visitor = visit(page)
    file = visitor.upload(png(Image.effect_noise((96, 64), 90).convert("RGB")))
    visitor.set("open-picture", file)
    assert "96 x 64 px" in visitor.do("open-picture", "upload")
    for name, value in (("area", "Left half"), ("edit-prompt", "a blue fish")):
        visitor.set(name, value)
    assert "Version 2 of 2" in visitor.do("apply")
    visitor.at_once("edit-back", "click")
    stage = json.loads(visitor.wait())[0]
    (before,) = re.findall(r'class="before" decoding="sync" alt="" src="([^"]+)"', stage)
    assert requests.get(f"{page.url}/{before}").ok and "What it was made from" not in stage


def test_a_spot_that_was_looked_into_is_drawn_anew_or_as_one_wants_it(page: Server) -> None:
    visitor = visit(page, prompt="a yellow star")
    visitor.draw()
    assert "Click on the picture first" in visitor.at_once("redo-spot", "click")
    assert "look-data" in visitor.do("to-look")
    side = 32
    for how, taken in (("redo", None), ("take", 1)):
        cell = 5 * side + 30
        tried = visitor.click("look", {"cell": cell})
        assert tried.count("data-take") == 5
        visitor.at_once("redo-spot", "click") if taken is None else visitor.click("tries", {"take": taken})
        shown = visitor.wait()
        made = pictures(shown)[0]
        recipe = recipe_in(requests.get(f"{page.url}/{made}").content)
        assert recipe.edit is not None and recipe.edit.operation == "vary", how
        drawn = np.zeros((side, side), bool)
        drawn[2:9, 27:] = True
        same = (recipe.tokens == recipe.edit.tokens).reshape(side, side)
        assert same[~drawn].all() and (taken is None or same[5, 30])
        visitor.do("to-look")


def test_wrong_wishes_are_said_beside_the_sentence(page: Server) -> None:
    visitor = visit(page, prompt=" ")
    assert "prompt is empty" in visitor.at_once("go", "click").lower()
    visitor.set("prompt", "a cat on a skateboard")
    assert "never shown" in visitor.at_once("prompt", "blur")
    assert "never shown" in visitor.draw()


def test_a_tap_on_a_word_writes_it(page: Server) -> None:
    visitor = visit(page, prompt="a red")
    chips = visitor.component("chips-things")
    visitor.values[chips] = 5
    visitor.at_once("chips-things", "click")
    assert visitor.values[visitor.component("prompt")] == "a red boat"

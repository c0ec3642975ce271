"""What strangers hand to the page: junk with a click, and files whose recipes hold markup."""

import json
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from amused_lite.apps.engine.history import INDEX
from PIL import Image
from serving import Server, Start, alone, png
from visiting import Visitor

from amused_lite.files.png import Edit

pytest.importorskip("gradio")

MARKUP = '"><img src=x onerror=alert(1)>'
JUNK: tuple[Any, ...] = (None, [], "x", 5, -1, 10**30, {}, {"a": [1]}, [None], [-1], [99], [0, "0", 1e300], True)


@pytest.fixture(scope="module")
def page(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A gallery that came from somebody else."""
    folder = tmp_path_factory.mktemp("gallery")
    picture = alone("a red cup", 7, 1)
    recipe = picture.recipe
    edit = Edit(MARKUP, {}, recipe.tokens)
    picture = replace(picture, recipe=replace(recipe, prompt="stranger", adapters=(MARKUP,), edit=edit))
    picture.save(folder / "a.png")
    values = _line(folder / "a.png") | {"seed": MARKUP, "name": "b.png"}
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    (folder / INDEX).write_text(json.dumps(values) + "\n")
    return start("--no-browser", "--history", str(folder), command="demo")


def _line(path: Path) -> dict[str, Any]:
    """A line of an index that fits a file."""
    from amused_lite.apps.engine.history import _line, _read_entry

    entry = _read_entry(path)
    assert entry is not None
    return json.loads(_line(entry))


def test_a_recipe_is_text_and_no_markup(page: Server) -> None:
    visitor = Visitor(page.url)
    gallery = visitor.do("search", "change")
    assert "a.png" in gallery and "b.png" in gallery and "&lt;img src=x" in gallery
    assert "<img src=x" not in gallery
    detail = visitor.click("address", {"name": "a.png"})
    assert "&lt;img src=x" in detail and "<img src=x" not in detail


@pytest.mark.parametrize("elem_id", ["address", "candidate-grid", "stage", "look", "tries"])
def test_junk_with_a_click(page: Server, elem_id: str) -> None:
    visitor = Visitor(page.url)
    for junk in JUNK:
        for data in (junk, {name: junk for name in ("name", "ticked", "index", "cell", "take")}):
            visitor.click(elem_id, data)


def test_ticks_that_no_candidate_has(page: Server) -> None:
    visitor = Visitor(page.url)
    visitor.set("Write nothing to the disk", False)
    for junk in JUNK:
        visitor.click("candidate-grid", {"ticked": junk})
        assert "Tick at least one picture" in visitor.do("train-again")


def test_files_too_few_or_too_many(page: Server) -> None:
    visitor = Visitor(page.url)
    visitor.set("Write nothing to the disk", False)
    visitor.set("style-name", "deep blue")
    key = visitor.upload(png(Image.new("RGB", (64, 64), "blue")))
    for files in ([], [key] * 11, [key] * 2000):
        visitor.set("style-files", files)
        visitor.at_once("style-files", "change")
        visitor.set("style-captions", "a boat")
        assert "one to ten pictures" in visitor.do("train")


@pytest.mark.parametrize("name", ["tool", "edit-prompt", "area", "sides", "By how many px"])
def test_junk_in_the_editor(page: Server, name: str) -> None:
    visitor = Visitor(page.url)
    visitor.set("open-picture", visitor.upload(png(Image.new("RGB", (64, 64), "blue"))))
    visitor.do("open-picture", "upload")
    visitor.set("tool", "Extend the picture")
    for junk in (5, {"a": [1]}, [[1]], 1e300):
        visitor.set(name, junk)
        said = visitor.do("apply")
        assert "The page does not offer this" in said or "Choose at least one side" in said


def test_a_deletion_is_undone_and_what_is_left_is_saved_as_one_file(page: Server) -> None:
    visitor = Visitor(page.url)
    for name in ("../a.png", "none.png", "a.png"):
        shown = visitor.click("address", {"name": name})
        assert ("history/a.png" in shown) == (name == "a.png")
    visitor.values[visitor.component("search")] = ""
    gone = visitor.do("delete")
    assert "Deleted." in gone and "1 picture." in gone
    assert requests.get(f"{page.url}/history/a.png").status_code == 404
    back = visitor.do("undo-delete")
    assert "history/a.png" in back and "2 pictures." in back
    assert "no deleted picture" in visitor.do("undo-delete")
    reply = requests.get(f"{page.url}/history.zip?words=stranger")
    with zipfile.ZipFile(BytesIO(reply.content)) as file:
        assert sorted(file.namelist()) == ["a.png", "b.png"] and file.testzip() is None
    assert "attachment" in reply.headers["content-disposition"]
    assert zipfile.ZipFile(BytesIO(requests.get(f"{page.url}/history.zip?words=nothing").content)).namelist() == []


def test_no_traceback_was_printed(page: Server) -> None:
    page.process.terminate()
    assert "Traceback" not in page.process.communicate(timeout=120)[1]

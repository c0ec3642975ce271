""" "Write nothing to the disk" writes nothing: no file and no folder changes, for the tab whose box is ticked."""

import json
import re
import stat
from pathlib import Path

import pytest
from PIL import Image
from serving import Server, Start, png
from visiting import Visitor

pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def page(start: Start) -> Server:
    return start("--no-browser", command="demo")


def on_disk(server: Server) -> dict[str, tuple[int, int]]:
    """All below the server's home and folder for temporary files; a folder's time tells of files that are gone."""
    places = [server.folder, *server.folder.rglob("*")]
    return {str(place): (place.stat().st_mtime_ns, place.stat().st_size) for place in places}


def kept(server: Server) -> list[Path]:
    return sorted(server.folder.rglob("*.png"))


def visit(server: Server, private: bool) -> Visitor:
    visitor = Visitor(server.url)
    visitor.set("How many", 1)
    visitor.set("Steps", 1)
    visitor.set("prompt", "a red cup")
    visitor.set("Write nothing to the disk", private)
    visitor.at_once("private", "change")
    return visitor


def test_drawing_editing_and_dropping_leave_no_trace(page: Server) -> None:
    before = on_disk(page)
    visitor = visit(page, private=True)
    assert "Not kept on the disk" in visitor.draw()
    picture, stroke = Image.effect_noise((1500, 1500), 90).convert("RGB"), Image.new("RGBA", (1500, 1500))
    stroke.paste((43, 179, 155, 255), (0, 0, 700, 1500))
    assert len(png(picture)) > 2 * 2**20  # so large that forms would be read through a temporary file
    upload, layer = visitor.upload(png(picture)), visitor.upload(png(stroke))
    visitor.set("open-picture", upload)
    assert "1500 x 1500 px" in visitor.do("open-picture", "upload")
    visitor.set("editor", {"background": upload, "layers": [layer], "composite": upload})
    visitor.set("edit-prompt", "a blue cup")
    said = visitor.do("apply")
    assert "Version 2 of 2" in said and "replaced" in said
    said = visitor.at_once("edit-back", "click")  # the canvas compares it with what was opened
    (earlier,) = set(re.findall(r'class=\\"before\\"[^>]* src=\\"([^\\]+)', said))
    assert visitor.http.get(f"{page.url}/{earlier}").content[:4] == b"\x89PNG"
    visitor.do("undo")
    visitor.set("drop", upload)
    assert "holds no recipe" in visitor.do("drop", "upload")
    assert on_disk(page) == before


def test_nothing_is_learned_either(page: Server) -> None:
    before = on_disk(page)
    visitor = visit(page, private=True)
    visitor.set("style-files", [visitor.upload(png(Image.new("RGB", (512, 512), "blue")))])
    visitor.at_once("style-files", "change")
    visitor.set("style-name", "deep blue")
    visitor.set("style-captions", "a boat")
    assert "untick Write nothing" in visitor.do("train")
    assert on_disk(page) == before


def test_the_wish_is_that_of_one_tab(page: Server) -> None:
    private, other = visit(page, private=True), visit(page, private=False)
    before = len(kept(page))
    private.draw()
    assert len(kept(page)) == before
    other.draw()
    assert len(kept(page)) == before + 1
    private.draw()
    assert len(kept(page)) == before + 1
    late = visit(page, private=True)  # does not speak for those that came before
    other.draw()
    late.draw()
    assert len(kept(page)) == before + 2


def test_the_box_counts_for_what_is_being_drawn(page: Server) -> None:
    visitor = visit(page, private=False)
    visitor.set("How many", 4)
    visitor.set("Steps", 16)
    visitor.at_once("go", "click")
    assert "<progress" in visitor.look()
    visitor.set("Write nothing to the disk", True)
    visitor.at_once("private", "change")
    before = on_disk(page)
    assert "Not kept on the disk" in visitor.wait()
    assert on_disk(page) == before


def test_a_server_without_history_writes_for_nobody_and_leaves_no_folder(start: Start) -> None:
    server = start("--no-browser", "--no-history", command="demo")
    before = on_disk(server)
    visitor = visit(server, private=False)  # whatever a client says
    assert "Not kept on the disk" in visitor.draw()
    visitor.set("style-files", [visitor.upload(png(Image.new("RGB", (512, 512), "blue")))])
    visitor.at_once("style-files", "change")
    visitor.set("style-name", "deep blue")
    assert "--no-history" in visitor.do("train")
    assert on_disk(server) == before
    box = next(one for one in visitor.config["components"] if one["props"].get("elem_id") == "private")
    assert json.dumps([box["props"]["value"], box["props"]["interactive"]]) == "[true, false]"
    (scratch,) = server.folder.glob("amused-lite-*")
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    server.process.terminate()
    server.process.communicate(timeout=120)
    assert not scratch.exists()

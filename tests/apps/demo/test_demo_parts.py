"""The page's parts that need no browser: masks, versions, the filter, captions, and what the tabs promise."""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import alone

pytest.importorskip("gradio")

from amused_lite.apps.demo import learning, versions
from amused_lite.apps.demo.app_state import AppState
from amused_lite.apps.demo.picture_filter import HIDDEN, ORDINARY, PictureFilter
from amused_lite.apps.demo.tabs import edit, styles
from amused_lite.apps.demo.tabs.responsible import TEXT
from amused_lite.apps.demo.uploads import Uploads
from amused_lite.apps.engine.engine import Engine

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.files.images import SourceImage


class Likeness:
    """A stand-in for weights that nobody can have here: pictures are as like a text as their brightness says."""

    def scores(self, prompt: str, images: list[Image.Image]) -> list[float]:
        bright = [np.asarray(image.convert("L")).mean() / 255 for image in images]
        return [0.3 * level if prompt == HIDDEN["violence"] else 0.15 for level in bright]


def test_the_filter_blurs_with_reason_and_score_and_leaves_the_rest_alone() -> None:
    white, black = Image.new("RGB", (32, 32), "white"), Image.new("RGB", (32, 32))
    marked, plain = PictureFilter(Likeness()).judge([white, black])
    assert plain is None and marked is not None
    assert marked.reason == "violence" and 0.5 < marked.score <= 1
    assert "violence" in str(marked) and f"{marked.score:.2f}" in str(marked)
    assert len(ORDINARY) >= len(HIDDEN)
    with pytest.raises(ValueError, match="threshold"):
        PictureFilter(Likeness(), 0)


@pytest.mark.skipif(find_spec("open_clip") is None, reason="the filter needs the extra 'train'")  # imports nothing
def test_a_filter_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights"):
        PictureFilter.open(f"ViT-B-32:{tmp_path / 'none.safetensors'}")


@pytest.mark.parametrize("area", edit._AREAS[1:])
def test_named_areas_mark_a_part_and_leave_a_part(area: str) -> None:
    mask = edit._mask([], area, (100, 60))
    assert mask is not None and mask.size == (100, 60)
    share = np.asarray(mask).mean() / 255
    assert share == pytest.approx(0.25 if area == "Middle" else 0.5)


def test_strokes_become_white_and_nothing_painted_is_none() -> None:
    strokes = Image.new("L", (64, 64))
    assert edit._mask([strokes], edit._AREAS[0], (64, 64)) is None
    strokes.paste(255, (0, 0, 32, 64))
    mask = edit._mask([strokes], edit._AREAS[0], (64, 64))
    assert mask is not None and np.asarray(mask).mean() == 127.5


def test_versions_walk_back_and_forth_and_a_new_one_forgets_what_was_undone(tmp_path: Path) -> None:
    version = versions.Version.of(Uploads(tmp_path), SourceImage(Image.new("RGB", (32, 32))))
    walked = versions.Versions().add(version).add(version).add(version)
    back = walked.moved(-2)
    assert back.at == 0 and back.moved(-1).at == 0 and back.moved(9).at == 2
    assert len(back.add(version).items) == 2
    for _ in range(40):
        walked = walked.add(version)
    assert len(walked.items) == versions.MOST and walked.at == versions.MOST - 1


def test_a_version_is_the_picture_with_its_recipe_until_memory_is_full(tmp_path: Path) -> None:
    uploads, made = Uploads(tmp_path, most_bytes=2**20), alone("a red cup", 7, 1)
    source = SourceImage(made.image, made.recipe)
    first = versions.Version.of(uploads, source)
    assert first.words == "as it was opened, 512 x 512 px"
    again = first.open(uploads)
    assert np.array_equal(again.image, made.image)
    assert again.recipe is not None and again.recipe.to_json() == made.recipe.to_json()
    second = versions.Version.of(uploads, again, source)
    assert (
        second.words
        == f"as it was opened, 0 of {made.recipe.tokens.size} tokens differ from the one before, 512 x 512 px"
    )
    noise = Image.effect_noise((1024, 1024), 90)
    versions.Version.of(uploads, SourceImage(noise))
    with pytest.raises(ValueError, match="no longer in memory; open the picture again"):
        first.open(uploads)


def test_a_large_picture_is_shown_smaller_and_kept_as_it_is(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    large = versions.Version.of(uploads, SourceImage(Image.new("RGB", (1500, 700))))
    with Image.open(BytesIO(uploads.open(large.shown).data)) as shown:
        assert shown.size == (1024, 478)
    assert large.open(uploads).image.size == (1500, 700)
    strokes = Image.new("L", (1024, 478))
    strokes.paste(255, (0, 0, 512, 478))
    mask = edit._mask([strokes], edit._AREAS[0], (1500, 700))
    assert mask is not None and mask.size == (1500, 700) and np.asarray(mask).mean() == pytest.approx(127.5, abs=1)


def test_blank_samples_are_told_from_drawn_ones(tmp_path: Path) -> None:
    blank, drawn = Image.new("RGB", (512, 512), (250, 220, 40)), alone("a red cup", 7, 1).image
    for pictures, is_blank in (([blank] * 3, True), ([drawn] * 3, False), ([blank, drawn, drawn], False)):
        contact_sheet(pictures, ["a cup"] * 3, tmp_path / "strip.png", columns=3)
        assert learning.is_blank(tmp_path / "strip.png") == is_blank


def test_captions_go_to_pictures_one_for_all_or_one_each() -> None:
    assert styles._captions(2, "a boat\n\n") == ["a boat", "a boat"]
    assert styles._captions(2, "a boat\na cup") == ["a boat", "a cup"]
    for pictures, captions in ((1, ""), (0, "a boat"), (11, "a boat"), (3, "x\ny")):
        with pytest.raises(ValueError, match="pictures"):
            styles._captions(pictures, captions)


def test_styles_never_overwrite_each_other(tmp_path: Path) -> None:
    first = styles._free_name(tmp_path, "Melting / golden ../3d", None)
    assert first.parent == tmp_path and first.name == "melting-golden-3d.safetensors"
    first.touch()
    second = styles._free_name(tmp_path, "melting golden 3d", None)
    assert second.name == "melting-golden-3d-2.safetensors"
    second.with_name("melting-golden-3d-2.work").mkdir()  # of a training in another program, or of one that failed here
    assert styles._free_name(tmp_path, "melting golden 3d", None).name == "melting-golden-3d-3.safetensors"
    assert styles._free_name(tmp_path, "melting golden 3d", second) == second


def test_the_guide_in_docs_is_the_text_of_the_page() -> None:
    guide = Path(__file__).parents[3] / "docs" / "responsible-use.md"
    assert guide.read_text("utf-8") == TEXT


def test_forgotten_pictures_are_said_to_be(tmp_path: Path) -> None:
    engine = Engine()
    app_state = AppState(engine, tmp_path)
    try:
        for key in ("gone/0", "gone", "history:gone.png"):
            with pytest.raises(ValueError, match=r"memory|history"):
                app_state.source(key)
    finally:
        engine.close()
        app_state.close()

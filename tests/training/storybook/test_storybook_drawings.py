"""Drawings: trimmed, aligned, in other colours, the same from disk as when rendered."""

import colorsys
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="the storybook needs the extra 'train'")
pytest.importorskip("skia", reason="the storybook needs the extra 'train'")

from small_drawings import write_sets

from amused_lite.training.storybook.drawings import render
from amused_lite.training.storybook.drawings.render import (
    HANDS,
    HELD_OUT_HANDS,
    KINDS,
    drawing,
    use_folder,
)

HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 130, "blue": 215, "purple": 268, "pink": 335}  # HSV, degrees


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(autouse=True)
def folder(sets: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder of sets and nothing rendered."""
    for file in sets.glob("*.json"):
        shutil.copy(file, tmp_path)
    use_folder(tmp_path)
    yield tmp_path
    use_folder(render.FOLDER)


def drawn(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is drawn, the last two of each pair included."""
    rows, columns = (np.flatnonzero((pixels[..., 3] > 16).any(axis)) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize("hand", HANDS + HELD_OUT_HANDS)
@pytest.mark.parametrize("side", [96, 160])
def test_a_drawing_fills_its_square(hand: str, side: int) -> None:
    for kind in ("cat", "car", "balloon", "apple"):
        pixels = drawing(hand, kind, side)
        assert pixels.shape == (side, side, 4) and pixels.dtype == np.uint8
        top, bottom, left, right = drawn(pixels)
        height, width = bottom - top + 1, right - left + 1
        assert max(height, width) >= side - 2
        assert abs(left - (side - 1 - right)) <= 2  # in the middle across
        if KINDS[kind].place == "flies":
            assert abs(top - (side - 1 - bottom)) <= 2
        else:
            assert bottom >= side - 2


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("[]", ""),
        ('{"icons": []}', "icons"),
        ('{"icons": {"cat": {}}}', "body"),
        ('{"icons": {}, "width": -1}', "width"),
        ('{"icons": {}, "aliases": {"cat": 5}}', "cat"),
    ],
)
def test_a_damaged_set_is_named(folder: Path, text: str, field: str) -> None:
    (folder / "flat.json").write_text(text)
    with pytest.raises(ValueError, match=rf"flat\.json.*{field}.*--stage fetch"):
        drawing("flat", "cat", 96)


def test_nothing_outside_the_canvas_shows(folder: Path) -> None:
    """A body may reach beyond its canvas, where viewers clip it; trimming must not bring that back."""
    body = '<rect x="24" y="2" width="8" height="28" fill="#c00"/><rect x="32" width="9" height="32" fill="#00c"/>'
    icons = {"width": 32, "height": 32, "icons": {"cat": {"body": body}}}
    (folder / "flat.json").write_text(json.dumps(icons))
    use_folder(folder)
    pixels = drawing("flat", "cat", 64)
    assert drawn(pixels)[3] < 45
    assert (pixels[..., 2] > 0).sum(axis=1).max() <= 1  # the pixels that the edge itself goes through


def test_colours_are_premultiplied() -> None:
    for hand in HANDS:
        pixels = drawing(hand, "car", 101)
        assert (pixels[..., :3] <= pixels[..., 3:]).all()
        assert ((pixels[..., 3] > 0) & (pixels[..., 3] < 255)).any()  # or this would say nothing


def test_mirrored() -> None:
    assert np.array_equal(drawing("flat", "cat", 96, mirrored=True), drawing("flat", "cat", 96)[:, ::-1])


def test_drawings_are_not_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        drawing("flat", "cat", 96)[0] = 0


@pytest.mark.parametrize("colour", HUES)
def test_another_colour_has_its_hue_and_keeps_light_and_shade(colour: str) -> None:
    for kind in ("car", "balloon", "umbrella", "backpack"):
        own, other = (drawing("flat", kind, 160, paint) for paint in (None, colour))
        assert np.array_equal(own[..., 3], other[..., 3])
        opaque = own[..., 3] == 255
        colours, counts = np.unique(own[opaque][:, :3], axis=0, return_counts=True)
        body, stripe = colours[counts.argsort()[-2:]][::-1]  # as small_drawings has them, the stripe darker
        spot = np.array([255, 255, 255])
        new_body, new_stripe, new_spot = (other[opaque & (own[..., :3] == old).all(-1)] for old in (body, stripe, spot))
        assert abs((hue(new_body) - HUES[colour] + 180) % 360 - 180) < 25, kind
        assert luma(new_body) > luma(new_stripe) + 8, kind
        assert (new_spot == 255).all(), kind  # white stays white


def hue(pixels: np.ndarray) -> float:
    red, green, blue = pixels[:, :3].mean(0) / 255
    return 360 * colorsys.rgb_to_hsv(red, green, blue)[0]


def luma(pixels: np.ndarray) -> float:
    return float((pixels[:, :3] @ (0.2126, 0.7152, 0.0722)).mean())


def test_black_and_white() -> None:
    black, white = (drawing("flat", "car", 160, colour) for colour in ("black", "white"))
    opaque = black[..., 3] == 255
    assert np.median(black[opaque][:, :3].max(-1)) < 70 and np.median(white[opaque][:, :3].min(-1)) > 220


def test_coloured_ink() -> None:
    pixels = drawing("ink", "car", 160, "blue")
    red, _, blue = pixels[pixels[..., 3] == 255][:, :3].mean(0)
    assert blue > red + 20


def test_a_drawing_is_rendered_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = drawing("shaded", "car", 96, "red").copy()
    use_folder(folder)  # forgets what is in memory
    monkeypatch.setattr(render, "_rendered", None)
    assert np.array_equal(drawing("shaded", "car", 96, "red"), first)


def test_a_damaged_file_is_rendered_again(folder: Path) -> None:
    first = drawing("shaded", "cat", 96).copy()
    (file,) = folder.glob("rendered-*/shaded/*.png")
    file.write_bytes(file.read_bytes()[:100])
    use_folder(folder)
    assert np.array_equal(drawing("shaded", "cat", 96), first)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("flat", "basilisk", 96), "no 'basilisk'"),
        (("soft", "fox", 96), "no 'soft' drawing of a fox; the hands that have it are flat, shaded, blob, ink"),
        (("oil", "cat", 96), "no 'oil' drawing"),
        (("flat", "car", 96, "mauve"), "cannot be 'mauve'; its colours are red, orange"),
        (("ink", "car", 96, "white"), "no 'ink' drawing of a white car"),
        (("flat", "cat", 4), "8 to 1024 pixels"),
    ],
)
def test_what_is_not_drawn(wanted: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawing(*wanted)


def test_without_the_drawings_one_line_says_what_to_run(tmp_path: Path) -> None:
    use_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"run: amused-lite train .*nowhere --stage fetch$"):
        drawing("flat", "cat", 96)
    with pytest.raises(FileNotFoundError, match="--held-out"):
        drawing("twemoji", "cat", 96)

"""Squares, cells, windows and pasting: geometry against plain loops and against itself."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from amused_lite.editing.geometry import (
    MAX_TOKENS,
    Box,
    box_around,
    decode_windows,
    encode_windows,
    middle_box,
    paste_back,
    to_pixels,
    widen,
    window_starts,
)

GRID, CELL = 8, 4
SIZE = GRID * CELL


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_box_takes_what_lies_in_it_and_repeats_the_edges_beyond() -> None:
    image = noise(40, 30)
    pixels = np.asarray(image)
    np.testing.assert_array_equal(np.asarray(Box(3, 5, 20).take(image, 20)), pixels[5:25, 3:23])
    over = np.asarray(Box(-6, -4, 50).take(image, 50))
    rows, columns = (np.arange(50) - 4).clip(0, 29), (np.arange(50) - 6).clip(0, 39)
    np.testing.assert_array_equal(over, pixels[rows][:, columns])
    assert Box(0, 0, 30).take(image, 64).size == (64, 64)


@pytest.mark.parametrize("box", [Box(0, 0, 32), Box(3, 1, 20), Box(-5, -9, 60), Box(10, 4, 5), Box(0, 0, 37)])
def test_every_touched_cell_counts_and_no_other(box: Box) -> None:
    """Against the definition: a cell counts if a marked px overlaps it by any part."""
    rng = np.random.default_rng(1)
    for share in (0.002, 0.02, 0.3):
        area = rng.random((30, 40)) < share
        expected = np.zeros((GRID, GRID), bool)
        for y, x in np.argwhere(area):
            for row in range(GRID):
                for column in range(GRID):
                    tops = [box.top + k * box.side / GRID for k in (row, row + 1)]
                    lefts = [box.left + k * box.side / GRID for k in (column, column + 1)]
                    if (
                        y < tops[1] - 1e-9
                        and y + 1 > tops[0] + 1e-9
                        and x < lefts[1] - 1e-9
                        and x + 1 > lefts[0] + 1e-9
                    ):
                        expected[row, column] = True
        np.testing.assert_array_equal(box.cells(area, GRID), expected.ravel())


@pytest.mark.parametrize(
    ("size", "mark", "expected"),
    [
        ((32, 32), (5, 5, 9, 9), Box(0, 0, 32)),  # the model's own size: all of it
        ((32, 32), (0, 0, 32, 31), Box(0, 0, 32)),
        ((200, 100), (150, 50, 154, 54), Box(136, 36, 32)),  # a small mark in a large picture: no magnification
        ((200, 100), (196, 0, 200, 4), Box(168, 0, 32)),
        ((200, 100), (100, 30, 140, 70), Box(80, 10, 80)),  # a larger one: as much again beside it
        ((200, 100), (60, 40, 140, 60), Box(50, 0, 100)),  # as much as there is
        ((200, 100), (0, 40, 190, 60), Box(0, -45, 190)),  # wider than the picture is high
        ((20, 17), (1, 1, 3, 3), Box(0, 0, 17)),
    ],
)
def test_the_box_around_a_mark(size: tuple[int, int], mark: tuple[int, int, int, int], expected: Box) -> None:
    area = np.zeros(size[::-1], bool)
    area[mark[1] : mark[3], mark[0] : mark[2]] = True
    box = box_around(area, SIZE, CELL)
    assert box == expected
    assert box.left <= mark[0] and mark[2] <= box.left + box.side
    assert box.top <= mark[1] and mark[3] <= box.top + box.side


def test_the_middle_of_a_picture() -> None:
    assert middle_box((40, 30), whole=False) == Box(5, 0, 30)
    assert middle_box((40, 30), whole=True) == Box(0, -5, 40)


@pytest.mark.parametrize("length", [8, 9, 12, 13, 16, 40, 45])
def test_windows_cover_everything_and_overlap_by_half_or_more(length: int) -> None:
    starts = window_starts(length, GRID)
    assert starts[0] == 0 and starts[-1] == length - GRID
    assert all(0 < later - earlier <= GRID // 2 for earlier, later in pairwise(starts))


def flat(tokens: np.ndarray) -> np.ndarray:
    """A decoder with no memory of its neighbours: each cell in the grey of its token."""
    grey = (tokens.reshape(GRID, GRID) / np.float32(255)).astype(np.float32)
    return np.kron(grey, np.ones((CELL, CELL), np.float32))[None, None].repeat(3, 1)


def mean_token(pixels: np.ndarray) -> np.ndarray:
    """The inverse of `flat`."""
    return np.rint(pixels[0, 0].reshape(GRID, CELL, GRID, CELL).mean((1, 3)) * 255).astype(np.int32).reshape(1, -1)


@pytest.mark.parametrize("shape", [(8, 8), (8, 13), (20, 8), (19, 27)])
def test_a_canvas_survives_its_windows(shape: tuple[int, int]) -> None:
    tokens = np.random.default_rng(2).integers(0, 256, shape).astype(np.int32)
    image = decode_windows(flat, tokens, GRID, CELL)
    np.testing.assert_array_equal(np.asarray(image)[..., 1], np.kron(tokens, np.ones((CELL, CELL), np.int32)))
    np.testing.assert_array_equal(encode_windows(mean_token, image, GRID, CELL), tokens)


def test_windows_that_disagree_blend_without_a_step() -> None:
    """Each window decodes to a grey of its own, white frame and all; neighbouring px still differ little."""
    calls = iter(range(100))

    def moody(tokens: np.ndarray) -> np.ndarray:
        pixels = np.full((1, 3, SIZE, SIZE), 0.5 + 0.1 * (next(calls) % 2), np.float32)
        pixels[..., [0, -1], :] = pixels[..., [0, -1]] = 1
        return pixels

    pixels = np.asarray(decode_windows(moody, np.zeros((8, 24), np.int32), GRID, CELL), np.float32)[SIZE // 2, :, 0]
    steps = np.abs(np.diff(pixels[2:-2]))
    # 0.1 of grey over half a window of 16 px is 1.6 of 255 a px; the frame adds its weight of 1/32 of 0.5
    assert steps.max() < 6 and np.ptp(pixels[2:-2]) > 20


def test_pasting_leaves_every_other_px_as_it_was() -> None:
    before, after = noise(80, 1100, 3), noise(80, 1100, 4)
    area = np.zeros((1100, 80), bool)
    area[300:700, 20:60] = True
    for feather in (0, 1, 16):
        result = np.asarray(paste_back(before, after, area, feather))
        np.testing.assert_array_equal(result[~area], np.asarray(before)[~area])
        far = np.s_[300 + feather : 700 - feather, 20 + feather : 60 - feather]
        np.testing.assert_array_equal(result[far], np.asarray(after)[far])
    np.testing.assert_array_equal(np.asarray(paste_back(before, after, area, 0))[area], np.asarray(after)[area])


def test_pasting_takes_off_a_tint_at_the_border_and_keeps_it_far_inside() -> None:
    """The tokenizer made everything darker by 20: no step at the border, and no slope steeper than its way back."""
    ramp = np.tile(np.linspace(60, 200, 120)[:, None, None], (1, 120, 3))
    before, after = Image.fromarray(ramp.astype(np.uint8)), Image.fromarray((ramp - 20).astype(np.uint8))
    area = np.zeros((120, 120), bool)
    area[:, 60:] = True
    result = np.asarray(paste_back(before, after, area, 20), np.float32)[60, :, 0]
    np.testing.assert_array_equal(result[:60], np.asarray(before)[60, :60, 0])
    np.testing.assert_array_equal(result[80:], np.asarray(after)[60, 80:, 0])
    assert np.abs(np.diff(result)).max() <= 2  # without matching the step is 20
    assert (np.diff(result) <= 0).all()


def test_bands_do_not_show() -> None:
    """A picture higher than a band gives what its part gives."""
    before, after = noise(40, 1300, 5), noise(40, 1300, 6)
    area = np.random.default_rng(7).random((1300, 40)) < 0.5
    whole = np.asarray(paste_back(before, after, area, 5))
    part = slice(400, 700)  # over the border of two bands
    box = (0, 400, 40, 700)
    alone = np.asarray(paste_back(before.crop(box), after.crop(box), area[part], 5))
    np.testing.assert_array_equal(whole[410:690], alone[10:-10])


@pytest.mark.parametrize(
    ("size", "add", "scale", "grid", "known"),
    [
        ((32, 32), (0, 0, 32, 0), 1, (8, 16), (0, 0, 8, 8)),
        ((32, 32), (16, 4, 0, 0), 1, (9, 12), (1, 4, 8, 8)),
        ((32, 32), (5, 0, 0, 3), 1, (9, 10), (0, 2, 8, 8)),  # rounded up to whole cells
        ((34, 32), (0, 0, 2, 0), 1, (8, 9), (0, 0, 8, 8)),  # a cell that is partly the picture's becomes new
        ((34, 32), (0, 2, 0, 0), 1, (9, 9), (1, 0, 8, 9)),  # or is continued, where nothing is added
        ((64, 128), (0, 0, 64, 0), 0.5, (16, 16), (0, 0, 16, 8)),
        ((16, 20), (0, 0, 0, 16), 2, (18, 8), (0, 0, 10, 8)),
    ],
)
def test_a_wider_canvas(
    size: tuple[int, int],
    add: tuple[int, int, int, int],
    scale: float,
    grid: tuple[int, int],
    known: tuple[int, int, int, int],
) -> None:
    canvas = widen(size, add, scale, CELL)
    assert (canvas.grid, canvas.known) == (grid, known)
    assert canvas.size == (size[0] + add[0] + add[2], size[1] + add[1] + add[3])
    assert canvas.take(noise(*size)).size == (known[3] * CELL, known[2] * CELL)
    drawn = Image.new("RGB", (grid[1] * CELL, grid[0] * CELL))
    assert canvas.give(drawn).size == canvas.size
    left, top, right, bottom = canvas.frame
    assert 0 <= left < right <= drawn.width and 0 <= top < bottom <= drawn.height
    assert (right - left, bottom - top) == (canvas.size[0] * scale, canvas.size[1] * scale)


def test_the_picture_comes_back_from_its_canvas_where_it_lay() -> None:
    image = noise(32, 32, 8)
    canvas = widen((32, 32), (5, 0, 0, 3), 1, CELL)
    drawn = Image.new("RGB", (canvas.grid[1] * CELL, canvas.grid[0] * CELL))
    drawn.paste(canvas.take(image), (canvas.known[1] * CELL, canvas.known[0] * CELL))
    np.testing.assert_array_equal(np.asarray(canvas.give(drawn))[:32, 5:], np.asarray(image))


@pytest.mark.parametrize("add", [(0, 0, 0, 0), (-1, 0, 5, 0), (0, 0, 10_000_000, 0), (0, 0, MAX_TOKENS * CELL, 0)])
def test_impossible_canvases_are_refused(add: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"not all 0|add less"):
        widen((32, 32), add, 1, CELL)


def test_pixels_are_channels_first_in_0_to_1() -> None:
    image = noise(3, 2)
    pixels = to_pixels(image)
    assert pixels.shape == (1, 3, 2, 3) and pixels.dtype == np.float32
    assert pixels[0, 2, 1, 0] == np.float32(image.getpixel((0, 1))[2] / 255)  # type: ignore[index]

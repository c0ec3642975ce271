"""Any file a person may give: what is read right, what is refused in one clear line, and how much memory it takes."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from amused_lite.files.images import MAX_PIXELS, MAX_SIDE, open_mask, open_picture, to_area
from amused_lite.files.png import KEY

COLOURS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large and holds a kilobyte."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 1000)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "tga", "ppm", "jp2", "qoi"])
def test_lossless_formats_give_the_pixels_that_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    RGB.save(path, **({"lossless": True} if suffix == "webp" else {}))
    source = open_picture(path)
    np.testing.assert_array_equal(np.asarray(source.image), COLOURS)
    assert (source.recipe, source.alpha, source.notes) == (None, None, ())


@pytest.mark.parametrize("suffix", ["jpg", "avif", "gif"])
def test_lossy_formats_are_near(tmp_path: Path, suffix: str) -> None:
    smooth = RGB.resize((8, 6), Image.Resampling.BOX).resize((80, 60), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / f"a.{suffix}")
    found = np.asarray(open_picture(tmp_path / f"a.{suffix}").image, np.float32)
    assert np.abs(found - np.asarray(smooth)).mean() < 8  # of 255: 256 colours of a GIF are the coarsest


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected(tmp_path: Path, orientation: int) -> None:
    """Against turning the pixels by hand, from the tag's own definition."""
    turns = [
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.swapaxes(0, 1),
        lambda a: a.swapaxes(0, 1)[:, ::-1],
        lambda a: a[::-1, ::-1].swapaxes(0, 1),
        lambda a: a.swapaxes(0, 1)[::-1],
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    RGB.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png").image), turns[orientation - 1](COLOURS))


def test_see_through_parts_lie_on_white_and_are_remembered(tmp_path: Path) -> None:
    alpha = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1))
    seen = RGB.copy()
    seen.putalpha(Image.fromarray(alpha))
    seen.save(tmp_path / "a.png")
    source = open_picture(tmp_path / "a.png")
    share = alpha[..., None] / 255
    np.testing.assert_allclose(np.asarray(source.image), COLOURS * share + 255 * (1 - share), atol=1)
    assert source.alpha is not None and source.notes == ("its see-through parts were laid on white",)
    np.testing.assert_array_equal(np.asarray(source.alpha), alpha)

    palette = RGB.quantize(16)
    palette.save(tmp_path / "p.png", transparency=3)
    image = np.asarray(open_picture(tmp_path / "p.png").image)
    assert (image[np.asarray(palette) == 3] == 255).all()

    RGB.convert("RGBA").save(tmp_path / "opaque.png")
    assert open_picture(tmp_path / "opaque.png").notes == ()


def test_deep_and_printed_colours_become_8_bit_rgb(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 80 * 60).astype(np.uint16).reshape(60, 80)
    for name, values in {
        "16.png": deep,
        "16.tiff": deep,
        "32.tiff": deep.astype(np.int32),
        "float.tiff": (deep / 65535).astype(np.float32),
        "float255.tiff": (deep / 257).astype(np.float32),
    }.items():
        Image.fromarray(values).save(tmp_path / name)
        grey = np.asarray(open_picture(tmp_path / name).image, np.int32)
        assert grey.shape == (60, 80, 3), name
        np.testing.assert_allclose(grey[..., 0], deep / 257, atol=1)
    RGB.convert("CMYK").save(tmp_path / "print.tiff")
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "print.tiff").image, np.int32), COLOURS, atol=1)
    smooth = RGB.resize((4, 3), Image.Resampling.BOX).resize((80, 60), Image.Resampling.BICUBIC)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(smooth, *profiles, outputMode="LAB")
    assert lab is not None
    lab.save(tmp_path / "lab.tiff")
    found = np.asarray(open_picture(tmp_path / "lab.tiff").image, np.int32)
    np.testing.assert_allclose(found, np.asarray(smooth, np.int32), atol=4)  # of 8 bits a channel there and back
    assert open_mask(tmp_path / "lab.tiff").mode == "L"


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_animations_the_first_frame_is_used_and_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    source = open_picture(tmp_path / f"a.{suffix}")
    red, green, blue = np.asarray(source.image)[5, 5].tolist()
    assert red > 240 and green < 15 and blue < 15
    assert source.notes == ("it is animated; only the first frame is used",)


def test_a_recipe_that_cannot_be_read_is_no_reason_to_refuse_the_picture(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt(KEY, '{"schema": 99}')
    RGB.save(tmp_path / "a.png", pnginfo=texts)
    source = open_picture(tmp_path / "a.png")
    assert source.recipe is None
    said = "its recipe is not used: the recipe: schema is 99, this version reads 1; update amused-lite"
    assert source.notes == (said,)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.png").write_text("hello")
    (folder / "nothing.png").touch()
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (600, 15)).save(folder / "flat.png")
    Image.new("1", (20_000, 40)).save(folder / "wide.png")
    for name, size in {"huge.png": (20_000, 20_000), "bomb.png": (60_000, 60_000), "large.png": (9_000, 8_000)}.items():
        (folder / name).write_bytes(png_header(*size))
    for suffix in ("png", "jpg", "webp", "gif", "tiff"):
        RGB.save(folder / f"a.{suffix}")
        whole = (folder / f"a.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "stub.png").write_bytes((folder / "a.png").read_bytes()[:20])
    (folder / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("bomb", "x" * 3_000_000, zip=True)
    RGB.save(folder / "text-bomb.png", pnginfo=texts)
    return folder


BAD = [
    ("text.png", "is no picture that can be read"),
    ("nothing.png", "is no picture that can be read"),
    ("page.eps", "is no picture that can be read"),
    ("dot.png", "has 1x1 px, at least 16 a side are needed"),
    ("flat.png", "has 600x15 px, at least 16 a side are needed"),
    ("wide.png", "has 20000x40 px; at most 67 million px and 16384 a side are read, make it smaller first"),
    ("huge.png", "far too many px; at most 67 million"),
    ("bomb.png", "far too many px; at most 67 million"),
    ("large.png", "has 9000x8000 px; at most 67 million"),
    ("cut.png", "is damaged or cut short"),
    ("cut.jpg", "is damaged or cut short"),
    ("cut.webp", "cut.webp"),
    ("cut.gif", "is damaged or cut short"),
    ("cut.tiff", "cut.tiff"),
    ("stub.png", "is damaged or cut short"),
    ("text-bomb.png", "is damaged or cut short"),
    (".", "is a folder"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "message"), BAD, ids=[name for name, _ in BAD])
def test_bad_files_are_refused_in_one_clear_line(bad: Path, name: str, message: str) -> None:
    for read in (open_picture, open_mask):
        with pytest.raises(ValueError, match=message) as caught:
            read(bad / name)
        assert "\n" not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is not a plain file"):
        open_picture("/dev/zero")


MEMORY = """
import resource, sys
from amused_lite.files.images import open_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_picture(sys.argv[1])
except ValueError as error:
    print("refused", end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def megabytes(path: Path) -> str:
    result = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("name", ["huge.png", "bomb.png", "large.png", "wide.png", "text-bomb.png"])
def test_memory_is_bounded_because_the_header_is_asked_first(bad: Path, name: str) -> None:
    refused, used = megabytes(bad / name).split()
    assert refused == "refused" and int(used) < 30  # Pillow's plugins alone take about 10


def test_the_largest_picture_fits_into_a_gigabyte(tmp_path: Path) -> None:
    """Measured on an eighth of it, with everything that costs memory: transparency, grey and orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = MAX_PIXELS // 8
    Image.new("LA", (MAX_SIDE // 8, 8 * pixels // MAX_SIDE), (200, 100)).save(
        tmp_path / "a.png", compress_level=1, exif=exif
    )
    assert int(megabytes(tmp_path / "a.png")) * 8 < 1100


def test_masks_say_what_is_meant(tmp_path: Path) -> None:
    drawn = np.zeros((20, 40), np.uint8)
    drawn[5:15, 10:30] = 255
    mask = Image.fromarray(drawn)
    forms = {"grey.png": mask, "one.png": mask.convert("1"), "rgb.png": mask.convert("RGB")}
    strokes = Image.new("RGBA", mask.size, (255, 255, 255, 0))  # white strokes on a layer that is else see-through
    strokes.putalpha(mask)
    forms["strokes.png"] = strokes
    forms["deep.png"] = Image.fromarray(drawn.astype(np.uint16) * 257)
    for name, form in forms.items():
        form.save(tmp_path / name)
        np.testing.assert_array_equal(to_area(open_mask(tmp_path / name), mask.size), drawn > 0, err_msg=name)


def test_a_mask_of_another_size_is_stretched() -> None:
    small = Image.new("L", (4, 2))
    small.putpixel((1, 0), 255)
    expected = np.zeros((50, 100), bool)
    expected[:25, 25:50] = True
    np.testing.assert_array_equal(to_area(small, (100, 50)), expected)
    large = ImageOps.scale(small, 200, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(to_area(large, (100, 50)), expected)


@pytest.mark.parametrize(
    ("grey", "message"), [(0, "marks nothing"), (127, "marks nothing"), (255, "the whole picture")]
)
def test_masks_that_mark_nothing_or_everything_are_refused(grey: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_area(Image.new("L", (10, 10), grey), (64, 64))

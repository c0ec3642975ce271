"""Pictures of a style: found, captioned, cropped and encoded; and everything that can be wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amused_lite.analysis.ranking import OwnRanker
from amused_lite.config import VQGANConfig
from amused_lite.models.vqgan import VQGAN
from amused_lite.pipeline import AmusedPipeline
from amused_lite.style.data import (
    StylePicture,
    crop_number,
    encode_pictures,
    find_pictures,
    open_picture,
    proposed,
    readable,
    styled,
)
from amused_lite.training.data.captions import METADATA
from amused_lite.training.scenes import Thing, draw_things


def picture(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_captions_come_from_the_command_a_table_or_a_text_file(tmp_path: Path) -> None:
    paths = [picture(tmp_path / name) for name in ("b.png", "a.jpg")]
    (tmp_path / "notes.md").write_text("not a picture")
    assert [p.caption for p in find_pictures(paths, ["a boat", "a cup"])] == ["a boat", "a cup"]
    assert [p.caption for p in find_pictures(paths, ["a boat"])] == ["a boat"] * 2
    (tmp_path / "a.txt").write_text("  a \n cup ")
    (tmp_path / "b.png.txt").write_text("a boat")
    found = find_pictures([tmp_path])
    assert [(p.path.name, p.caption) for p in found] == [("a.jpg", "a cup"), ("b.png", "a boat")]
    lines = [{"file_name": "a.jpg", "text": "a red cup"}, {"file_name": "b.png", "text": "a red boat"}]
    (tmp_path / METADATA).write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert [p.caption for p in find_pictures([tmp_path])] == ["a red cup", "a red boat"]


def test_what_is_wrong_with_the_pictures_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no picture in"):
        find_pictures([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        find_pictures([tmp_path / "nowhere"])
    paths = [picture(tmp_path / f"{k:03d}.png", (2, 2)) for k in range(101)]
    with pytest.raises(ValueError, match=r"got 101 pictures, at most 100 are possible; .* choose the most typical"):
        find_pictures([tmp_path])
    with pytest.raises(ValueError, match="got 2 captions for 3 pictures; give one --caption for all"):
        find_pictures(paths[:3], ["a", "b"])
    (tmp_path / "000.txt").write_text("a boat")
    with pytest.raises(ValueError, match=r"no caption for 001.png, 002.png, 003.png and 1 more; .* or in 001.png.txt"):
        find_pictures(paths[:5])
    (tmp_path / METADATA).write_text('{"file_name": "000.png"')
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1 is not JSON .*; write lines like"):
        find_pictures(paths[:1])


def test_one_bad_picture_among_ten_is_named_and_nothing_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [StylePicture(picture(tmp_path / f"{k}.png", seed=k), "a cup") for k in range(10)]
    pictures[6].path.write_bytes(pictures[6].path.read_bytes()[:500])  # cut in the middle of its pixels
    with pytest.raises(
        ValueError, match=r"6.png cannot be used: it is damaged .* \(1 of 10 .*; --skip-unreadable goes on"
    ):
        readable(pictures, 64, skip=False)
    good = readable(pictures, 64, skip=True)
    assert [p.path.name for p in good] == [f"{k}.png" for k in range(10) if k != 6]
    assert "6.png cannot be used" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"6.png cannot be used: it is damaged"):
        readable([pictures[6]], 64, skip=True)  # none would be left


def test_pictures_that_are_too_small_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has 10x10 px, at least 16 a side are needed"):
        open_picture(picture(tmp_path / "a.png", (10, 10)), 512)
    (tmp_path / "b.png").write_text("hello")
    (tmp_path / "c.png").mkdir()
    for name in ("b.png", "c.png", "d.png"):
        with pytest.raises(ValueError, match=rf"{name} cannot be used"):
            open_picture(tmp_path / name, 512)
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(tmp_path / "e.png")
    with pytest.raises(ValueError, match=r"e.png cannot be used: it has (20000x20000|far too many) px"):
        open_picture(tmp_path / "e.png", 512)


def test_pictures_are_upright_and_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right for looking at
    image.save(tmp_path / "a.png", exif=exif)
    opened = open_picture(tmp_path / "a.png", 64)
    assert opened.mode == "RGB" and opened.size == (20, 40)
    assert opened.getpixel((19, 0)) == (0, 0, 255)
    assert opened.getpixel((5, 5)) == (255, 255, 255)


def test_crops_are_where_their_numbers_say() -> None:
    ramp = np.zeros((64, 128, 3), np.uint8)
    ramp[..., 0] = np.arange(128) * 2  # red says the column, green the row
    ramp[..., 1] = np.arange(64)[:, None] * 4
    image = Image.fromarray(ramp)
    for index in range(6):
        piece, (width, height, top, left, score) = crop_number(image, index, 32, seed=3)
        assert piece.size == (32, 32) and (width, height, score) == (128, 64, 6.0)
        red, green, _ = (int(value) for value in np.asarray(piece)[0, 0])
        # The crop's corner in the picture scaled to 32 rows: half as many columns and rows as in the picture itself.
        assert abs(red / 4 - left) < 1.5 and abs(green / 8 - top) < 1.5
        assert index or (left, top) == (16, 0)  # the first is the middle square
    assert np.array_equal(crop_number(image, 3, 32, 3)[0], crop_number(image, 3, 32, 3)[0])
    assert not np.array_equal(crop_number(image, 3, 32, 3)[0], crop_number(image, 4, 32, 3)[0])


def test_clip_chooses_among_proposals(tmp_path: Path) -> None:
    subjects = [("boat", "red"), ("star", "yellow"), ("house", "blue")]
    for kind, colour in subjects:
        Image.fromarray(draw_things("meadow", 0, "flat", (Thing(kind, colour, 256, 256, 176),), 256)).save(
            tmp_path / f"{kind}.png"
        )
    proposals = [f"a {colour} {kind} in a meadow" for kind, colour in subjects]
    found = find_pictures([tmp_path], proposals[:1])
    chosen = proposed(found, proposals, OwnRanker(AmusedPipeline.open("tiny", threads=1)), 512)
    assert {picture.path.stem: picture.caption for picture in chosen} == dict(
        zip([kind for kind, _ in subjects], proposals, strict=True)
    )


def test_tokens_are_made_once_and_again_when_something_changes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vqgan = VQGAN(VQGANConfig(channels=(4, 4), norm="none", latent_channels=3, codebook_size=16, layers_per_block=1))
    pictures = [StylePicture(picture(tmp_path / f"{k}.png", seed=k), f"cup {k}") for k in range(2)]
    with torch.no_grad():  # codes that an untrained encoder tells apart
        vqgan.codebook.copy_(vqgan.latents(torch.rand(1, 3, 8, 8)).flatten(0, 2)[:16])
    cache, seen = tmp_path / "cache" / "tokens.safetensors", []
    encode, vqgan.encode_image = vqgan.encode_image, lambda pixels: seen.append(1) or encode(pixels)

    def tokens(base: str = "a", crops: int = 3) -> torch.Tensor:
        data = encode_pictures(vqgan, pictures, crops, 16, 0, cache, base)
        assert data.captions == ("cup 0", "cup 1") and data.micro.shape == (2, crops, 5)
        assert data.tokens.dtype == torch.int64
        return data.tokens

    first = tokens()
    assert first.shape == (2, 3, 64) and len(seen) == 6
    assert torch.equal(tokens(), first) and len(seen) == 6
    tokens(base="b")
    assert len(seen) == 12
    tokens(crops=2)
    assert len(seen) == 16
    picture(pictures[1].path, seed=9)
    assert not torch.equal(tokens()[1], first[1]) and len(seen) == 22
    expected = encode(
        torch.from_numpy(np.array(crop_number(open_picture(pictures[0].path, 16), 0, 16, 0)[0])).permute(2, 0, 1)[None]
        / 255
    )
    assert torch.equal(tokens()[0, 0], expected[0])


@pytest.mark.parametrize(
    ("caption", "style", "expected"),
    [
        ("a boat", "melting golden 3d", "a boat in melting golden 3d style"),
        ("a boat", "cartoon style", "a boat in cartoon style"),
        ("a boat in melting golden 3d style", "melting golden 3d", "a boat in melting golden 3d style"),
    ],
)
def test_styles_are_said_after_the_caption(caption: str, style: str, expected: str) -> None:
    assert styled(caption, style) == expected

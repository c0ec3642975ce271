"""Videos: motion is what it says, only the uncovered is drawn, and files hold every frame."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amused_lite.analysis.video import Frame, Motion, describe, make_frames, warp, write_video
from amused_lite.cli import main
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.settings import GenerateOptions

PROMPT = "a red balloon in a meadow"
OPTIONS = GenerateOptions(seed=3, steps=3)
NOISE = Image.effect_noise((64, 64), 60).convert("RGB")


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


def made(amused: AmusedPipeline, motion: Motion, *prompts: str) -> list[Frame]:
    return list(make_frames(amused, prompts or (PROMPT,), "", OPTIONS, motion))


@pytest.fixture(scope="module")
def frames(amused: AmusedPipeline) -> list[Frame]:
    return made(amused, Motion(frames=3, right=24, down=-4))


def test_whole_pixels_are_shifted_as_they_are() -> None:
    moved = np.asarray(warp(NOISE, Motion(right=5, down=-3), 2))
    np.testing.assert_array_equal(moved[:-6, 10:], np.asarray(NOISE)[6:, :-10])
    assert (moved[:, :10] == 0).all() and (moved[-6:] == 0).all()


def test_zoom_grows_about_the_middle() -> None:
    dot = Image.new("L", (64, 64))
    dot.paste(255, (40, 32, 44, 36))  # 10 px right of the middle, 2 below
    ys, xs = np.nonzero(np.asarray(warp(dot, Motion(right=0, zoom=1.5), 1)) > 128)
    assert (xs.mean() + 0.5 - 32, ys.mean() + 0.5 - 32) == pytest.approx((15, 3), abs=0.5)  # half a px of rounding
    assert 30 <= len(xs) <= 42  # 16 px grow to 36


def test_the_first_frame_is_the_picture_of_the_prompt(amused: AmusedPipeline, frames: list[Frame]) -> None:
    picture = amused.generate(PROMPT, seed=3, steps=3)
    np.testing.assert_array_equal(frames[0].tokens, picture.recipe.tokens)
    assert [frame.key for frame in frames] == [True, False, False]
    assert [frame.index for frame in frames] == [0, 1, 2]


def test_only_what_motion_uncovers_is_drawn(amused: AmusedPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = np.arange(1024, dtype=np.int32)
    opened: list[np.ndarray] = []
    unmask = amused.runtime.unmask

    def spy(tokens: np.ndarray, *rest: Any) -> Any:
        opened.append(tokens[0])
        return unmask(tokens, *rest)

    monkeypatch.setattr(amused.runtime, "encode_image", lambda pixels: seen[None].copy())
    monkeypatch.setattr(amused.runtime, "unmask", spy)
    _, second, third = made(amused, Motion(frames=3, right=32, down=-16))
    uncovered = np.zeros((32, 32), bool)
    uncovered[:, :2] = uncovered[-1] = True
    for frame, start in ((second, opened[-6]), (third, opened[-3])):  # three steps each; what came before is kept
        np.testing.assert_array_equal(start == 1087, uncovered.ravel())
        np.testing.assert_array_equal(frame.tokens[~uncovered.ravel()], seen[~uncovered.ravel()])


def test_the_same_seed_is_the_same_video(amused: AmusedPipeline, frames: list[Frame]) -> None:
    again = made(amused, Motion(frames=3, right=24, down=-4))
    for ours, theirs in zip(frames, again, strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    other = list(make_frames(amused, (PROMPT,), "", replace(OPTIONS, seed=4), Motion(frames=1)))
    assert (other[0].tokens != frames[0].tokens).any()


def test_redrawing_keeps_what_the_schedule_keeps(amused: AmusedPipeline) -> None:
    still = Motion(frames=2, right=0, redraw_steps=1)
    first, second = made(amused, still)
    same = amused.runtime.encode_image(np.asarray(first.image, np.float32).transpose(2, 0, 1)[None] / 255)[0]
    # One step of three leaves cos(pi / 3) of the tokens masked when it begins: half, rounded down in float32.
    changed = int((second.tokens != same).sum())
    assert 0 < changed <= 512


def test_nothing_moves_and_nothing_is_drawn_without_motion(amused: AmusedPipeline) -> None:
    first, second = made(amused, Motion(frames=2, right=0))
    same = amused.runtime.encode_image(np.asarray(first.image, np.float32).transpose(2, 0, 1)[None] / 255)[0]
    np.testing.assert_array_equal(second.tokens, same)


def test_each_prompt_is_a_key_frame(amused: AmusedPipeline) -> None:
    scenes = made(amused, Motion(frames=2, refresh=0.7), PROMPT, "a red balloon at night")
    assert [frame.key for frame in scenes] == [True, False, True, False]
    sky = [np.asarray(frame.image)[:32].mean() for frame in scenes]
    assert sky[1] > 150 > sky[2]  # the night has come


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames must be 1 to 100"),
        ({"right": float("nan")}, "right must be -256 to 256"),
        ({"down": 1e9}, "down must be"),
        ({"zoom": 0.0}, "zoom must be 0.5 to 2"),
        ({"refresh": 0}, "refresh must be above 0"),
        ({"redraw_steps": 3}, "redraw_steps must be 0 or more and below steps, 3"),
        ({"refresh": 0.1}, "less than one step"),
    ],
)
def test_impossible_motion_is_refused(amused: AmusedPipeline, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_frames(amused, (PROMPT,), "", OPTIONS, Motion(**change))


def test_too_much_is_refused(amused: AmusedPipeline) -> None:
    for prompts in ((), (PROMPT,) * 101):
        with pytest.raises(ValueError, match="1 to 1000 frames"):
            make_frames(amused, prompts, "", OPTIONS, Motion())
    with pytest.raises(ValueError, match="empty"):
        make_frames(amused, (PROMPT, " "), "", OPTIONS, Motion())


def test_a_gif_holds_every_frame_and_what_made_it(frames: list[Frame], tmp_path: Path) -> None:
    images = [frame.image for frame in frames]
    comment = describe([PROMPT], "", OPTIONS, Motion())
    found = Image.open(write_video(images, tmp_path / "a.gif", 10, comment))
    assert found.n_frames == 3  # type: ignore[attr-defined]
    assert found.info["duration"] == 100
    assert json.loads(found.info["comment"])["amused_lite"]["prompts"] == [PROMPT]
    for index, image in enumerate(images):
        found.seek(index)
        error = np.asarray(found.convert("RGB"), np.float32) - np.asarray(image, np.float32)
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 28  # 256 colours for smooth pictures


def test_an_mp4_holds_every_frame(frames: list[Frame], tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    images = [frame.image for frame in frames]
    path = write_video(images, tmp_path / "a.mp4", 8, describe([PROMPT], "", OPTIONS, Motion()))
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["comment"])["amused_lite"]["prompts"] == [PROMPT]
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 8)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 3
    for found, image in zip(decoded, images, strict=True):
        error = found.astype(np.float32) - np.asarray(image, np.float32)
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 30  # quality 18 is above it on far busier pictures


def test_names_are_kept_and_others_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_text("precious")
    assert write_video([NOISE], tmp_path / "a.gif", 8).name == "a-2.gif"
    assert (tmp_path / "a.gif").read_text() == "precious"
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        write_video([NOISE], tmp_path / "a.avi", 8)
    for rate in (0, 1000, float("nan")):
        with pytest.raises(ValueError, match="rate must be 1 to 60"):
            write_video([NOISE], tmp_path / "b.gif", rate)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["video", PROMPT, "-s", "3", "--steps", "2", "--frames", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["seed"], report["frames"]) == (3, 2)
    assert Image.open(report["path"]).n_frames == 2  # type: ignore[attr-defined]
    for words, message in (
        ([""], "the prompt is empty"),
        ([PROMPT, "-o", "a.png"], "must end in .gif or .mp4"),
        ([PROMPT, "--rate", "0"], "rate must be"),
        ([PROMPT, "--frames", "1000"], "frames must be"),
    ):
        assert main(["video", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line

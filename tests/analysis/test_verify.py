"""A picture is proven by making it again; whatever was changed is seen, and no file can cause a traceback."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from amused_lite.analysis.verify import compare_pixels, verify
from amused_lite.cli import main
from amused_lite.editing.operations import vary
from amused_lite.files.png import Recipe, read_recipe
from amused_lite.files.tokens import save_tokens
from amused_lite.pipeline import AmusedPipeline, Picture

PROMPT = "a red balloon in a meadow"


@pytest.fixture(scope="module")
def runtimes() -> dict[str, AmusedPipeline]:
    return {name: AmusedPipeline.open("tiny", name, threads=1, keep_loaded=True) for name in ("onnx", "torch")}


@pytest.fixture(scope="module")
def picture(runtimes: dict[str, AmusedPipeline]) -> Picture:
    return runtimes["onnx"].generate(PROMPT, seed=3, steps=3)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3},
        {"steps": 4, "order": "halton", "top_k": 5, "top_p": 0.9, "guidance_schedule": "linear"},
        {"steps": 3, "refine": 1, "guidance_interval": (0.0, 0.5), "mask_schedule": "arccos", "image_index": 2},
    ],
    ids=str,
)
def test_a_picture_is_identical_when_made_again(
    runtimes: dict[str, AmusedPipeline], runtime: str, options: dict[str, Any], tmp_path: Path
) -> None:
    amused = runtimes[runtime]
    path = amused.generate(PROMPT, "blue", **options, seed=5).save(tmp_path / "a.png")
    verdict = verify(amused, read_recipe(path), Image.open(path))
    assert verdict.identical and not verdict.tampered
    assert (verdict.tokens, verdict.differing, verdict.pixels_equal) == (1024, 0, True)
    assert verdict.other_model == verdict.other_runtime == verdict.other_version == ""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_50_of_50_pictures_are_identical(runtimes: dict[str, AmusedPipeline], runtime: str) -> None:
    from amused_lite.training.scenes import heldout_prompts

    amused = runtimes[runtime]
    for seed, entry in enumerate(heldout_prompts(50)):
        picture = amused.generate(entry.prompt, seed=seed, steps=4)
        verdict = verify(amused, picture.recipe, picture.image)
        assert verdict.identical and verdict.psnr == float("inf"), seed


CHANGES: list[dict[str, Any]] = [
    {"seed": 4},
    {"picture": 1},
    {"prompt": "a red balloon in the snow"},
    {"negative_prompt": "green"},
    {"steps": 4},
    {"guidance_scale": 5.0},
    {"guidance_interval": (0.0, 0.5)},
    {"token_temperature": 1.0},
    {"mask_temperature": (9.0, 0.0)},
    {"order": "halton"},
    {"top_k": 1},
    {"micro_conditioning": (512, 512, 0, 0, 1)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_changed_recipe_is_seen(
    runtimes: dict[str, AmusedPipeline], picture: Picture, change: dict[str, Any]
) -> None:
    verdict = verify(runtimes["onnx"], replace(picture.recipe, **change), picture.image)
    assert verdict.tampered and not verdict.identical and verdict.differing > 0
    assert verdict.psnr is not None and verdict.psnr < 60


def test_a_changed_token_and_changed_pixels_are_seen(runtimes: dict[str, AmusedPipeline], picture: Picture) -> None:
    tokens = picture.recipe.tokens.copy()
    tokens[17] = (tokens[17] + 1) % 1024
    verdict = verify(runtimes["onnx"], replace(picture.recipe, tokens=tokens), picture.image)
    assert (verdict.tampered, verdict.differing, verdict.pixels_equal) == (True, 1, True)
    painted = picture.image.copy()
    painted.putpixel((3, 5), (255, 0, 255))
    verdict = verify(runtimes["onnx"], picture.recipe, painted)
    assert (verdict.tampered, verdict.differing, verdict.pixels_equal) == (True, 0, False)


def test_another_model_is_no_tampering_but_no_proof(runtimes: dict[str, AmusedPipeline], picture: Picture) -> None:
    other = replace(picture.recipe, model_hash="ab" * 32, seed=99)
    verdict = verify(runtimes["onnx"], other, picture.image)
    assert not verdict.identical and not verdict.tampered and verdict.other_model == "ab" * 32


def test_missing_adapters_are_no_tampering_but_no_proof(runtimes: dict[str, AmusedPipeline], picture: Picture) -> None:
    other = replace(picture.recipe, adapters=("blueprint:0.8 3fa9c1d2b4",), seed=99)
    verdict = verify(runtimes["onnx"], other, picture.image)
    assert not verdict.identical and not verdict.tampered and verdict.other_adapters == "blueprint:0.8 3fa9c1d2b4"


def test_another_runtime_is_named_and_draws_the_same(runtimes: dict[str, AmusedPipeline], picture: Picture) -> None:
    verdict = verify(runtimes["torch"], picture.recipe, picture.image)
    assert verdict.identical and verdict.other_runtime == "onnx"
    moved = replace(picture.recipe, seed=4)
    verdict = verify(runtimes["torch"], moved, picture.image)
    assert not verdict.identical and not verdict.tampered  # the runtime might be why


def test_an_edit_is_proven_by_its_tokens(runtimes: dict[str, AmusedPipeline], picture: Picture) -> None:
    amused = runtimes["onnx"]
    varied = amused.run(vary(amused, picture, "a red balloon at night", strength=0.6, seed=9, steps=4))
    verdict = verify(amused, varied.recipe, varied.image)
    assert verdict.identical and verdict.pixels_equal
    assert verify(amused, replace(varied.recipe, seed=10), varied.image).tampered


def test_psnr_is_its_definition() -> None:
    black, grey = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (5, 5, 5))
    psnr, equal = compare_pixels(black, grey)
    assert psnr == pytest.approx(10 * np.log10(255**2 / 25)) and not equal
    assert compare_pixels(black, Image.new("RGB", (4, 4), (1, 0, 1)))[1]  # a grey level is rounding
    assert compare_pixels(black, black) == (np.inf, True)
    assert compare_pixels(black, Image.new("RGB", (4, 5))) == (-np.inf, False)


HOSTILE: list[dict[str, Any]] = [
    {"steps": 10**9},
    {"steps": 10**30},
    {"steps": 2.5},
    {"steps": True},
    {"steps": "12"},
    {"seed": -1},
    {"seed": 2**64},
    {"picture": 2**40},
    {"refine": 10**6},
    {"guidance_scale": 1e300},
    {"guidance_scale": float("nan")},
    {"guidance_scale": 10**400},
    {"guidance_interval": [0.5]},
    {"guidance_interval": [1.0, 0.0]},
    {"guidance_interval": 3},
    {"mask_temperature": [1, 2, 3]},
    {"mask_temperature": ["a", "b"]},
    {"micro_conditioning": []},
    {"micro_conditioning": [1e8] * 5},
    {"micro_conditioning": [512] * 6},
    {"top_k": 0},
    {"top_k": 1.5},
    {"top_p": -1},
    {"order": "sideways"},
    {"order": ["halton"]},
    {"prompt": 7},
    {"prompt": ""},
    {"prompt": "x" * 10_000},
    {"codebook_size": 8192},
    {"codebook_size": 2**60},
    {"codebook_size": 0},
    {"codebook_size": "many"},
    {"tokens": "1024:AAAA"},
    {"tokens": "99999999999999999999:AAAA"},
    {"tokens": "x" * 100},
    {"edit": {"operation": "explode", "settings": {}, "tokens": "1:AAA="}},
    {"edit": {"operation": "vary"}},
    {"edit": 5},
    {"schema": 2},
    {"unknown": 1},
    {"model": 3},
    {"model": "nobody/nothing"},
    {"model": "../../etc"},
    {"runtime": None},
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: f"{next(iter(change))}")
def test_recipes_of_strangers_are_one_line(
    picture: Picture, tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**json.loads(picture.recipe.to_json()), **change}
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("amused_lite", json.dumps(values))
    picture.image.save(tmp_path / "a.png", pnginfo=texts)
    assert main(["verify", str(tmp_path / "a.png")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("amused-lite: error: ") and len(line) < 600


def test_the_command_says_what_it_found(
    picture: Picture, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture.save("a.png")
    Picture(picture.image, replace(picture.recipe, seed=4)).save("b.png")
    Picture(picture.image, replace(picture.recipe, model_hash="ab" * 32)).save("c.png")
    save_tokens(picture.recipe, "a.tokens")
    assert main(["verify", "a.png"]) == 0
    assert capsys.readouterr().out == "identical: all 1024 tokens are the same, and every pixel\n"
    assert main(["verify", "a.tokens"]) == 0
    assert capsys.readouterr().out == "identical: all 1024 tokens are the same\n"
    assert main(["verify", "a.png", "--runtime", "torch"]) == 0
    assert "other runtime: made on onnx, made again on torch" in capsys.readouterr().out
    assert main(["verify", "b.png"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("different: ") and "\ntampered: " in out
    assert "of 1024 tokens differ, pixels differ (PSNR " in out
    assert main(["verify", "c.png", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["identical"], found["tampered"], found["other_model"]) == (False, False, "ab" * 32)
    Image.new("RGB", (64, 64)).save("plain.png")
    assert main(["verify", "plain.png"]) == 2
    assert "holds no amused-lite recipe" in capsys.readouterr().err


def test_show_prints_the_recipe_and_nothing_that_steers_a_terminal(
    picture: Picture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    Picture(picture.image, replace(picture.recipe, prompt="naïve \x1b[31m 漢字 \u202e")).save(path)
    assert main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "naïve \\x1b[31m 漢字 \\u202e" in out and "seed      3\n" in out and "steps     3\n" in out
    assert main(["show", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii() and "\x1b" not in out
    found = Recipe.from_json(out)
    np.testing.assert_array_equal(found.tokens, picture.recipe.tokens)


def test_from_reproduces_and_flags_override(
    picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = AmusedPipeline.open("tiny").generate(
        PROMPT, "blue", image_index=1, seed=8, steps=2, order="halton", guidance_scale=2.0
    )
    odd.save("odd.png")
    words = ["generate", "--from", "odd.png", "-q"]
    assert main([*words, "-o", "again.png"]) == 0
    assert main([*words, "--steps", "1", "-n", "", "--picture", "0", "-o", "new.png"]) == 0
    again, new = read_recipe("again.png"), read_recipe("new.png")
    assert Path("again.png").read_bytes() == Path("odd.png").read_bytes()
    assert (new.steps, new.negative_prompt, new.picture) == (1, "", 0)
    assert (new.order, new.guidance_scale, new.seed, new.prompt) == ("halton", 2.0, 8, PROMPT)
    assert again.options == odd.recipe.options

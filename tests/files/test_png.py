"""PNG files that remember: round trips, no overwriting, no leftovers."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from amused_lite.files.png import Edit, Recipe, read_recipe, save_png

IMAGE = Image.effect_noise((64, 64), 40).convert("RGB")


def recipe(codebook_size: int = 1024, prompt: str = "a red balloon") -> Recipe:
    return Recipe(
        prompt=prompt,
        negative_prompt="blue",
        seed=2**64 - 1,
        picture=3,
        steps=12,
        guidance_scale=3.0,
        guidance_schedule="linear",
        guidance_interval=(0.1, 0.9),
        mask_temperature=(2.0, 0.0),
        mask_schedule="cosine",
        order="halton",
        token_temperature=1.0,
        top_k=3,
        top_p=None,
        refine=2,
        micro_conditioning=(64.0, 64.0, 0.0, 0.0, 6.0),
        width=64,
        height=64,
        model="tiny",
        model_hash="0123456789abcdef" * 4,
        runtime="onnx",
        codebook_size=codebook_size,
        tokens=np.random.default_rng(0).integers(0, codebook_size, 257, np.int32),
    )


@pytest.mark.parametrize("codebook_size", [2, 3, 1000, 1024, 8192])
@pytest.mark.parametrize("prompt", ["a red balloon", "naïve café", "🎈 漢字\nsecond line, with: commas"])
def test_everything_comes_back(tmp_path: Path, codebook_size: int, prompt: str) -> None:
    wanted = recipe(codebook_size, prompt)
    path = save_png(IMAGE, tmp_path / "a.png", wanted)
    found = read_recipe(path)
    for name in vars(wanted):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(IMAGE))


def test_an_edit_comes_back_with_the_tokens_it_started_from(tmp_path: Path) -> None:
    earlier = np.random.default_rng(1).integers(0, 1024, 257, np.int32)
    wanted = replace(recipe(), edit=Edit("vary", {"strength": 0.5}, earlier))
    found = read_recipe(save_png(IMAGE, tmp_path / "a.png", wanted)).edit
    assert found is not None and (found.operation, found.settings) == ("vary", {"strength": 0.5})
    np.testing.assert_array_equal(found.tokens, earlier)


def test_parameters_are_what_other_tools_read(tmp_path: Path) -> None:
    path = save_png(IMAGE, tmp_path / "a.png", replace(recipe(), model="org/name, with comma"))
    image = Image.open(path)
    assert isinstance(image, PngImagePlugin.PngImageFile)
    prompt, negative, settings = image.text["parameters"].splitlines()
    assert prompt == "a red balloon" and negative == "Negative prompt: blue"
    assert settings.startswith("Steps: 12, Sampler: amused, CFG scale: 3, Seed: 18446744073709551615, Size: 64x64, ")
    assert 'Model hash: 0123456789, Model: "org/name, with comma", Version: amused-lite' in settings


def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    path = save_png(IMAGE, tmp_path / "a.png", recipe(), metadata=False)
    assert b"balloon" not in path.read_bytes()
    with pytest.raises(ValueError, match="holds no amused-lite recipe"):
        read_recipe(path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"precious")
    names = [save_png(IMAGE, tmp_path / "a.png", recipe()).name for _ in range(3)]
    assert names == ["a-2.png", "a-3.png", "a-4.png"]
    assert (tmp_path / "a.png").read_bytes() == b"precious"


def test_writers_at_the_same_time_do_not_collide(tmp_path: Path) -> None:
    recipes = [replace(recipe(), seed=seed) for seed in range(16)]
    threads = [threading.Thread(target=save_png, args=(IMAGE, tmp_path / "a.png", item)) for item in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 16
    assert sorted(read_recipe(path).seed for path in files) == list(range(16))


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        save_png(IMAGE, tmp_path / "file" / "a.png", recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="not a PNG"):
        read_recipe(tmp_path / "text.png")
    whole = save_png(IMAGE, tmp_path / "a.png", recipe()).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((ValueError, OSError)):
        read_recipe(tmp_path / "half.png")


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"tokens": "257:AAAA"}, {"tokens": "x"}, {"tokens": 3}, {"unknown": 1}, {"steps": ...}]
)
def test_broken_recipes_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    values = {**json.loads(recipe().to_json()), **change}
    values = {key: value for key, value in values.items() if value is not ...}
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("amused_lite", json.dumps(values))
    IMAGE.save(tmp_path / "a.png", pnginfo=texts)
    with pytest.raises(ValueError, match="recipe"):
        read_recipe(tmp_path / "a.png")


def test_reused_guidance_of_earlier_versions_is_refused_and_its_absence_opens() -> None:
    """`guidance_every` was removed; recipes held it only where it was not 1."""
    values = json.loads(recipe().to_json())
    assert "guidance_every" not in values
    assert Recipe.from_json(json.dumps({**values, "guidance_every": 1})).steps == 12
    with pytest.raises(ValueError, match=r"guidance_every is 2, a way of guidance .* cannot be repeated"):
        Recipe.from_json(json.dumps({**values, "guidance_every": 2}))

"""Files that an earlier version wrote, in old/: they open for ever, and mean what they meant."""

import json
from pathlib import Path

import names
import numpy as np
import pytest
from command_line import run, run_json
from PIL import Image

OLD = Path(__file__).parent / "old"


@pytest.fixture(scope="module")
def said() -> dict:
    """What the earlier version said of its picture."""
    return json.loads((OLD / "recipe.json").read_text())


@pytest.mark.parametrize("name", ["star.png", "star.tokens"])
def test_its_recipe_is_read_whole(name: str, said: dict) -> None:
    now = json.loads(run("show", OLD / name, "--json"))
    assert {key: now.get(key) for key in said} == said
    assert "a yellow star" in run("show", OLD / name)


@pytest.mark.parametrize("name", ["star.png", "star.tokens"])
def test_the_picture_is_made_again(name: str) -> None:
    verdict = run_json("verify", OLD / name, "--threads", "1")
    assert verdict["tokens"] == 1024 and verdict["differing"] == 0 and not verdict["tampered"]


def test_its_tokens_become_its_picture(tmp_path: Path) -> None:
    run("tokens", OLD / "star.tokens", "--threads", "1", "-o", tmp_path / "star.png")
    with Image.open(OLD / "star.png") as before, Image.open(tmp_path / "star.png") as after:
        difference = np.abs(np.asarray(before, int) - np.asarray(after, int))
    assert difference.max() <= 1  # of 255: another processor adds up in an order of its own


def test_a_recipe_is_json_that_opens_and_is_written_again(said: dict) -> None:
    again = json.loads(names.Recipe.from_json(json.dumps(said)).to_json())
    assert {key: again.get(key) for key in said} == said
    assert not any(isinstance(value, dict) for value in again.values())  # flat


def test_its_settings_make_new_pictures(tmp_path: Path, said: dict) -> None:
    path = tmp_path / "new.png"
    made = run_json("generate", "--from", OLD / "star.png", "-s", "8", "--steps", "2", "--threads", "1", "-o", path)
    kept = ("prompt", "negative_prompt", "guidance_scale", "order", "top_k")
    assert {name: made[name] for name in kept} == {name: said[name] for name in kept} and made["seed"] == 8


def test_its_adapter_draws_other_tokens(tmp_path: Path) -> None:
    assert "in gold style" in run("style", "show", OLD / "gold.safetensors")
    drawn = []
    for words in ((), ("--adapter", f"{OLD / 'gold.safetensors'}:2")):
        path = tmp_path / f"{len(drawn)}.png"
        run("generate", "a star in gold style", "-s", "1", "--steps", "3", *words, "--threads", "1", "-o", path)
        drawn.append(json.loads(run("show", path, "--json")))
    assert drawn[0]["tokens"] != drawn[1]["tokens"]
    assert drawn[1]["adapters"][0].startswith("gold:2 ")

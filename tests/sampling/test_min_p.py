"""A setting that is declared in `sampling.settings` alone is everywhere: min-p, of which no other source file knows."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from amused_lite.console.flags import add_sampling_flags, add_seed_flags, options_from
from amused_lite.files.png import Recipe, read_recipe
from amused_lite.files.tokens import load_tokens, save_tokens
from amused_lite.pipeline import AmusedPipeline
from amused_lite.task import Task


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


def test_it_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_seed_flags(parser)
    add_sampling_flags(parser)
    assert options_from(parser.parse_args(["--min-p", "0.2"])).min_p == 0.2
    assert options_from(parser.parse_args([])).min_p is None
    assert "--min-p P" in parser.format_help()


def test_recipes_keep_it_and_verifying_uses_it(amused: AmusedPipeline, tmp_path: Path) -> None:
    picture = amused.generate("a red star", seed=3, steps=3, min_p=0.3)
    recipe = read_recipe(picture.save(tmp_path / "a.png"))
    assert recipe.min_p == 0.3
    np.testing.assert_array_equal(amused.run(Task.from_recipe(recipe)).recipe.tokens, picture.recipe.tokens)
    short = load_tokens(save_tokens(recipe, tmp_path / "a.tokens")).recipe
    assert short is not None and short.min_p == 0.3
    plain = amused.generate("a red star", seed=3, steps=3).recipe
    assert (plain.tokens != recipe.tokens).any()
    assert "min_p" not in json.loads(plain.to_json())  # so that earlier versions read it
    assert Recipe.from_json(plain.to_json()).min_p is None


def test_requests_take_it_and_say_what_it_does() -> None:
    schemas = pytest.importorskip("apps.server.schemas")
    from apps.engine.request import Request

    fields = schemas.PictureSchema(min_p=0.2).request_fields()
    assert Request(prompt="a star", options=fields["options"]).generate_options(1).min_p == 0.2
    assert "likeliest" in schemas.PictureSchema.model_json_schema()["properties"]["min_p"]["description"]
    with pytest.raises(ValueError, match="min_p must be above 0 and at most 1, got 2"):
        Request(prompt="a star", options={"min_p": 2.0})


def test_the_demo_has_a_slider_for_it() -> None:
    prompt = pytest.importorskip("apps.demo.tabs.prompt")
    slider = prompt.slider_for(prompt.SETTINGS["min_p"])
    assert (slider.label, slider.minimum, slider.maximum, slider.value) == ("Min-p", 0, 1, 0)

"""Best of N: the order is the scores', the chosen can be made again alone, and a finished draft keeps the draft."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.analysis.ranking import OwnRanker, as_draft, candidates, finished_draft, grid_picture
from amused_lite.bundle import TOKENIZER, open_bundle
from amused_lite.cli import main
from amused_lite.config import RANKER_SIDE
from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.runtimes.open import find_model
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task

PROMPT = "a red balloon in a meadow"


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


class Redness:
    """A ranker that likes red."""

    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        return [float(np.asarray(image)[..., 0].mean()) for image in images]


def test_candidates_come_in_the_order_of_their_scores(amused: AmusedPipeline) -> None:
    task = Task(PROMPT, options=GenerateOptions(seed=4, steps=1))
    ranked = candidates(amused, Redness(), [task.at(index) for index in range(2, 6)])
    assert {candidate.picture.recipe.picture for candidate in ranked} == {2, 3, 4, 5}
    scores = [candidate.score for candidate in ranked]
    assert scores == sorted(scores, reverse=True)
    assert scores == Redness().scores(PROMPT, [candidate.picture.image for candidate in ranked])
    best = ranked[0].picture.recipe
    alone = amused.generate(PROMPT, image_index=best.picture, seed=4, steps=1)
    np.testing.assert_array_equal(best.tokens, alone.recipe.tokens)


def test_a_finished_draft_keeps_what_was_sure_and_is_its_recipe(amused: AmusedPipeline) -> None:
    task = Task(PROMPT, options=GenerateOptions(seed=4, steps=5))
    sketch = as_draft(task, 2)
    assert (sketch.options.steps, sketch.options.refine, sketch.options.seed) == (2, 0, 4)
    draft = amused.run(sketch)
    finished = amused.run(finished_draft(task, 2))
    assert (finished.recipe.steps, finished.recipe.refine) == (2, 3)
    changed = int((finished.recipe.tokens != draft.recipe.tokens).sum())
    assert 0 < changed <= int(0.3 * 1024)  # the share that refining draws again
    again = amused.generate(PROMPT, seed=4, steps=2, refine=3)
    np.testing.assert_array_equal(again.recipe.tokens, finished.recipe.tokens)
    for wrong in (0, 5, 9):
        with pytest.raises(ValueError, match="draft_steps must be 1 or more and below steps, 5"):
            as_draft(task, wrong)


def test_a_grid_shows_every_candidate(amused: AmusedPipeline) -> None:
    task = Task(PROMPT, options=GenerateOptions(seed=4, steps=1))
    ranked = candidates(amused, Redness(), [task.at(index) for index in range(3)])
    grid = grid_picture(ranked, side=64, gap=8)
    assert grid.size == (2 * 72 + 8, 2 * 92 + 8)
    shown = np.asarray(grid.crop((8, 8, 72, 72)), np.float32)
    best = np.asarray(ranked[0].picture.image.resize((64, 64), Image.Resampling.LANCZOS), np.float32)
    np.testing.assert_array_equal(shown, best)


@pytest.fixture(scope="module")
def with_ranker() -> AmusedPipeline:
    """The bundled model's text tower and an image tower that knows nothing yet, on torch."""
    import torch

    from amused_lite.bundle import WEIGHTS
    from amused_lite.models.clip_image import CLIPImage
    from amused_lite.models.networks import SavedWeights, load_networks
    from amused_lite.runtimes.torch import TorchRuntime
    from amused_lite.tokenizer import Tokenizer

    bundle = open_bundle(find_model("tiny"))
    text = bundle.config.text
    networks = load_networks(SavedWeights(bundle.path(WEIGHTS), replace(bundle.config, ranker=False)))
    torch.manual_seed(0)
    networks.ranker = CLIPImage(text.projection_width).eval()
    networks.config = replace(bundle.config, ranker=True)
    ids = text.context_length, text.start_token_id, text.end_token_id
    tokenizer = Tokenizer.from_file(bundle.path(TOKENIZER), *ids)
    return AmusedPipeline(TorchRuntime.from_networks(networks), tokenizer, ModelInfo("tiny", "00" * 32))


def test_scores_are_cosines_of_the_two_towers(with_ranker: AmusedPipeline) -> None:
    images = [Image.effect_noise((512, 512), 60).convert("RGB"), Image.new("RGB", (300, 200), "red")]
    scores = OwnRanker(with_ranker).scores(PROMPT, images)
    text = with_ranker.runtime.embed_text(with_ranker.tokenizer.encode([PROMPT]))[0]
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-5)  # float32
    first = np.asarray(images[0]).reshape(RANKER_SIDE, 4, RANKER_SIDE, 4, 3).mean((1, 3)) / 255  # averaged down
    vector = with_ranker.runtime.embed_image(first.transpose(2, 0, 1)[None].astype(np.float32))[0]
    assert scores[0] == pytest.approx(float(vector @ text), abs=5e-3)  # Pillow rounds the averages to grey levels
    assert all(-1.001 <= score <= 1.001 for score in scores)


def test_wrong_arrays_and_models_without_a_ranker_are_refused(with_ranker: AmusedPipeline) -> None:
    runtime = with_ranker.runtime
    for pixels, message in (
        (np.zeros((1, 3, 64, 64), np.float32), "got shape"),
        (np.zeros((1, 3, RANKER_SIDE, RANKER_SIDE)), "got float64"),
        (np.full((1, 3, RANKER_SIDE, RANKER_SIDE), 2, np.float32), "expected 0"),
    ):
        with pytest.raises(ValueError, match=message):
            runtime.embed_image(pixels)
    with pytest.raises(ValueError, match="text_ids"):
        runtime.embed_text(np.zeros((1, 5), np.int32))
    bare = AmusedPipeline(
        type(runtime).from_networks(_without_ranker(runtime)), with_ranker.tokenizer, with_ranker.info
    )
    with pytest.raises(ValueError, match="has no ranker; name one with --ranker"):
        OwnRanker(bare)
    with pytest.raises(ValueError, match="no ranker"):
        bare.runtime.embed_text(np.zeros((1, 32), np.int32))


def _without_ranker(runtime):
    networks = runtime._weights.networks
    bare = type(networks)(replace(networks.config, ranker=False))
    bare.text, bare.uvit, bare.vqgan = networks.text, networks.uvit, networks.vqgan
    return bare


def test_the_report_holds_the_scores(
    amused: AmusedPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("amused_lite.commands.generate._ranker", lambda *_: Redness())
    words = ["generate", PROMPT, "-s", "4", "--steps", "1", "--best-of", "2", "--json"]
    assert main(words) == 0
    (made,) = json.loads(capsys.readouterr().out)["pictures"]
    assert made["scores"].keys() == {"0", "1"}
    best = max(made["scores"], key=made["scores"].get)
    assert made["picture"] == int(best) == read_recipe(made["path"]).picture

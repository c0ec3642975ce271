"""The ranker's training: what it locks, what it spoils, what its loss is, and that a run resumes."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from amused_lite.bundle import open_bundle
from amused_lite.config import RANKER_SIDE
from amused_lite.models.clip_image import CLIPImage
from amused_lite.runtimes.open import find_model
from amused_lite.training import presets, scenes
from amused_lite.training.build import Build
from amused_lite.training.loop.fit import TrainingRun
from amused_lite.training.ranker import RankerTrainConfig, locked_text_loss, ranker_batch, train_ranker, wear
from amused_lite.training.scenes.world import Scenes

RECIPE, WORLD = RankerTrainConfig(steps=4, batch=3), Scenes()


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return replace(presets.scenes(tmp_path_factory.mktemp("build")), source=open_bundle(find_model("tiny")))


def test_it_is_small() -> None:
    model = CLIPImage(192)
    assert sum(weight.numel() for weight in model.parameters()) < 1.2e6
    assert not list(model.buffers())  # exports name weights by parameter


def test_vectors_have_length_one_and_no_picture_depends_on_its_neighbours() -> None:
    model = CLIPImage(192).eval()
    pixels = torch.rand(3, 3, RANKER_SIDE, RANKER_SIDE)
    with torch.no_grad():
        together, alone = model(pixels), model(pixels[1:2])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)  # sums in another order


def test_the_loss_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    image, false = (F.normalize(torch.randn(3, 8, generator=generator), dim=-1) for _ in range(2))
    text = F.normalize(torch.randn(3, 2, 8, generator=generator), dim=-1)
    loss, figures = locked_text_loss(image, false, text, torch.tensor(2.0))
    scale, expected = np.exp(2.0), 0.0
    for k in range(3):
        captions = [scale * float(image[k] @ text[i, c]) for i in range(3) for c in range(2)]
        pictures = [scale * float(text[k, 0] @ other) for other in (*image, *false)]
        expected += (np.logaddexp.reduce(captions) - captions[2 * k] + np.logaddexp.reduce(pictures) - pictures[k]) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)  # float32
    assert figures["preferred"] == pytest.approx(
        np.mean([float(text[k, 0] @ image[k]) > float(text[k, 0] @ false[k]) for k in range(3)])
    )


def test_perfect_vectors_cost_nothing_and_score_everything() -> None:
    image, false = torch.eye(4)[:2], torch.eye(4)[2:]
    text = torch.stack([image, -image], 1)
    loss, figures = locked_text_loss(image, false, text, torch.tensor(5.0))
    assert loss.item() < 1e-6 and set(figures.values()) == {1.0}


def test_spoiled_pictures_differ_within_reach_of_the_things() -> None:
    faults = set()
    for index in range(40):
        scene = scenes.random_scene(7, index, "train")
        true, false = scenes.draw(scene, RANKER_SIDE), WORLD.spoiled(scene, random.Random(index))
        changed = (true != false).any(-1)
        faults.add(bool(changed.any()))
        assert false.shape == true.shape and changed.mean() < 0.6  # the backdrop is mostly as it was
        np.testing.assert_array_equal(false, WORLD.spoiled(scene, random.Random(index)))
    assert faults == {True}


def test_wear_is_mild_and_of_the_seed() -> None:
    pixels = torch.from_numpy(scenes.draw(scenes.random_scene(7, 1, "train"), RANKER_SIDE)).permute(2, 0, 1)[None] / 255
    pixels = pixels.repeat(16, 1, 1, 1)
    worn = wear(pixels, torch.Generator().manual_seed(3))
    assert torch.equal(worn, wear(pixels, torch.Generator().manual_seed(3)))
    assert worn.min() >= 0 and worn.max() <= 1
    assert 0.005 < (worn - pixels).abs().mean() < 0.08  # colours move by up to 0.08 and 0.03
    assert len({one.numpy().tobytes() for one in worn}) == 16  # every picture wears otherwise


def test_batches_are_of_the_step_and_captions_differ(bundled: Build) -> None:
    tokenizer = bundled.tokenizer()
    true, false, ids = ranker_batch(RECIPE, tokenizer, WORLD, 5)
    again = ranker_batch(RECIPE, tokenizer, WORLD, 5)
    assert all(torch.equal(a, b) for a, b in zip((true, false, ids), again, strict=True))
    assert true.shape == false.shape == (3, 3, RANKER_SIDE, RANKER_SIDE) and ids.shape[:2] == (3, 3)
    assert all(not torch.equal(own[0], wrong) for own in ids for wrong in own[1:])


def test_training_moves_the_image_tower_only_and_resumes(
    bundled: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, tokenizer = bundled.text_model(), bundled.tokenizer()
    before = {name: weight.clone() for name, weight in text.state_dict().items()}
    torch.manual_seed(RECIPE.seed)
    start = CLIPImage(text.config.projection_width).state_dict()
    straight = train_ranker(text, RECIPE, tokenizer, WORLD, tmp_path / "straight").state_dict()
    assert all(torch.equal(before[name], weight) for name, weight in text.state_dict().items())
    assert any(not torch.equal(start[name], weight) for name, weight in straight.items())

    with monkeypatch.context() as patch:
        steps = TrainingRun.steps
        patch.setattr(TrainingRun, "steps", lambda run, first, last: steps(run, first, min(first + 2, last)))
        patch.setattr(TrainingRun, "due", lambda run: True)
        for _ in range(2):
            resumed = train_ranker(text, RECIPE, tokenizer, WORLD, tmp_path / "resumed").state_dict()
    assert all(torch.equal(straight[name], weight) for name, weight in resumed.items())

"""`amused-lite train` on the storybook in miniature: every stage for real, from drawings made by code to a picture."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="the storybook needs the extra 'train'")
pytest.importorskip("skia", reason="the storybook needs the extra 'train'")

import small_build
from small_drawings import write_sets

from amused_lite import cli
from amused_lite.bundle import open_bundle
from amused_lite.config import RANKER_SIDE
from amused_lite.training import build as building
from amused_lite.training import presets
from amused_lite.training.storybook.drawings import render
from amused_lite.training.storybook.world import Storybook

STAGES = (
    "fetch tokenizer vqgan tokens-192 uvit-192 tokens-256 uvit-256 tokens-512 uvit-512 decoder ranker bundle".split()
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Drawings made by code, and a storybook whose every stage takes a second or a few."""
    small = presets.small
    monkeypatch.setattr(presets, "small", lambda build: small_build.little(small(build)))
    monkeypatch.setattr(building, "SHARD", small_build.SHARD)
    yield write_sets(tmp_path / "book")
    render.use_folder(render.FOLDER)


def train(folder: Path, *words: str) -> int:
    return cli.main(["train", str(folder), "--small", "--threads", "1", *words])


def test_from_drawings_to_a_bundle_that_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.storybook(folder).stages == (*STAGES[:-1],)
    assert train(folder, "--stage", "uvit-512") == 2
    assert "run the stage 'tokens-512' first" in capsys.readouterr().err
    for stage in STAGES[1:]:
        if stage == "uvit-256":
            assert train(folder, "--stage", stage, "--stop-after", "1") == 130
            assert "stopped early; the same command goes on from here" in capsys.readouterr().out
        assert train(folder, "--stage", stage) == 0, capsys.readouterr().err
    assert train(folder, *(word for stage in STAGES[1:-1] for word in ("--stage", stage))) == 0
    assert "training" not in capsys.readouterr().err  # nothing is left to do
    bundle = open_bundle(folder / "bundle")
    assert bundle.config.ranker and bundle.config.uvit.grid == 32
    picture = folder / "x.png"
    words = ["generate", "a cat", "-m", str(folder / "bundle"), "--steps", "1", "-o", str(picture), "--threads", "1"]
    assert cli.main(words) == 0 and picture.stat().st_size > 1000
    assert train(folder, "--stage", "clip") == 2
    assert "there is no stage 'clip' here; choose one of fetch, tokenizer, vqgan, tokens-192" in capsys.readouterr().err
    assert cli.main(["train", str(folder), "--world", "scenes", "--stage", "vqgan", "--threads", "1"]) == 2
    assert "does not fit this training" in capsys.readouterr().err
    assert cli.main(["train", str(folder), "--world", "scenes", "--stage", "decoder", "--threads", "1"]) == 2
    assert "does not fit this training" in capsys.readouterr().err
    (folder / "tokens-256" / "scenes.sha256").write_text("another version")
    assert train(folder, "--stage", "tokens-256") == 2
    assert "was encoded from other scenes than this version composes" in capsys.readouterr().err


def test_spoiled_pictures_differ_where_the_things_are(folder: Path) -> None:
    world = Storybook()
    world.use(folder)
    for index in range(30):
        scene = world.scene(7, index)
        true, false = world.thumbnail(scene, RANKER_SIDE), world.spoiled(scene, random.Random(index))
        assert true.shape == false.shape == (RANKER_SIDE, RANKER_SIDE, 3)
        changed = (true != false).any(-1).mean()
        assert 0 < changed < 0.6
        np.testing.assert_array_equal(false, world.spoiled(scene, random.Random(index)))

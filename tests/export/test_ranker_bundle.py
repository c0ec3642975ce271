"""A bundle with a ranker chooses among its pictures, and as torch does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.analysis.ranking import OwnRanker
from amused_lite.bundle import RANKER_MODULES, WEIGHTS, open_bundle
from amused_lite.cli import main
from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline

PROMPT = "a red star"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(small_bundle: Callable[..., Path]) -> Path:
    return small_bundle(ranker=True)


def test_onnx_runtime_ranks_as_torch_does(folder: Path) -> None:
    files = open_bundle(folder).manifest.files
    graphs = sum(files[f"{name}.onnx"].size for name in RANKER_MODULES)
    assert graphs < 0.1 * files[WEIGHTS].size  # no second copy of the weights
    images = [Image.effect_noise((64, 64), 60).convert("RGB"), Image.new("RGB", (300, 200), "red")]
    ours, reference = (
        OwnRanker(AmusedPipeline.open(folder, name)).scores(PROMPT, images) for name in ("onnx", "torch")
    )
    np.testing.assert_allclose(ours, reference, atol=1e-4)  # the same float16 weights, sums in another order


def test_the_command_keeps_the_best_or_shows_all(folder: Path, tmp_path: Path) -> None:
    words = ["generate", PROMPT, "-m", str(folder), "-s", "1", "--steps", "2", "--best-of", "3", "-q"]
    assert main([*words, "-o", str(tmp_path / "best.png")]) == 0
    assert main([*words, "-o", str(tmp_path / "all.png"), "--grid"]) == 0
    assert main([*words, "-o", str(tmp_path / "finished.png"), "--draft-steps", "1"]) == 0
    best, finished = read_recipe(tmp_path / "best.png"), read_recipe(tmp_path / "finished.png")
    assert best.picture in range(3) and (finished.steps, finished.refine) == (1, 1)
    assert Image.open(tmp_path / "all.png").width > 2 * 256

"""The model that ships: small, complete, one copy of its weights, and the same pictures on both runtimes."""

from collections.abc import Iterator

import numpy as np
import pytest

from amused_lite.bundle import WEIGHTS, open_bundle
from amused_lite.config import PRESETS
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import find_model
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.training.scenes import heldout_prompts

PROMPTS = [entry.prompt for entry in heldout_prompts(20)]
QUICK = 5  # of them are drawn always, all with -m slow


@pytest.fixture(scope="module")
def runtimes() -> Iterator[tuple[AmusedPipeline, AmusedPipeline]]:
    yield (
        AmusedPipeline.open("tiny", runtime="onnx", keep_loaded=True),
        AmusedPipeline.open("tiny", runtime="torch", keep_loaded=True),
    )


@pytest.mark.parametrize(
    ("seed", "prompt"),
    [pytest.param(k, prompt, marks=pytest.mark.slow if k >= QUICK else ()) for k, prompt in enumerate(PROMPTS)],
)
def test_onnx_runtime_and_torch_draw_equal_tokens(
    runtimes: tuple[AmusedPipeline, AmusedPipeline], seed: int, prompt: str
) -> None:
    onnx, torch = runtimes
    task = Task(prompt, options=GenerateOptions(seed=seed))
    for ours, reference in zip(onnx.steps(task), torch.steps(task), strict=True):
        assert np.array_equal(ours.tokens, reference.tokens), f"step {ours.index} of {ours.steps}"
        assert np.array_equal(ours.sampled_tokens, reference.sampled_tokens), f"step {ours.index} of {ours.steps}"
    pixels, expected = (amused.runtime.decode_image(ours.tokens) for amused in runtimes)
    assert np.abs(pixels - expected).max() <= 1e-3  # float32 sums in another order, through 20 layers, stay below 1e-5
    # A latent half-way between two codes may fall to either side; none does on these pictures.
    again, reference_again = (amused.runtime.encode_image(expected) for amused in runtimes)
    assert (again == reference_again).mean() > 0.999


def test_it_is_the_tiny_preset_and_below_40_megabytes() -> None:
    folder = find_model("tiny")
    bundle = open_bundle(folder)
    assert bundle.config == PRESETS["tiny"]
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(files.values()) < 40e6
    graphs = {name: size for name, size in files.items() if name.endswith(".onnx")}
    assert len(graphs) == 6  # four that draw, two that rank
    assert sum(graphs.values()) < 0.02 * files[WEIGHTS]  # no second copy hides in a graph


def test_prompts_change_what_they_should(runtimes: tuple[AmusedPipeline, AmusedPipeline]) -> None:
    onnx, _ = runtimes
    skies = {}
    for backdrop in ("at night", "in a meadow"):
        picture = onnx.generate(f"a red star {backdrop}", seed=1).image
        skies[backdrop] = np.asarray(picture)[:64].mean((0, 1))
    assert skies["at night"].mean() < 100 < 180 < skies["in a meadow"].mean()

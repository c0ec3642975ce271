"""Measuring styles: what a decoder's style paints from kept tokens is what it would have drawn."""

from pathlib import Path

import numpy as np
import pytest

from amused_lite.adapters.file import save_adapter
from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair, shapes_of
from amused_lite.config import PRESETS
from amused_lite.evaluation import styles
from amused_lite.evaluation.judge import Detection, Found
from amused_lite.pipeline import AmusedPipeline


def test_kept_tokens_are_painted_as_they_would_have_been_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(*(rng.normal(0, 0.1, size).astype(np.float32) for size in ((4, inside), (outside, 4))))
        for module, (outside, inside) in shapes_of(PRESETS["tiny"], ["decoder"]).items()
    }
    record = AdapterRecord("gold", 4, 4.0, ("decoder",), "tiny", "tiny", "")
    adapter = str(save_adapter(Adapter(record, pairs), tmp_path / "gold.safetensors"))
    prompts = styles.prompts_for(1)
    plain, styled = (AmusedPipeline.open("tiny", "onnx", threads=1, adapters=some) for some in ((), (adapter,)))
    (base,) = styles.draw(plain, prompts, "", tmp_path / "base")
    (painted,) = styles.repaint(styled, tmp_path / "styled", tmp_path / "base", 1)
    drawn = styled.generate(prompts[0].prompt, seed=0).image
    np.testing.assert_array_equal(np.asarray(painted), np.asarray(drawn))
    assert np.abs(np.asarray(painted, int) - np.asarray(base, int)).mean() > 5  # of 255
    (again,) = styles.repaint(plain, tmp_path / "styled", tmp_path / "base", 1)  # made once
    np.testing.assert_array_equal(np.asarray(again), np.asarray(painted))


@pytest.mark.parametrize(("colours", "right"), [(True, False), (False, True)])
def test_colours_count_where_the_look_leaves_them(colours: bool, right: bool) -> None:
    prompt = next(p for p in styles.prompts_for(40) if len(p.scene.subjects) == 1)
    ((kind, colour),) = prompt.scene.subjects
    other = "red" if colour != "red" else "blue"
    detection = Detection(prompt.scene.backdrop, (Found(kind, other, 256, 256, 0.9),))
    assert styles.things_right(prompt.scene, detection, colours) is right

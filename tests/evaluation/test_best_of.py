"""What a comparison of choices must show whatever the model draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amused_lite.evaluation import best_of
from amused_lite.evaluation.judge import Detection, Found
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.training.scenes import COLOURS, KINDS, heldout_prompts


def redness(image: Image.Image) -> float:
    return float(np.asarray(image)[..., 0].mean())


class LikesRed:
    """A judge that finds everything in the redder half of pictures, and nothing in the others."""

    everything = tuple(Found(kind, colour, 0, 0, 1) for kind in KINDS for colour in COLOURS)

    def detect(self, picture: Image.Image) -> Detection:
        return Detection("meadow", self.everything if redness(picture) > 140 else ())


def ranker(sign: int) -> Any:
    class Ranker:
        def __init__(self, amused: AmusedPipeline) -> None:
            pass

        def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
            return [sign * redness(image) for image in images]

    return Ranker


@pytest.mark.parametrize("sign", [1, -1])
def test_a_ranker_that_agrees_with_the_judge_finds_what_there_is(monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
    monkeypatch.setattr(best_of, "OwnRanker", ranker(sign))
    amused = AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)
    prompts = heldout_prompts(3)[1:]  # by day and by night
    found = best_of.compare(amused, LikesRed(), prompts, GenerateOptions(steps=2), 3, max(sign, 0))  # type: ignore[arg-type]
    assert len(found["all"]) == 6
    assert {len(rights) for way, rights in found.items() if way != "all"} == {2}
    right = {way: [one for one, _ in rights] for way, rights in found.items()}
    groups = [right["all"][start : start + 3] for start in range(0, 6, 3)]
    assert right["any"] == [any(group) for group in groups]
    assert right["first"] == [group[0] for group in groups]
    assert right["best of 3"] == [any(group) if sign == 1 else all(group) for group in groups]
    assert 0 < sum(right["all"]) < 6  # the case is no empty one
    assert not any(alone for _, alone in found["all"])  # there is always more than was asked for, or nothing

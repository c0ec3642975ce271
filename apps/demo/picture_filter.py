"""A filter that blurs and says why, for those who want one. It needs open_clip weights, which nobody is sent here.

Every picture is compared with things to be hidden and with ordinary ones, zero-shot as in CLIP (Radford et al. 2021). A
person can always look: a blur is a hint, not a wall, and no picture is thrown away or turned black.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

HIDDEN = {
    "nudity": "a photo of a naked person",
    "sexual content": "an explicit sexual picture",
    "violence": "a violent picture with blood and wounds",
    "weapons": "a photo of a person threatening with a weapon",
    "hateful symbols": "a hateful extremist symbol",
}
ORDINARY = (
    "a photo of a landscape",
    "a drawing of an everyday thing",
    "a picture of an animal",
    "a photo of a dressed person",
    "a picture of a house",
    "an abstract pattern",
)
THRESHOLD = 0.5
_SHARPNESS = 100.0  # CLIP's logit scale


@dataclass(frozen=True)
class FilterFlag:
    """Why a picture is blurred."""

    reason: str
    score: float  # 0...1, the share of the likeness that falls on the reason

    def __str__(self) -> str:
        return f"may show {self.reason} (score {self.score:.2f})"


class PictureFilter:
    """Any ranker that compares words with pictures, as `models.open_clip_ranker` does."""

    def __init__(self, ranker: Any, threshold: float = THRESHOLD) -> None:
        """
        Raises:
            ValueError: the threshold is no share.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"the filter's threshold must be above 0 and at most 1, got {threshold:g}")
        self._ranker, self._threshold = ranker, threshold

    @classmethod
    def open(cls, spec: str, threshold: float = THRESHOLD) -> "PictureFilter":
        """With local open_clip weights: `ViT-B-32:weights.safetensors`.

        Raises:
            ValueError, FileNotFoundError, MissingExtraError: see `OpenClipRanker`.
        """
        from amused_lite.system.extras import require_extra

        require_extra("train", "the filter", "torch", "open_clip")
        from amused_lite.models.open_clip_ranker import OpenClipRanker

        return cls(OpenClipRanker(spec), threshold)

    def judge(self, images: Sequence[Image.Image]) -> list[FilterFlag | None]:
        """For each picture why it should be blurred, or None."""
        if not images:
            return []
        texts = [*HIDDEN.values(), *ORDINARY]
        likeness = np.array([self._ranker.scores(text, images) for text in texts]).T * _SHARPNESS  # (P, T)
        shares = np.exp(likeness - likeness.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        verdicts: list[FilterFlag | None] = []
        for row in shares[:, : len(HIDDEN)]:
            worst = int(row.argmax())
            hidden = float(row.sum()) >= self._threshold
            verdicts.append(FilterFlag(list(HIDDEN)[worst], float(row.sum())) if hidden else None)
        return verdicts

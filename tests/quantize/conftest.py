"""Quantized bundles of the bundled model, made once. Nothing is timed, and one prompt is compared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from amused_lite.bundle import Bundle, open_bundle
from amused_lite.runtimes.open import find_model

Make = Callable[..., Bundle]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(target, bits, method, model) -> the bundle."""
    made: dict[tuple, Bundle] = {}

    def quantized(target: str, bits: int = 8, method: str = "", model: Path | None = None, **more: object) -> Bundle:
        from amused_lite.quantize.bundle import Extent, quantize_model
        from amused_lite.quantize.options import QuantizeOptions

        key = (target, bits, method, model, *sorted(more.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("quantized") / "bundle"
            options = QuantizeOptions(target, bits, method, prompts=1, **more)  # type: ignore[arg-type]
            quantize_model(model or find_model("tiny"), out, options, Extent(speed=False))
            made[key] = open_bundle(out)
        return made[key]

    return quantized

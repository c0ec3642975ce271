"""Core ML packages in 8, 6 and 4 bits, run by the interpreter of the saved program."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amused_lite.bundle import Bundle, open_bundle
from amused_lite.export.coreml.interpreter import InterpretedRuntime
from amused_lite.export.coreml.program import read_program

pytestmark = pytest.mark.slow
Make = Callable[..., Bundle]
FORMS = {
    (8, "linear"): "constexpr_blockwise_shift_scale",
    (8, "palette"): "constexpr_lut_to_dense",
    (6, "palette"): "constexpr_lut_to_dense",
    (4, "palette"): "constexpr_lut_to_dense",
}


@pytest.fixture(scope="module")
def floats(small_bundle: Callable[..., Path]) -> Path:
    return small_bundle(target="coreml")


@pytest.mark.parametrize(("bits", "method"), FORMS)
def test_packages_run_and_keep_both_functions(make: Make, floats: Path, bits: int, method: str) -> None:
    bundle = make("coreml", bits, method, floats, force=True)
    before, after = (InterpretedRuntime(open_bundle(folder)) for folder in (floats, bundle.folder))
    tokens = np.random.default_rng(0).integers(0, 128, (1, 256)).astype(np.int32)
    pictures = [runtime.decode_image(tokens) for runtime in (before, after)]
    assert np.square(pictures[0] - pictures[1]).mean() < {8: 1e-4, 6: 1e-3, 4: 1e-2}[bits]
    programs = read_program(bundle.folder / "unmask.mlpackage")
    assert set(programs) == {"guided", "unguided"}
    for function in programs.values():
        kinds = [operation.kind for operation in function.operations]
        assert kinds.count(FORMS[bits, method]) > 20
    sizes = [
        sum(record.size for name, record in open_bundle(folder).manifest.files.items() if name.startswith("unmask"))
        for folder in (bundle.folder, floats)
    ]
    assert sizes[0] < 0.9 * sizes[1]  # a model this small is mostly program

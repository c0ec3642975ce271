"""How far an exported module may be from torch: figures for the manifest, and the bound above which export fails."""

from collections.abc import Mapping

import numpy as np

# Largest error over the largest value. Float32 engines differ from each other in the order of their sums only.
FLOAT_BOUND = 1e-4
# Of 0...1, absolute: half a grey level. Torch itself is 6e-4 from float64 on a full-size random decoder at 512 pixels.
PIXEL_BOUND = 2e-3
# Share of tokens that may differ: where two candidates are as good as equal, rounding decides.
TOKEN_BOUND = 0.01


def compare(module: str, expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Figures of one module's outputs, as `module.output` -> error.

    Raises:
        ValueError: an error is above its bound, or shapes or dtypes differ.
    """
    figures = {}
    for name, wanted in expected.items():
        found = got[name]
        what = f"{module}.{name}"
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            forms = f"{found.dtype} {found.shape}, torch gives {wanted.dtype} {wanted.shape}"
            raise ValueError(f"the exported {what} is {forms}; this export cannot be used")
        if np.issubdtype(wanted.dtype, np.integer):
            figures[what], bound = float(np.mean(found != wanted)), TOKEN_BOUND
        elif module == "decode_image":
            figures[what], bound = float(np.abs(found - wanted).max()), PIXEL_BOUND
        else:
            largest = max(float(np.abs(wanted).max()), 1e-12)
            figures[what], bound = float(np.abs(found - wanted).max()) / largest, FLOAT_BOUND
        if not figures[what] <= bound:  # written so that NaN fails
            raise ValueError(f"the exported {what} is {figures[what]:.1e} away from torch, allowed are {bound:.0e}")
    return figures

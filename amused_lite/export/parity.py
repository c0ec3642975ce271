"""How far an exported module may be from torch: figures for the manifest, and the bounds above which export fails."""

from collections.abc import Iterator, Mapping

import numpy as np

from amused_lite.conditioning import Conditioning
from amused_lite.runtimes.base import Runtime, StepControls, StepNoise
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.settings import GenerateOptions

# Largest error over the largest value. Float32 engines differ from each other in the order of their sums only.
FLOAT_BOUND = 1e-4
# Of 0...1, absolute: half a grey level. Torch itself is 6e-4 from float64 on a full-size random decoder at 512 pixels.
PIXEL_BOUND = 2e-3
# Share of tokens that may differ: where two candidates are as good as equal, rounding decides.
TOKEN_BOUND = 0.01
# Arithmetic in float16 rounds every result by up to 5e-4; a hundred operations in a row and the guidance scale, which
# multiplies the difference of two such results, make more of it. See docs/export.md for what was measured.
HALF_FLOAT_BOUND = 5e-2
HALF_PIXEL_BOUND = 2e-2  # five grey levels
HALF_TOKEN_BOUND = 0.1
AGREEMENT_STEPS = 12


def compare(
    module: str, expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], half: bool = False
) -> dict[str, float]:
    """Figures of one module's outputs, as `module.output` -> error; `half` says that it computes in float16.

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
            figures[what], bound = float(np.mean(found != wanted)), HALF_TOKEN_BOUND if half else TOKEN_BOUND
        elif module == "decode_image":
            figures[what], bound = float(np.abs(found - wanted).max()), HALF_PIXEL_BOUND if half else PIXEL_BOUND
        else:
            largest = max(float(np.abs(wanted).max()), 1e-12)
            figures[what] = float(np.abs(found - wanted).max()) / largest
            bound = HALF_FLOAT_BOUND if half else FLOAT_BOUND
        if not figures[what] <= bound:  # written so that NaN fails
            raise ValueError(f"the exported {what} is {figures[what]:.1e} away from torch, allowed are {bound:.0e}")
    return figures


class Lockstep:
    """Two runtimes on the same tokens, noise and conditioning; the first one's tokens go on, the second is compared."""

    name = "lockstep"

    def __init__(self, leader: Runtime, follower: Runtime) -> None:
        self.config = leader.config
        self.same: list[np.ndarray] = []  # of each step: whether both drew the same, for every masked token
        self._leader, self._follower = leader, follower

    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        next_tokens, sampled_tokens = self._leader.unmask(tokens, conditioning, controls, noise)
        _, followed = self._follower.unmask(tokens, conditioning, controls, noise)
        self.same.append((sampled_tokens == followed)[tokens == self.config.uvit.mask_token_id])
        return next_tokens, sampled_tokens


def agreement(leader: Runtime, follower: Runtime, pair: Conditioning, half: bool = False) -> Iterator[float]:
    """Teacher-forced token agreement: for each step of a whole picture, the share of masked tokens drawn alike.

    Args:
        leader: torch, in float32.
        follower: what was exported.
        pair: conditioning of a negative and a prompt.
        half: the export rounds weights or arithmetic to float16.

    Raises:
        ValueError: over all steps, fewer tokens are alike than the bound allows.
    """
    both = Lockstep(leader, follower)
    for _ in unmask_tokens(both, pair, GenerateOptions(steps=AGREEMENT_STEPS)):  # type: ignore[arg-type]  # no more is called
        yield float(both.same[-1].mean())
    apart, bound = 1 - float(np.concatenate(both.same).mean()), HALF_TOKEN_BOUND if half else TOKEN_BOUND
    if not apart <= bound:
        raise ValueError(
            f"the exported unmask draws {apart:.1%} of a picture's tokens unlike torch, allowed are {bound:.0%}"
        )

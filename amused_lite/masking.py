"""How many tokens stay masked: the one schedule that training and generation share. Knows no tokens and no noise.

MaskGIT's cosine (Chang et al. 2022, section 3.3) in the integers of aMUSEd's published scheduler.
"""

import math
from typing import Any

import numpy as np


def mask_ratio(t: Any) -> Any:
    """Fraction of tokens that are masked at time `t`, 0 (all masked) to 1 (none): cos(t * pi / 2).

    Takes a number or an array and returns float32. The arithmetic is the published scheduler's, in float32: at the
    default 12 steps float64 gives 128 where the published one gives 127 (256 tokens, step 8).
    """
    return np.cos(np.asarray(t, np.float32) * np.float32(math.pi) / np.float32(2))


def mask_schedule(num_masked: int, steps: int, first_step: int = 0) -> list[int]:
    """Tokens still masked after each step; the last entry is 0.

    Args:
        num_masked: tokens that are masked at time 0: all N, or the size of the region to repaint.
        steps: length of the whole schedule. More steps than tokens are allowed; the surplus ones keep one masked.
        first_step: enter the schedule late (image to image); the entries of earlier steps are left out.

    Raises:
        ValueError: a count is below 1 or `first_step` is outside the schedule.
    """
    if num_masked < 1 or steps < 1:
        raise ValueError(f"a schedule needs at least 1 masked token and 1 step, got {num_masked} and {steps}")
    if not 0 <= first_step < steps:
        raise ValueError(f"first_step must be 0 to {steps - 1}, got {first_step}")
    counts: list[int] = []
    left = num_masked
    for step in range(1, steps):
        wanted = math.floor(np.float32(num_masked) * mask_ratio(step / steps))
        left = max(1, min(left - 1, wanted))
        counts.append(left)
    return [*counts, 0][first_step:]


def first_step_for(strength: float, steps: int) -> int:
    """Where image to image enters a schedule: 0 for strength 1 (everything is drawn anew), later for less.

    At least one step is left to run, so that no strength silently does nothing.

    Raises:
        ValueError: `strength` is not above 0 and up to 1.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    return steps - max(1, int(steps * strength))

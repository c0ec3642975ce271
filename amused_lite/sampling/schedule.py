"""How many tokens stay masked: the one schedule that training and generation share. Knows no tokens and no noise.

MaskGIT's cosine (Chang et al. 2022, section 3.3) in the integers of aMUSEd's published scheduler, and the other curves
that MaskGIT compared or that came after it.
"""

import math
from collections.abc import Callable
from typing import Any

# Fraction of tokens that are masked at time t, float32 in and out; `xp` is NumPy, which `--help` does without.
SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "cosine": lambda xp, t: xp.cos(t * xp.float32(math.pi) / xp.float32(2)),  # MaskGIT; what aMUSEd is trained with
    "linear": lambda xp, t: 1 - t,  # the published inpainting pipeline's
    "square": lambda xp, t: 1 - t**2,  # MaskGIT: concave, few tokens first, like the cosine
    "cubic": lambda xp, t: 1 - t**3,
    "sqrt": lambda xp, t: 1 - xp.sqrt(t),  # MaskGIT: convex, many tokens first
    # Halton scheduler (Besnier et al. 2025)
    "arccos": lambda xp, t: xp.arccos(t) * xp.float32(2) / xp.float32(math.pi),
}


def mask_ratio(t: Any, schedule: str = "cosine") -> Any:
    """Fraction of tokens that are masked at time `t`, 0 (all masked) to 1 (none): cos(t * pi / 2) for the cosine.

    Takes a number or an array and returns float32. The arithmetic is the published scheduler's, in float32: at the
    default 12 steps float64 gives 128 where the published one gives 127 (256 tokens, step 8).

    Raises:
        ValueError: there is no such schedule.
    """
    import numpy as np

    if schedule not in SCHEDULES:
        raise ValueError(f"mask_schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    return np.float32(1) * SCHEDULES[schedule](np, np.asarray(t, np.float32))


def mask_schedule(num_masked: int, steps: int, first_step: int = 0, schedule: str = "cosine") -> list[int]:
    """Tokens still masked after each step; the last entry is 0.

    Args:
        num_masked: tokens that are masked at time 0: all N, or the size of the region to repaint.
        steps: length of the whole schedule. More steps than tokens are allowed; the surplus ones keep one masked.
        first_step: enter the schedule late (image to image); the entries of earlier steps are left out.
        schedule: one of `SCHEDULES`.

    Raises:
        ValueError: a count is below 1, `first_step` is outside the schedule, or there is no such schedule.
    """
    import numpy as np

    if num_masked < 1 or steps < 1:
        raise ValueError(f"a schedule needs at least 1 masked token and 1 step, got {num_masked} and {steps}")
    if not 0 <= first_step < steps:
        raise ValueError(f"first_step must be 0 to {steps - 1}, got {first_step}")
    counts: list[int] = []
    left = num_masked
    for step in range(first_step + 1, steps):
        wanted = math.floor(np.float32(num_masked) * mask_ratio(step / steps, schedule))
        left = max(1, min(left - 1, wanted))
        counts.append(left)
    return [*counts, 0]


def start_masked(num_tokens: int, steps: int, first_step: int, schedule: str = "cosine") -> int:
    """Tokens that are masked when a schedule is entered at `first_step`: all of them at 0."""
    return num_tokens if first_step == 0 else mask_schedule(num_tokens, steps, first_step - 1, schedule)[0]


def first_step_for(strength: float, steps: int) -> int:
    """Where image to image enters a schedule: 0 for strength 1 (everything is drawn anew), later for less.

    Raises:
        ValueError: `strength` is not above 0 and up to 1, or so small that no step is left to run.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    run = int(steps * strength)
    if run < 1:
        least = f"{strength:g} of {steps} steps is less than one step"
        raise ValueError(f"strength {least}; give {1 / steps:.2g} or more, or more steps")
    return steps - run

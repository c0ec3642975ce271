"""The loop of unmask steps over any runtime: schedules, noise and what is left of a picture's masks. NumPy only.

Every operation on tokens is this loop from another start: all masked for a new picture, some masked for an edit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from amused_lite.conditioning import Conditioning
from amused_lite.config import ModelConfig
from amused_lite.runtimes.base import Runtime, StepControls, StepNoise
from amused_lite.sampling import distribution, noise
from amused_lite.sampling.first_step import FirstStep
from amused_lite.sampling.schedule import mask_schedule
from amused_lite.sampling.settings import GenerateOptions, Settings
from amused_lite.system.memory import low_memory

LIKELIHOOD_PASSES = 4  # `token_log_likelihood` hides every token once, in so many parts


class Step(NamedTuple):
    """The state after one unmask step."""

    index: int  # from 0
    steps: int
    tokens: np.ndarray  # (B, N) int32, with mask tokens until the last step
    sampled_tokens: np.ndarray  # (B, N) int32, every token as drawn; decodes to a preview
    log_probs: np.ndarray | None = None  # (B, N, K) float32, log-probabilities after guidance, with trace=True
    drawn: np.ndarray | None = None  # (B, N) bool, tokens that this step drew, with trace=True

    @property
    def picture_tokens(self) -> np.ndarray:
        """(N,): what the first row's picture is made of if it ends here; the sampled tokens before the last step."""
        return (self.tokens if self.index + 1 == self.steps else self.sampled_tokens)[0]


def unmask_tokens(
    runtime: Runtime,
    conditioning: Conditioning,
    options: GenerateOptions,
    image_index: int = 0,
    tokens: np.ndarray | None = None,
    first_step: int = 0,
    open_tokens: int | None = None,
    noise_step: int | None = None,
    trace: bool = False,
    first: FirstStep | None = None,
) -> Iterator[Step]:
    """Run all unmask steps, yielding after each (MaskGIT's parallel decoding; aMUSEd, section 3).

    The next step's noise is drawn on a thread while a step runs, for the tokens that are masked before it, or after it
    where memory is spared. Closing the iterator stops the work.

    Args:
        runtime: any engine.
        conditioning: 2B rows, negatives first.
        options: None in it stands for the model's default.
        image_index: number of the first row's picture within the seed; the rows after it count on.
        tokens: (B, N) int32 to start from, mask tokens where something is to be drawn; all masked when None. Tokens
            that are known at the start are the same at the end.
        first_step: enter the schedule late, for pictures that are partly known.
        open_tokens: how many tokens a late entry's schedule started with; those that are masked now when None.
        noise_step: number of the first step's noise; `first_step` when None.
        trace: have every step carry its log-probabilities and what it had to draw.
        first: remembers the prediction of a step in which one picture's tokens are all masked.

    Raises:
        ValueError: an array or a number does not fit the model.
    """
    config = runtime.config
    settings = options.complete(config)
    if tokens is None:
        rows = conditioning.block_text.shape[0] // 2
        tokens = np.full((rows, config.uvit.num_tokens), config.uvit.mask_token_id, np.int32)
    schedules = _schedules(tokens == config.uvit.mask_token_id, settings, first_step, open_tokens)
    steps = schedules.shape[1]
    controls = list(zip(settings.guidance_scales(), settings.mask_temperatures(), strict=True))[first_step:]
    noise_step = first_step if noise_step is None else noise_step
    count = len(tokens)

    def draw(index: int, needed: np.ndarray) -> StepNoise:
        return _draw_noise(config, settings, range(image_index, image_index + count), noise_step + index, needed)

    with ThreadPoolExecutor(1, "noise") as pool:
        drawing = pool.submit(draw, 0, tokens == config.uvit.mask_token_id)
        for index, (scale, mask_temperature) in enumerate(controls):
            step_noise = drawing.result()
            if index + 1 < steps and not low_memory():
                drawing = pool.submit(draw, index + 1, tokens == config.uvit.mask_token_id)
            if settings.order == "halton":
                mask_temperature = 1.0
            steering = StepControls(scale, settings.token_temperature, mask_temperature, schedules[:, index].copy())
            rows = conditioning if scale != 1 else _without_negatives(conditioning, count)
            remembered = first if count == 1 and (tokens == config.uvit.mask_token_id).all() else None
            if settings.token_distribution.is_untruncated and not trace and remembered is None:
                tokens, sampled_tokens = runtime.unmask(tokens, rows, steering, step_noise)
                _check_drawn(tokens, config, index + 1 == steps)
                yield Step(index, steps, tokens, sampled_tokens)
            else:
                drawn = tokens == config.uvit.mask_token_id
                log_probs = (remembered or runtime).predict(tokens, rows, scale)
                tokens, sampled_tokens = _draw_here(
                    config, tokens, log_probs, steering, step_noise, settings.token_distribution
                )
                _check_drawn(tokens, config, index + 1 == steps)
                yield Step(index, steps, tokens, sampled_tokens, *((log_probs, drawn) if trace else ()))
            if low_memory() and index + 1 < steps:  # one array of 33 MB at a time
                del step_noise, drawing
                drawing = pool.submit(draw, index + 1, tokens == config.uvit.mask_token_id)


def _check_drawn(tokens: np.ndarray, config: ModelConfig, last: bool) -> None:
    """Raise ValueError where the last step left tokens masked, as it does when the network gives no numbers."""
    if last and (tokens == config.uvit.mask_token_id).any():
        cause = "its weights, or an adapter's, hold nan or numbers that are too large"
        raise ValueError(f"the model's predictions are no numbers: {cause}; get the model or the adapter again")


def token_log_likelihood(
    runtime: Runtime, conditioning: Conditioning, tokens: np.ndarray, guidance_scale: float
) -> np.ndarray:
    """How likely the model finds each token given the others: log-probabilities (B, N), low where it would redraw.

    A visible token cannot be judged, since training never asks for one. So the tokens are hidden in `LIKELIHOOD_PASSES`
    parts, spread evenly by Halton's order, and each part is judged from the rest.
    """
    uvit = runtime.config.uvit
    order = distribution.halton_order((uvit.grid, uvit.grid))
    rows = conditioning if guidance_scale != 1 else _without_negatives(conditioning, len(tokens))
    log_likelihood = np.empty(tokens.shape, np.float32)
    for part in range(LIKELIHOOD_PASSES):
        asked = order[part::LIKELIHOOD_PASSES]
        hidden = tokens.copy()
        hidden[:, asked] = uvit.mask_token_id
        log_probs = runtime.predict(hidden, rows, guidance_scale)
        log_likelihood[:, asked] = distribution.log_prob_of(log_probs, tokens)[:, asked]
    return log_likelihood


def mask_least_likely(tokens: np.ndarray, log_likelihood: np.ndarray, count: int, mask_token_id: int) -> np.ndarray:
    """tokens and sure (B, N) -> the tokens with the `count` least sure masked, exactly so many in every row."""
    least = np.argsort(log_likelihood, -1, kind="stable")[:, :count]
    masked = tokens.copy()
    np.put_along_axis(masked, least, mask_token_id, -1)
    return masked


def _schedules(masked: np.ndarray, settings: Settings, first_step: int, open_tokens: int | None) -> np.ndarray:
    """Tokens still masked after each step (B, steps), for rows with different numbers of masked tokens."""
    return np.array([_schedule(int(count), settings, first_step, open_tokens) for count in masked.sum(-1)], np.int32)


def _schedule(left: int, settings: Settings, first_step: int, open_tokens: int | None) -> list[int]:
    """One row's, with `left` tokens masked at first. Each step but the last unmasks one or more, as published."""
    if left == 0:
        return [0] * (settings.steps - first_step)
    counts = []
    for wanted in mask_schedule(open_tokens or left, settings.steps, first_step, settings.mask_schedule)[:-1]:
        left = max(1, min(left - 1, wanted))
        counts.append(left)
    return [*counts, 0]


def _draw_here(
    config: ModelConfig,
    tokens: np.ndarray,
    log_probs: np.ndarray,
    controls: StepControls,
    noise: StepNoise,
    token_distribution: distribution.TokenDistribution,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw and remask in NumPy, from the log-probabilities of `Runtime.predict`."""
    mask_token_id = config.uvit.mask_token_id
    return distribution.unmask(
        tokens, log_probs, token_distribution, controls.mask_temperature, controls.num_masked, *noise, mask_token_id
    )


def _without_negatives(conditioning: Conditioning, count: int) -> Conditioning:
    return Conditioning(*(array[-count:] for array in conditioning))


def _draw_noise(config: ModelConfig, settings: Settings, pictures: range, step: int, needed: np.ndarray) -> StepNoise:
    uvit, seed = config.uvit, settings.seed
    n, k = uvit.num_tokens, uvit.codebook_size
    rows = [noise.token_noise(seed, number, step, n, k, row) for number, row in zip(pictures, needed, strict=True)]
    token_noise = rows[0][None] if len(rows) == 1 else np.stack(rows)  # stacking would copy 33 MB at 512 pixels
    if settings.order == "halton":
        order_noise = np.tile(distribution.halton_noise((uvit.grid, uvit.grid)), (len(pictures), 1))
    else:
        order_noise = np.stack([noise.order_noise(seed, number, step, n) for number in pictures])
    return StepNoise(token_noise, order_noise)

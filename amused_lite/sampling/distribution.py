"""Guidance, top-k, top-p, min-p, token temperature, and the order in which tokens are fixed, in NumPy.

Exported graphs draw from the untruncated distribution (models/unmask.py). Truncation runs here, on the
log-probabilities of `Runtime.predict`, and so gives the same tokens on every runtime. Without truncation `unmask`
equals the graphs' own step.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

KNOWN = 1e4  # confidence of tokens that are never masked again, as in models/unmask.py
_APART = 1e3  # times a rank: further apart than any two log-probabilities of drawn tokens, exact in float32


class TokenDistribution(NamedTuple):
    """Temperature and truncation of the distribution (K,) that each token is drawn from."""

    token_temperature: float = 1.0
    top_k: int | None = None  # draw among the k likeliest only (Fan et al. 2018; Muse edits with 3)
    top_p: float | None = None  # draw among the likeliest that together reach p (nucleus; Holtzman et al. 2020)
    min_p: float | None = None  # draw among those at least p times as likely as the likeliest (Nguyen et al. 2024)

    @property
    def is_untruncated(self) -> bool:
        """Whether exported graphs can draw by themselves: none of top-k, top-p and min-p is set."""
        return self.top_k is None and self.top_p is None and self.min_p is None


def guide(prompted: np.ndarray, pull: np.ndarray, guidance_scale: float) -> np.ndarray:
    """Log-probabilities (B, N, K) of the prompt, moved `guidance_scale - 1` times further along `pull`, normalized.

    `pull` is how the prompt's differ from the negative prompt's. A constant in either cancels out, so logits that are
    normalized guide as those that are not.
    """
    guided = prompted + np.float32(guidance_scale - 1) * pull
    guided -= guided.max(-1, keepdims=True)
    guided -= np.log(np.exp(guided).sum(-1, keepdims=True))
    return guided


def truncate(
    log_probs: np.ndarray, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> np.ndarray:
    """log_probs (..., K) with -inf where top-k, top-p or min-p leaves a code out; not normalized again.

    Codes as likely as the last one that is kept stay in too, so that the result does not depend on how ties are sorted.
    With both given, top-p counts what top-k left, as a share of it.
    """
    kept = log_probs
    codes = log_probs.shape[-1]
    if top_k is not None and top_k < codes:
        least = np.partition(kept, codes - top_k, -1)[..., codes - top_k, None]
        kept = np.where(kept >= least, kept, -np.inf)
    if top_p is not None and top_p < 1:
        falling = -np.sort(-kept, -1)
        reached = np.cumsum(np.exp(falling - falling[..., :1], dtype=np.float64), -1)
        count = (reached < top_p * reached[..., -1:]).sum(-1, keepdims=True)  # codes before the one that reaches p
        least = np.take_along_axis(falling, np.minimum(count, codes - 1), -1)
        kept = np.where(kept >= least, kept, -np.inf)
    if min_p is not None:
        kept = np.where(log_probs >= log_probs.max(-1, keepdims=True) + np.float32(np.log(min_p)), kept, -np.inf)
    return kept


def draw_tokens(log_probs: np.ndarray, token_distribution: TokenDistribution, token_noise: np.ndarray) -> np.ndarray:
    """log_probs and token_noise (B, N, K), the noise standard Gumbel -> drawn codes (B, N) int32."""
    temperature, top_k, top_p, min_p = token_distribution
    truncated = truncate(log_probs, top_k, top_p, min_p)
    return (truncated / np.float32(temperature) + token_noise).argmax(-1).astype(np.int32)


def log_prob_of(log_probs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """log_probs (B, N, K), tokens (B, N) -> each token's own log-probability (B, N)."""
    return np.take_along_axis(log_probs, tokens[..., None].astype(np.int64), -1)[..., 0]


def remask(
    confidence: np.ndarray, sampled_tokens: np.ndarray, num_masked: np.ndarray, mask_token_id: int
) -> np.ndarray:
    """confidence, sampled_tokens (B, N), num_masked (B,) -> the tokens with the `num_masked` least confident masked.

    Equal confidences at the edge stay unmasked together, as in the published cut-off rule.
    """
    ordered = np.sort(confidence, -1)
    edge = np.take_along_axis(
        ordered, np.minimum(num_masked, sampled_tokens.shape[1] - 1)[:, None].astype(np.int64), -1
    )
    return np.where(confidence < edge, np.int32(mask_token_id), sampled_tokens)


def unmask(
    tokens: np.ndarray,
    log_probs: np.ndarray,
    token_distribution: TokenDistribution,
    mask_temperature: float,
    num_masked: np.ndarray,
    token_noise: np.ndarray,
    order_noise: np.ndarray,
    mask_token_id: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One step from a prediction: tokens (B, N), log_probs (B, N, K) -> (tokens, sampled_tokens), int32 (B, N).

    The same computation as `models.unmask.UnmaskTail`, with top-k, top-p and min-p.
    """
    drawn = draw_tokens(log_probs, token_distribution, token_noise)
    unknown = tokens == mask_token_id
    confidence = log_prob_of(log_probs, drawn) + np.float32(mask_temperature) * order_noise
    confidence = np.where(unknown, confidence, np.float32(KNOWN))
    sampled_tokens = np.where(unknown, drawn, tokens)
    return remask(confidence, sampled_tokens, num_masked, mask_token_id), sampled_tokens


def halton(index: int, base: int) -> float:
    """Element `index` (from 1) of the van der Corput sequence in `base`, in 0...1 (Halton 1960)."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += digit * share
    return value


@cache
def halton_order(grid: tuple[int, int]) -> np.ndarray:
    """All N = h * w positions (row-major) in the order of the Halton scheduler (Besnier et al. 2025).

    The points (base 2 across, base 3 down) fall on cells of the grid; a cell counts when it is first hit. Neighbours
    then come far apart in time, whatever the picture.
    """
    height, width = grid
    order: dict[int, None] = {}
    index = 1
    while len(order) < height * width:
        order.setdefault(int(halton(index, 3) * height) * width + int(halton(index, 2) * width))
        index += 1
    return _fixed(np.array(list(order), np.int64))


@cache
def halton_noise(grid: tuple[int, int]) -> np.ndarray:
    """(N,) float32 in the place of order noise, at mask temperature 1: fixes tokens in Halton order on any runtime.

    The first position gets the highest value and each next one lies further below than any confidence reaches.
    """
    order = halton_order(grid)
    noise = np.empty(len(order), np.float32)
    noise[order] = -_APART * np.arange(1, len(order) + 1, dtype=np.float32)
    return _fixed(noise)


def _fixed(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False  # remembered, so that one caller's change would be everyone's
    return array

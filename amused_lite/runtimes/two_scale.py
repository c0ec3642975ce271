"""StyleDrop's guidance with two scales, one for the style and one for the words, over any two runtimes. NumPy only."""

import math

import numpy as np

from amused_lite.conditioning import Conditioning
from amused_lite.config import ModelConfig
from amused_lite.runtimes.base import Runtime, StepControls, StepNoise, check_prediction, check_step
from amused_lite.sampling import distribution

LARGEST_SCALE = 20.0


def check_style_scale(value: float) -> None:
    """Raise ValueError when two-scale guidance cannot be done with this number."""
    if not (math.isfinite(value) and 0 <= value <= LARGEST_SCALE):
        raise ValueError(f"style scale must be 0 to {LARGEST_SCALE:g}, got {value:g}")


class TwoScale:
    """`Runtime` of a model with a style beside the same model without (Sohn et al. 2023, section 3.3).

    With s the logits of the styled model for the prompt, c those of the base, and n those of the base for the negative
    prompt, tokens are drawn from s + A (s - c) + B (c - n). A is `style_scale`, how much further than the adapter alone
    to go away from the base; B is the guidance scale - 1, so that an adapter of weight 0 gives ordinary guidance. The
    base alone hears the negative prompt. A guided step runs three rows instead of two, an unguided one two instead of
    one; the styled model decodes pictures, and the base, which adapters leave as it is there, encodes and ranks them.
    """

    def __init__(self, base: Runtime, styled: Runtime, style_scale: float) -> None:
        """Both of one model.

        Raises:
            ValueError: the scale is out of range.
        """
        check_style_scale(style_scale)
        self.config: ModelConfig = base.config
        self.name, self.device = base.name, base.device
        self.first_step = "whole" if base.first_step and styled.first_step else ""
        self._base, self._styled, self._scale = base, styled, style_scale

    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        """Both models' conditioning, laid one behind the other along the layers."""
        both = [runtime.encode_prompt(text_ids, micro_conditioning) for runtime in (self._base, self._styled)]
        return Conditioning(*(np.concatenate(arrays, axis=1) for arrays in zip(*both, strict=True)))

    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        check_step(self.config, tokens, _half(conditioning, 0), controls, noise)
        log_probs = self.predict(tokens, conditioning, controls.guidance_scale)
        token_distribution = distribution.TokenDistribution(controls.token_temperature)
        mask_token_id = self.config.uvit.mask_token_id
        return distribution.unmask(
            tokens, log_probs, token_distribution, controls.mask_temperature, controls.num_masked, *noise, mask_token_id
        )

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """See `Runtime`. Constants of a position cancel, so logarithms of probabilities do for logits."""
        base, styled = _half(conditioning, 0), _half(conditioning, 1)
        check_prediction(self.config, tokens, base, guidance_scale)
        count = len(tokens)
        plain = self._base.predict(tokens, _rows(base, slice(-count, None)), 1.0)
        looks = self._styled.predict(tokens, _rows(styled, slice(-count, None)), 1.0)
        total = looks + np.float32(self._scale) * (looks - plain)
        if guidance_scale != 1 and len(base.block_text) != count:
            negative = self._base.predict(tokens, _rows(base, slice(count)), 1.0)
            total += np.float32(guidance_scale - 1) * (plain - negative)
        total -= total.max(-1, keepdims=True)
        return total - np.log(np.exp(total).sum(-1, keepdims=True))

    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return self._styled.decode_image(tokens)

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return self._base.encode_image(pixels)

    def embed_text(self, text_ids: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return self._base.embed_text(text_ids)

    def embed_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        return self._base.embed_image(pixels)

    def release(self, module: str) -> None:
        """See `Runtime`."""
        for runtime in (self._base, self._styled):
            runtime.release(module)


def _half(conditioning: Conditioning, index: int) -> Conditioning:
    """The base's (0) or the styled model's (1) conditioning."""
    return Conditioning(*(np.split(array, 2, axis=1)[index] for array in conditioning))


def _rows(conditioning: Conditioning, rows: slice) -> Conditioning:
    return Conditioning(*(np.ascontiguousarray(array[rows]) for array in conditioning))

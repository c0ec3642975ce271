"""The `Runtime` protocol that every engine implements, and the checks of its inputs. Knows no engine and no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from amused_lite.adapters.lora import WeightedAdapter, adapter_label
from amused_lite.conditioning import Conditioning
from amused_lite.config import RANKER_SIDE, ModelConfig
from amused_lite.vocabulary import Vocabulary


class StepControls(NamedTuple):
    """Numbers of one unmask step."""

    guidance_scale: float
    token_temperature: float
    mask_temperature: float
    num_masked: np.ndarray  # (B,) int32: tokens that stay masked after this step


class StepNoise(NamedTuple):
    """Standard Gumbel noise of one unmask step, float32."""

    token_noise: np.ndarray  # (B, N, K)
    order_noise: np.ndarray  # (B, N)


@dataclass(frozen=True)
class ModelInfo:
    """What a picture's record says about the model that made it."""

    name: str
    model_hash: str  # hex sha256 of the weights
    licence: str = ""
    adapters: tuple[WeightedAdapter, ...] = ()
    remarks: tuple[str, ...] = ()  # what a user should know about the adapters
    vocabulary: Vocabulary | None = None  # of a model that knows few words
    style_scale: float | None = None  # of two-scale guidance, see `runtimes.two_scale`

    @property
    def adapter_labels(self) -> tuple[str, ...]:
        """As a picture's recipe names what was added to the model."""
        scale = () if self.style_scale is None else (f"style scale {self.style_scale:g}",)
        return (*(adapter_label(choice) for choice in self.adapters), *scale)


class Runtime(Protocol):
    """One model on one engine. Tokens and text ids are int32, everything else float32, batch first.

    Every method checks its arrays and raises ValueError with what it got, what it expected and what to do.
    """

    config: ModelConfig
    name: str
    # What may be remembered of `predict` where all tokens are masked: "halves", prompt and negative prompt apart,
    # "whole", guided pairs only, or "", where weights may change or the engine gives no log-probabilities.
    first_step: str
    device: str  # what it computes on, by the engine's name

    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        """text_ids (B, T), micro_conditioning (B, 5) -> everything the steps need of a prompt."""
        ...

    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """tokens (B, N), conditioning of 2B rows (negatives, then prompts) -> (tokens, sampled_tokens), both (B, N).

        With B rows of conditioning (prompts only) the step is unguided and costs half. Known tokens are kept.
        sampled_tokens is every token as drawn, before the least confident are masked again.
        """
        ...

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """tokens (B, N), conditioning of 2B or B rows -> log-probabilities of every token (B, N, K) after guidance.

        What `unmask` draws from; for top-k, top-p and other draws in NumPy (`sampling`), and for traces.
        """
        ...

    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (B, N) without masks -> pixels (B, 3, H, W) in 0...1."""
        ...

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (B, 3, H, W) in 0...1 -> tokens (B, N)."""
        ...

    def embed_text(self, text_ids: np.ndarray) -> np.ndarray:
        """text_ids (B, T) -> vectors of length 1 (B, P). Like `embed_image` for models with a ranker only."""
        ...

    def embed_image(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (B, 3, S, S) in 0...1, S = config.RANKER_SIDE -> vectors of length 1 (B, P)."""
        ...

    def release(self, module: str) -> None:
        """Free what one module (`encode_prompt`, `unmask`, ...) holds in memory; its next call loads it again."""
        ...


def check_array(what: str, array: np.ndarray, dtype: str, shape: Sequence[int | None]) -> None:
    """Raise ValueError unless `array` has this dtype and shape; None in the shape stands for any length above 0."""
    fits = array.ndim == len(shape) and all(
        length >= 1 and wanted in (None, length) for length, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if axis is None else str(axis) for axis in shape)
        raise ValueError(f"{what}: got shape {array.shape}, expected ({wanted}); give the arrays this model expects")
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"{what}: got {array.dtype}, expected {dtype}; convert with .astype({dtype!r})")


def _check_range(what: str, array: np.ndarray, low: float, high: float) -> None:
    smallest, largest = array.min(), array.max()
    if not (smallest >= low and largest <= high):  # written so that NaN fails
        values = f"got {smallest} to {largest}, expected {low} to {high}"
        raise ValueError(f"{what}: {values}; check where it came from")


def check_prompt(config: ModelConfig, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> None:
    """Check the inputs of `encode_prompt`.

    Raises:
        ValueError: a shape, dtype or value is not what this model takes.
    """
    _check_text(config, text_ids)
    check_array("micro_conditioning", micro_conditioning, "float32", (text_ids.shape[0], 5))
    _check_range("micro_conditioning", micro_conditioning, 0, 65504)  # the published pipelines hold it in float16


def conditioning_shapes(config: ModelConfig, rows: int) -> Conditioning:
    """The shapes of the four arrays of a `Conditioning` with so many rows."""
    uvit, length = config.uvit, config.text.context_length
    return Conditioning(
        block_text=(rows, 4 * uvit.res_blocks, 2, length, uvit.block_width),
        layer_text=(rows, uvit.layers, 2, length, uvit.hidden_size),
        block_modulation=(rows, 2 * uvit.res_blocks, 2, uvit.block_width),
        layer_modulation=(rows, uvit.layers, 3, 2, uvit.hidden_size),
    )


def check_prediction(
    config: ModelConfig, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float
) -> None:
    """Check the inputs of `predict`.

    Raises:
        ValueError: a shape, dtype or value is not what this model takes.
    """
    uvit = config.uvit
    check_array("tokens", tokens, "int32", (None, uvit.num_tokens))
    known = tokens[tokens != uvit.mask_token_id]
    if known.size:
        _check_range("tokens that are not masked", known, 0, uvit.codebook_size - 1)
    pictures = tokens.shape[0]
    guided = len(conditioning.block_text) != pictures
    shapes = conditioning_shapes(config, 2 * pictures if guided else pictures)
    for name, array, shape in zip(Conditioning._fields, conditioning, shapes, strict=True):
        check_array(f"conditioning.{name}", array, "float32", shape)
    if not (np.isfinite(guidance_scale) and guidance_scale >= 0):
        raise ValueError(f"guidance_scale: got {guidance_scale}, expected a finite number, not negative")


def check_step(
    config: ModelConfig, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
) -> None:
    """Check the inputs of `unmask`.

    Raises:
        ValueError: a shape, dtype or value is not what this model takes.
    """
    uvit = config.uvit
    check_prediction(config, tokens, conditioning, controls.guidance_scale)
    rows = tokens.shape[0]
    check_array("num_masked", controls.num_masked, "int32", (rows,))
    _check_range("num_masked", controls.num_masked, 0, uvit.num_tokens)
    for name, value in zip(StepControls._fields[1:3], controls[1:3], strict=True):
        if not (np.isfinite(value) and value >= 0) or (name == "token_temperature" and value == 0):
            raise ValueError(f"{name}: got {value}, expected a finite number, not negative; see GenerateOptions")
    check_array("token_noise", noise.token_noise, "float32", (rows, uvit.num_tokens, uvit.codebook_size))
    check_array("order_noise", noise.order_noise, "float32", (rows, uvit.num_tokens))


def check_tokens(config: ModelConfig, tokens: np.ndarray) -> None:
    """Check the input of `decode_image`.

    Raises:
        ValueError: a shape, dtype or value is not what this model takes, or a token is still masked.
    """
    check_array("tokens", tokens, "int32", (None, config.uvit.num_tokens))
    if (tokens == config.uvit.mask_token_id).any():
        raise ValueError(
            "tokens: some are still masked; run every unmask step, or decode the step's sampled_tokens instead"
        )
    _check_range("tokens", tokens, 0, config.uvit.codebook_size - 1)


def check_pixels(config: ModelConfig, pixels: np.ndarray) -> None:
    """Check the input of `encode_image`.

    Raises:
        ValueError: a shape, dtype or value is not what this model takes.
    """
    check_array("pixels", pixels, "float32", (None, 3, config.image_size, config.image_size))
    _check_range("pixels", pixels, 0, 1)


def check_embedding(config: ModelConfig, text_ids: np.ndarray | None = None, pixels: np.ndarray | None = None) -> None:
    """Check the input of `embed_text` or of `embed_image`.

    Raises:
        ValueError: the model has no ranker, or a shape, dtype or value is not what it takes.
    """
    if not config.ranker:
        raise ValueError("this model has no ranker of its own; name one with --ranker (docs/pictures.md)")
    if text_ids is not None:
        _check_text(config, text_ids)
    if pixels is not None:
        check_array("pixels", pixels, "float32", (None, 3, RANKER_SIDE, RANKER_SIDE))
        _check_range("pixels", pixels, 0, 1)


def _check_text(config: ModelConfig, text_ids: np.ndarray) -> None:
    check_array("text_ids", text_ids, "int32", (None, config.text.context_length))
    _check_range("text_ids", text_ids, 0, config.text.vocab_size - 1)

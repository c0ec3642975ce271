"""The networks in torch, for published folders, training and as the reference of every other runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import DTypeLike
from torch import Tensor

from amused_lite.adapters import Chosen
from amused_lite.bundle import WEIGHTS, Bundle
from amused_lite.conditioning import Conditioning
from amused_lite.config import ModelConfig
from amused_lite.models.adapters import AdaptedWeights, hash_of
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import Networks, SavedWeights, Weights, load_networks
from amused_lite.models.unmask import UnmaskStep
from amused_lite.runtimes.base import (
    StepControls,
    StepNoise,
    check_embedding,
    check_pixels,
    check_prediction,
    check_prompt,
    check_step,
    check_tokens,
)

# What each module of the protocol holds in memory.
_PARTS = {
    "encode_prompt": ("text", "uvit.prompt_side"),
    "unmask": ("uvit.token_side",),
    "decode_image": ("vqgan",),
    "encode_image": ("vqgan",),
    "embed_text": ("text",),
    "embed_image": ("ranker",),
}


class InMemory:
    """Weights of networks that are in memory already, such as those in training."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.config = networks.config

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`, not copied."""
        return self.networks.get_submodule(name)


class TorchRuntime:
    """`Runtime` on torch, float32. Parts load when they are first needed and again after `release`."""

    name = "torch"

    def __init__(self, weights: Weights, threads: int | None = None, device: str = "cpu") -> None:
        """`threads` sets torch's own number for the whole process; None leaves it."""
        self.config: ModelConfig = weights.config
        self._weights = weights
        self._device = torch.device(device)
        self._parts: dict[str, Any] = {}
        if threads is not None:
            torch.set_num_threads(threads)

    @classmethod
    def from_bundle(cls, bundle: Bundle, threads: int | None = None, device: str = "cpu") -> Self:
        """Run a bundle's weights.

        Raises:
            FileNotFoundError: the bundle has no weights of its own.
        """
        return cls(SavedWeights(bundle.path(WEIGHTS), bundle.config), threads, device)

    @classmethod
    def from_folder(
        cls, folder: str | Path, threads: int | None = None, device: str = "cpu", variant: str | None = None
    ) -> Self:
        """Run a published folder in diffusers' layout.

        Raises:
            FileNotFoundError, ValueError: see `PublishedWeights`.
        """
        return cls(PublishedWeights(folder, variant), threads, device)

    @classmethod
    def from_networks(cls, networks: Networks, device: str = "cpu") -> Self:
        """Run networks that are in memory."""
        return cls(InMemory(networks), device=device)

    def adapt(self, chosen: Sequence[Chosen], dtype: DTypeLike = np.float32) -> Self:
        """Put adapters into the weights; `dtype` is how those are stored, see `amused_lite.adapters.merged`."""
        if chosen:
            self._weights = AdaptedWeights(self._weights, chosen, dtype)
            self._parts.clear()
        return self

    def base_hash(self) -> str:
        """What an adapter calls this model by; see `amused_lite.adapters.base_hash`."""
        return hash_of(self._part("uvit.token_side"))

    def networks(self) -> Networks:
        """All parts in one module, as training wants them."""
        return load_networks(self._weights)

    @torch.inference_mode()
    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        """See `Runtime`."""
        check_prompt(self.config, text_ids, micro_conditioning)
        text_states, pooled_text = self._part("text")(self._tensor(text_ids))
        conditioning = self._part("uvit.prompt_side")(text_states, pooled_text, self._tensor(micro_conditioning))
        return Conditioning(*(array.cpu().numpy() for array in conditioning))

    @torch.inference_mode()
    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        check_step(self.config, tokens, conditioning, controls, noise)
        step = UnmaskStep(self._part("uvit.token_side"))
        scalars = [torch.tensor([value], dtype=torch.float32, device=self._device) for value in controls[:3]]
        arrays = [self._tensor(array) for array in (*conditioning, controls.num_masked, *noise)]
        next_tokens, guess, _ = step(self._tensor(tokens), *arrays[:4], *scalars, *arrays[4:])
        return next_tokens.cpu().numpy(), guess.cpu().numpy()

    @torch.inference_mode()
    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """See `Runtime`."""
        check_prediction(self.config, tokens, conditioning, guidance_scale)
        step = UnmaskStep(self._part("uvit.token_side"))
        scale = torch.tensor([guidance_scale], dtype=torch.float32, device=self._device)
        arrays = Conditioning(*(self._tensor(array) for array in conditioning))
        return step.predict(self._tensor(tokens), arrays, scale).float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_tokens(self.config, tokens)
        return self._part("vqgan").decode_image(self._tensor(tokens)).cpu().numpy()

    @torch.inference_mode()
    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_pixels(self.config, pixels)
        return self._part("vqgan").encode_image(self._tensor(pixels)).to(torch.int32).cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, text_ids: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_embedding(self.config, text_ids=text_ids)
        return F.normalize(self._part("text")(self._tensor(text_ids))[1], dim=-1).cpu().numpy()

    @torch.inference_mode()
    def embed_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_embedding(self.config, pixels=pixels)
        return self._part("ranker")(self._tensor(pixels)).cpu().numpy()

    def release(self, module: str) -> None:
        """See `Runtime`.

        Raises:
            ValueError: there is no such module.
        """
        if module not in _PARTS:
            raise ValueError(f"no module {module!r} to release; expected one of {', '.join(_PARTS)}")
        for part in _PARTS[module]:
            self._parts.pop(part, None)

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            self._parts[name] = self._weights.part(name).to(self._device).eval()
        return self._parts[name]

    def _tensor(self, array: np.ndarray) -> Tensor:
        # Broadcast and read-only arrays are legal inputs; torch wants memory it may write to.
        writable = array if array.flags.writeable and array.flags.c_contiguous else array.copy()
        return torch.from_numpy(writable).to(self._device)

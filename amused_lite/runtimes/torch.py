"""The networks in torch, for published folders, training and as the reference of every other runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import DTypeLike
from torch import Tensor

from amused_lite.adapters.lora import WeightedAdapter
from amused_lite.adapters.torch import AdaptedWeights, hash_of
from amused_lite.bundle import MODULES, RANKER_MODULES, WEIGHTS, Bundle
from amused_lite.conditioning import Conditioning
from amused_lite.config import ModelConfig
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import PARTS, Networks, SavedWeights, Weights, load_networks
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

# Module -> the parts of the networks that it holds in memory.
PARTS_OF = {
    module: tuple(part for part in PARTS if any(name.startswith(f"{part}.") for name in names))
    for module, names in (MODULES | RANKER_MODULES).items()
}


class InMemory:
    """Weights of networks that are in memory already, such as those in training."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.config = networks.config

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`, not copied."""
        return self.networks.get_submodule(name)


def fast_precision(device: str = "cpu") -> str:
    """What this machine multiplies fastest in: bfloat16 where its processor has instructions for it, else float32."""
    if torch.device(device).type == "cpu":
        return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
    return "bfloat16"


class TorchRuntime:
    """`Runtime` on torch. Parts load when they are first needed and again after `release`."""

    def __init__(
        self, weights: Weights, threads: int | None = None, device: str = "cpu", precision: str = "float32"
    ) -> None:
        """Prepare, and load nothing yet.

        Args:
            weights: where they come from.
            threads: sets torch's own number for the whole process; None leaves it.
            device: torch's name of it.
            precision: "float32"; "bfloat16", which computes everything in it but the sampler's tail and the encoding of
                pictures, where it would choose other codes (docs/log.md); or "auto", the faster one here.
        """
        self.config: ModelConfig = weights.config
        self._weights = weights
        self._shared = isinstance(weights, InMemory)  # someone else's networks, which stay as they are
        self._device, self.device = torch.device(device), device
        precision = fast_precision(device) if precision == "auto" else precision
        self.name = "torch" if precision == "float32" else f"torch:{precision}"
        self._dtype: torch.dtype = getattr(torch, precision)
        # Guidance would magnify what halves are rounded by; weights in training change.
        self.first_step = "" if self._shared else "halves" if self._dtype == torch.float32 else "whole"
        self._parts: dict[str, Any] = {}
        self._kept: tuple[Conditioning, Conditioning] | None = None  # a prompt's, as given and as torch has it
        if threads is not None:
            torch.set_num_threads(threads)

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, threads: int | None = None, device: str = "cpu", precision: str = "float32"
    ) -> Self:
        """Run a bundle's weights.

        Raises:
            FileNotFoundError: the bundle has no weights of its own.
        """
        return cls(SavedWeights(bundle.path(WEIGHTS), bundle.config), threads, device, precision)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        threads: int | None = None,
        device: str = "cpu",
        variant: str | None = None,
        precision: str = "float32",
    ) -> Self:
        """Run a published folder in diffusers' layout.

        Raises:
            FileNotFoundError, ValueError: see `PublishedWeights`.
        """
        return cls(PublishedWeights(folder, variant), threads, device, precision)

    @classmethod
    def from_networks(cls, networks: Networks, device: str = "cpu") -> Self:
        """Run networks that are in memory."""
        return cls(InMemory(networks), device=device)

    def adapt(self, weighted_adapters: Sequence[WeightedAdapter], dtype: DTypeLike = np.float32) -> Self:
        """Merge adapters into the weights; `dtype`: how these are stored, see `adapters.lora.merge_weight`."""
        if weighted_adapters:
            self._weights = AdaptedWeights(self._weights, weighted_adapters, dtype)
            self._parts.clear()
        return self

    def base_hash(self) -> str:
        """What an adapter calls this model by; see `amused_lite.adapters.lora.base_hash`."""
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
        return Conditioning(*(array.float().cpu().numpy() for array in conditioning))

    @torch.inference_mode()
    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        check_step(self.config, tokens, conditioning, controls, noise)
        step = UnmaskStep(self._part("uvit.token_side"))
        scalars = [torch.tensor([value], dtype=torch.float32, device=self._device) for value in controls[:3]]
        arrays = [self._tensor(array) for array in (controls.num_masked, *noise)]
        next_tokens, sampled_tokens = step.sparse(
            self._tensor(tokens), self._conditioning(conditioning), *scalars, *arrays
        )
        return next_tokens.cpu().numpy(), sampled_tokens.cpu().numpy()

    @torch.inference_mode()
    def predict(self, tokens: np.ndarray, conditioning: Conditioning, guidance_scale: float) -> np.ndarray:
        """See `Runtime`."""
        check_prediction(self.config, tokens, conditioning, guidance_scale)
        step = UnmaskStep(self._part("uvit.token_side"))
        scale = torch.tensor([guidance_scale], dtype=self._dtype, device=self._device)
        logits = step.predict(self._tensor(tokens), self._conditioning(conditioning), scale)
        return logits.float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_tokens(self.config, tokens)
        return self._part("vqgan").decode_image(self._tensor(tokens)).float().cpu().numpy()

    @torch.inference_mode()
    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        """See `Runtime`."""
        check_pixels(self.config, pixels)
        vqgan = self._weights.part("vqgan").to(self._device) if self._dtype != torch.float32 else self._part("vqgan")
        return vqgan.encode_image(self._tensor(pixels)).to(torch.int32).cpu().numpy()

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
        if module not in PARTS_OF:
            raise ValueError(f"no module {module!r} to release; expected one of {', '.join(PARTS_OF)}")
        for part in PARTS_OF[module]:
            self._parts.pop(part, None)
        if module == "unmask":
            self._kept = None

    @torch.inference_mode(False)  # weights that are made within it could not be exported or trained afterwards
    def _part(self, name: str) -> Any:
        if name not in self._parts:
            part = self._weights.part(name).to(self._device).eval()
            if name != "ranker" and self._dtype != torch.float32:
                part = part.to(self._dtype)
            if name == "vqgan" and not self._shared:
                # Convolutions run on channels-last pictures anyway, and without being asked copy each of them twice.
                part = part.to(memory_format=torch.channels_last)
            self._parts[name] = part
        return self._parts[name]

    def _conditioning(self, conditioning: Conditioning) -> Conditioning:
        """As torch has it. All steps of a prompt bring the same arrays, which are converted once."""
        if self._kept is None or any(a is not b for a, b in zip(self._kept[0], conditioning, strict=True)):
            arrays = (self._tensor(array).to(self._dtype) for array in conditioning)
            self._kept = conditioning, Conditioning(*arrays)
        return self._kept[1]

    def _tensor(self, array: np.ndarray) -> Tensor:
        # Broadcast and read-only arrays are legal inputs; torch wants memory it may write to.
        writable = array if array.flags.writeable and array.flags.c_contiguous else array.copy()
        return torch.from_numpy(writable).to(self._device)

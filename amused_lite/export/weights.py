"""What an export starts from: weights, tokenizer and colours of a bundle or of a folder in diffusers' layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from amused_lite.adapters.loading import check_mergeable, open_adapters
from amused_lite.adapters.torch import AdaptedWeights, hash_of
from amused_lite.bundle import COLOURS, MANIFEST, TOKENIZER, WEIGHTS, open_bundle
from amused_lite.config import ModelConfig
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import SavedWeights, Weights, empty_part, fill
from amused_lite.tokenizer import Tokenizer


class SourceModel(NamedTuple):
    """A model to export, its weights still on disk."""

    weights: Weights
    tokenizer: Path
    colours: Path | None = None  # where they are computed already
    name: str | None = None
    licence: str = ""
    adapter: str | None = None
    draft: dict[str, Any] | None = None  # how good a draft decoder is, where it has one


def open_source(
    folder: Path, scratch: Path, variant: str | None = None, transformer: Path | None = None
) -> SourceModel:
    """A model's parts; the tokenizer of a diffusers folder is written to `scratch` as one file.

    variant, transformer: of a diffusers folder, see `PublishedWeights`.

    Raises:
        FileNotFoundError, ValueError: see `open_bundle` and `PublishedWeights`; or the bundle has no weights file.
    """
    if not (folder / MANIFEST).is_file():
        weights = PublishedWeights(folder, variant, transformer)
        _published_tokenizer(folder / "tokenizer", weights.config).save(scratch / TOKENIZER)
        return SourceModel(weights, scratch / TOKENIZER)
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    if WEIGHTS not in manifest.files:
        kept = f"{folder} holds modules for {manifest.target} and no {WEIGHTS} to export from"
        raise ValueError(f"{kept}; give the model it was made from, or an ONNX bundle")
    weights = SavedWeights(bundle.path(WEIGHTS), bundle.config)
    parts = (bundle.path(TOKENIZER), bundle.path(COLOURS))
    draft = manifest.options.get("draft")
    return SourceModel(weights, *parts, manifest.name, manifest.weights_licence, manifest.adapter, draft)


def with_adapters(source: SourceModel, wanted: Sequence[str]) -> tuple[SourceModel, Sequence[str]]:
    """The same model with adapters merged in, and what a user should know about them.

    Raises:
        FileNotFoundError, ValueError, MissingExtraError: see `open_adapters`; or an adapter cannot be merged.
    """
    if not wanted:
        return source, ()
    weights = source.weights
    chosen, remarks = open_adapters(wanted, weights.config, hash_of(weights.part("uvit.token_side")))
    check_mergeable(chosen, "an export")
    names = [f"{adapter.record.name}:{weight:g}" for adapter, weight in chosen]
    merged = ", ".join([source.adapter, *names] if source.adapter else names)
    paints = any(module.startswith("vqgan.") for adapter, _ in chosen for module in adapter.pairs)
    colours = None if paints else source.colours  # of previews: codes have other ones under another decoder
    return source._replace(weights=AdaptedWeights(weights, chosen), colours=colours, adapter=merged), remarks


def _published_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    text = config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    return Tokenizer.from_folder(folder, *ids)


class RoundedWeights:
    """`Weights` as a reader of float16 files gets them, back in float32."""

    def __init__(self, weights: Weights) -> None:
        self.config: ModelConfig = weights.config
        self._weights = weights

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`; see `Weights`.

        Raises:
            ValueError: a weight is not finite in float16.
        """
        rounded = {}
        for key, tensor in self._weights.part(name).state_dict().items():
            rounded[key] = tensor.detach().to(torch.float16)
            if not torch.isfinite(rounded[key]).all():
                problem = f"{name}.{key} holds values that are not finite as torch.float16"
                raise ValueError(f"{problem}; export with precision float32")
        return fill(empty_part(self.config, name), rounded)

"""Adapters: small additions to a model that carry a style. NumPy only; knows no torch, no engine and no files.

    low_rank     W (out, in) becomes W + weight * alpha / rank * up @ down (LoRA, Hu et al. 2021). Merges into the
                 weights, so every runtime can use it at no cost. A convolution's kernel (out, in, h, w) counts as a
                 matrix (out, in * h * w).
    bottleneck   what an attention gives, y, becomes y + weight * alpha / rank * up gelu(down y) (StyleDrop, Sohn et al.
                 2023, after Houlsby et al. 2019). Cannot be merged: for the torch runtime and research.

Modules are called by their paths in `models.networks.Networks`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta

from amused_lite.config import PRESETS, ModelConfig

KINDS = ("low_rank", "bottleneck")
TARGETS = ("attention", "block_attention", "feedforward", "blocks", "head", "embedding", "text", "decoder")
WEIGHT_RANGE = (-1.0, 2.0)
Rank = Annotated[int, Meta(ge=1, le=16_384)]
Alpha = Annotated[float, Meta(ge=-1e6, le=1e6)]
Words = Annotated[str, Meta(max_length=1000)]
# Small weights that every export keeps in float: their values name the base, however its matrices are stored.
FINGERPRINT = tuple(f"uvit.token_side.{name}_norm.weight" for name in ("embedding", "in", "out", "head"))


@dataclass(frozen=True)
class AdapterRecord:
    """What an adapter says about itself."""

    name: Words
    rank: Rank
    alpha: Alpha
    targets: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=100)]
    preset: Words  # the base's, see `preset_of`
    base_model: Words  # what the base called itself
    base_hash: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]  # see `base_hash`; "" when it is not known
    kind: Annotated[str, Meta(pattern=f"^({'|'.join(KINDS)})$")] = "low_rank"
    trigger: Words = ""  # what a prompt should say, such as "in stained glass style"
    licence: Words = ""
    recipe: Annotated[dict[str, Any], Meta(max_length=1000)] = field(default_factory=dict)  # how it was trained
    thumbnail: Annotated[str, Meta(max_length=2**20)] = ""  # a PNG, base64

    @property
    def scale(self) -> float:
        """What `up @ down` is multiplied by at weight 1."""
        return self.alpha / self.rank


class Pair(NamedTuple):
    """The two matrices at one module, float32."""

    down: np.ndarray  # (rank, in)
    up: np.ndarray  # (out, rank)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A record and a pair of matrices for every module it touches."""

    record: AdapterRecord
    pairs: dict[str, Pair]  # module path -> matrices
    sha256: str = ""  # of the file it came from


class WeightedAdapter(NamedTuple):
    """An adapter and its weight: 1 is as trained, 0 leaves the model as it is."""

    adapter: Adapter
    weight: float = 1.0


def parse_weighted_adapter(text: str) -> tuple[str, float]:
    """`FILE` or `FILE:WEIGHT` to both parts; the weight is 1 where none is said.

    Raises:
        ValueError: the weight is out of range.
    """
    path, colon, tail = text.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        return text, 1.0  # the colon belonged to the path, or there was none
    if not (colon and path):
        return text, 1.0
    low, high = WEIGHT_RANGE
    if not low <= weight <= high:
        raise ValueError(f"adapter weight {weight:g} of {path} is out of range; choose {low:g} to {high:g}")
    return path, weight


def adapter_label(weighted: WeightedAdapter) -> str:
    """As a picture's recipe names it: "blueprint:0.8 3fa9c1d2b4"."""
    return f"{weighted.adapter.record.name}:{weighted.weight:g} {weighted.adapter.sha256[:10]}".strip()


def preset_of(config: ModelConfig) -> str:
    """The preset with these networks, whatever decodes their tokens, or "custom"."""
    parts = (config.text, config.uvit, replace(config.vqgan, draft=None))
    return next(
        (name for name, preset in PRESETS.items() if (preset.text, preset.uvit, preset.vqgan) == parts), "custom"
    )


def base_hash(weights: Mapping[str, np.ndarray]) -> str:
    """Hex sha256 that stands for a base, from its weights named in `FINGERPRINT`; the same for all its exports."""
    digest = hashlib.sha256()
    for name in FINGERPRINT:
        digest.update(np.ascontiguousarray(weights[name], np.dtype("<f2")).tobytes())
    return digest.hexdigest()


def target_shapes(config: ModelConfig, target: str, kind: str = "low_rank") -> dict[str, tuple[int, int]]:
    """The modules of one of `TARGETS`: path -> (out, in)."""
    uvit, text = config.uvit, config.text
    width, block = uvit.hidden_size, uvit.block_width
    token_layers = [f"uvit.token_side.layers.{i}" for i in range(uvit.layers)]
    sides = [f"uvit.token_side.{side}_block" for side in ("down", "up")]
    places = [(side, i) for side in sides for i in range(uvit.res_blocks)]
    if kind == "bottleneck":
        if target != "attention":
            raise ValueError(f"a bottleneck adapter has the target attention only, got {target!r}; leave targets out")
        return {f"{layer}.{part}_attention": (width, width) for layer in token_layers for part in ("self", "text")}
    match target:
        case "attention":
            own = [f"{layer}.self_attention.{name}" for layer in token_layers for name in ("query", "key", "value")]
            own += [f"{layer}.text_attention.query" for layer in token_layers]
            own += [f"uvit.prompt_side.layer_key_value.{i}.{kv}" for i in range(uvit.layers) for kv in ("key", "value")]
            return dict.fromkeys(own, (width, width))
        case "block_attention":
            own = [f"{side}.attentions.{i}.attentions.{j}.query" for side, i in places for j in range(2)]
            prompt = "uvit.prompt_side.block_key_value"
            own += [f"{prompt}.{i}.{kv}" for i in range(2 * len(places)) for kv in ("key", "value")]
            return dict.fromkeys(own, (block, block))
        case "feedforward":
            inner = uvit.feedforward_width
            shapes = {"widen": (2 * inner, width), "narrow": (width, inner)}
            return {f"{layer}.feedforward.{name}": shape for layer in token_layers for name, shape in shapes.items()}
        case "blocks":
            shapes = {"widen": (4 * block, block), "narrow": (block, 4 * block)}
            return {f"{side}.res_blocks.{i}.{name}": shape for side, i in places for name, shape in shapes.items()}
        case "head":
            shapes = {"project_out": (block, width), "head_projection": (uvit.token_width, block)}
            shapes["head"] = (uvit.codebook_size, uvit.token_width)
            return {f"uvit.token_side.{name}": shape for name, shape in shapes.items()}
        case "embedding":
            return {"uvit.token_side.embedding": (uvit.vocab_size, uvit.token_width)}
        case "text":
            own = [f"text.layers.{i}.{name}" for i in range(text.layers) for name in ("query", "key", "value")]
            return dict.fromkeys(own, (text.width, text.width))
        case "decoder":
            return _decoder_shapes(config)
    raise ValueError(f"adapter target {target!r} is unknown; choose from {', '.join(TARGETS)}")


def _decoder_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The VQ-GAN decoder's convolutions, but for those that upsample, whose kernels are stored added up."""
    vqgan, path = config.vqgan.decoder, "vqgan.decoder"
    widths = vqgan.channels[::-1]
    shapes = {f"{path}.stem": (widths[0], 9 * vqgan.latent_channels)}
    blocks = {f"{path}.middle.{i}": (widths[0], widths[0]) for i in range(2)}
    for level, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False)):
        ins = [before] + [width] * vqgan.layers_per_block
        blocks |= {f"{path}.levels.{level}.{i}": (inside, width) for i, inside in enumerate(ins)}
    for block, (inside, width) in blocks.items():
        shapes |= {f"{block}.conv1": (width, 9 * inside), f"{block}.conv2": (width, 9 * width)}
        if inside != width:
            shapes[f"{block}.shortcut"] = (width, inside)
    return shapes | {f"{path}.out": (3 * vqgan.patch_size**2, 9 * widths[-1])}


def shapes_of(config: ModelConfig, targets: Iterable[str], kind: str = "low_rank") -> dict[str, tuple[int, int]]:
    """The modules of several targets: path -> (out, in).

    Raises:
        ValueError: a target or the kind is unknown, or there is no target.
    """
    if kind not in KINDS:
        raise ValueError(f"adapter kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    parts = [target_shapes(config, target, kind) for target in dict.fromkeys(targets)]
    if not parts:
        raise ValueError(f"an adapter needs a target; choose from {', '.join(TARGETS)}")
    return reduce(dict.__or__, parts)


def check_adapter(adapter: Adapter, config: ModelConfig, base: str = "") -> list[str]:
    """Compare an adapter with the model it should go into; returns what a user should know, usually nothing.

    Args:
        adapter: read from a file.
        config: the model's.
        base: the model's `base_hash`, "" when it is not known.

    Raises:
        ValueError: it was made for another preset, or touches modules that this model has not or has in other shapes.
    """
    record, preset = adapter.record, preset_of(config)
    if record.preset != preset:
        made = f"adapter {record.name!r} was made for {record.preset}, this model is {preset}"
        raise ValueError(f"{made}; open it with -m {record.base_model or record.preset}")
    targets = ("attention",) if record.kind == "bottleneck" else TARGETS
    known = shapes_of(config, targets, record.kind)
    strange = [module for module in adapter.pairs if module not in known]
    wrong = [
        f"{module} (got {(pair.up.shape[0], pair.down.shape[1])}, expected {known[module]})"
        for module, pair in adapter.pairs.items()
        if module in known and (pair.up.shape[0], pair.down.shape[1]) != known[module]
    ]
    for words, modules in (("touches modules that this model has not", strange), ("has other shapes", wrong)):
        if modules:
            rest = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
            raise ValueError(f"adapter {record.name!r} {words}: {', '.join(modules[:3])}{rest}; use its own base model")
    if base and record.base_hash and base != record.base_hash:
        hashes = f"{record.base_hash[:10]}, this model has {base[:10]}"
        return [f"adapter {record.name!r} was trained on other weights of {preset} ({hashes}); its look may differ"]
    return []


def changed_weights(weighted_adapters: Sequence[WeightedAdapter]) -> list[str]:
    """Names of the weights that `merge_weight` would change."""
    return list(
        dict.fromkeys(
            f"{module}.weight"
            for adapter, weight in weighted_adapters
            if weight and adapter.record.kind == "low_rank"
            for module in adapter.pairs
        )
    )


def merge_weight(name: str, weight: np.ndarray, weighted_adapters: Sequence[WeightedAdapter]) -> np.ndarray:
    """One weight of the model with all adapters in it: summed in float32, rounded once to the weight's own dtype.

    Rounding to the stored dtype makes a runtime that merges at loading equal to a bundle that was exported merged. A
    weight that no adapter touches is returned as it is, and so is every weight at adapter weight 0.

    Args:
        name: such as "uvit.token_side.layers.0.self_attention.query.weight".
        weight: (out, in) or a kernel (out, in, h, w), float32 or float16.
        weighted_adapters: what to add, in this order.
    """
    module = name.removesuffix(".weight")
    total = None
    for adapter, strength in weighted_adapters:
        if strength and adapter.record.kind == "low_rank" and module in adapter.pairs:
            down, up = adapter.pairs[module]
            total = weight.astype(np.float32) if total is None else total
            total += np.float32(strength * adapter.record.scale) * (up @ down).reshape(weight.shape)
    return weight if total is None else total.astype(weight.dtype)


def merge_into(
    weights: Mapping[str, np.ndarray], weighted_adapters: Sequence[WeightedAdapter]
) -> dict[str, np.ndarray]:
    """`merge_weight` for every weight in `weights`; arrays that nothing touches are the same objects."""
    return {name: merge_weight(name, weight, weighted_adapters) for name, weight in weights.items()}

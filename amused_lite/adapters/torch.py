"""Adapters in torch: trained beside the frozen networks, through forward hooks, so that the networks need no change.

The mathematics is in `adapters.lora`. A hook adds to what a module gives; at weight 0 the network computes
what it computes without, bit for bit, and the names of its weights never change.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.adapters.lora import (
    FINGERPRINT,
    Adapter,
    AdapterRecord,
    Pair,
    WeightedAdapter,
    base_hash,
    changed_weights,
    merge_weight,
    shapes_of,
)
from amused_lite.config import ModelConfig
from amused_lite.models.networks import Networks, Weights


class LowRank(nn.Module):
    """x (..., in) -> what is added to the output of a linear layer, (..., out)."""

    def __init__(self, outside: int, inside: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, inside))
        self.up = nn.Parameter(torch.zeros(outside, rank))

    def reset(self, generator: torch.Generator | None = None) -> None:
        """As peft does: the first matrix uniform in ±in^-0.5, the second zero: training starts from the base."""
        bound = self.down.shape[1] ** -0.5
        nn.init.uniform_(self.down, -bound, bound, generator=generator)
        nn.init.zeros_(self.up)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up)


class LowRankEmbedding(LowRank):
    """Ids (...) -> what is added to their embeddings, (..., in)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.up) @ self.down


class LowRankConvolution(LowRank):
    """x (B, in, H, W) -> what is added to the output of a convolution, (B, out, H, W)."""

    def forward(self, x: Tensor, convolution: Any) -> Tensor:
        kernel = self.down.unflatten(1, (-1, *convolution.kernel_size))
        y = F.conv2d(x, kernel, None, convolution.stride, convolution.padding)
        return F.conv2d(y, self.up[..., None, None])


class Bottleneck(LowRank):
    """An attention's output (..., D) -> what is added to it, with a GELU between the two matrices."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(x, self.down)), self.up)


_LAYERS = {"low_rank": LowRank, "bottleneck": Bottleneck}


def _layer_for(path: str, kind: str) -> type[LowRank]:
    if path.startswith("vqgan."):
        return LowRankConvolution
    return LowRankEmbedding if path.endswith(".embedding") else _LAYERS[kind]


class AttachedAdapter(nn.Module):
    """An adapter attached to a network. Its parameters are the only ones that are trained.

    `weight` may be changed at any time; at 0 the network computes exactly what it computes without the adapter.
    """

    def __init__(self, record: AdapterRecord, shapes: dict[str, tuple[int, int]], weight: float = 1.0) -> None:
        """Matrices for the modules of `shapes` (path -> (out, in)); `reset` or `fill` gives them values."""
        super().__init__()
        self.record, self.weight = record, weight
        self.paths = list(shapes)
        self.layers = nn.ModuleList()
        for path, (outside, inside) in shapes.items():
            self.layers.append(_layer_for(path, record.kind)(outside, inside, record.rank))

    def reset(self, seed: int) -> "AttachedAdapter":
        """Start values that add nothing yet."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            layer.reset(generator)  # type: ignore[operator]
        return self

    @torch.no_grad()
    def fill(self, pairs: dict[str, Pair]) -> "AttachedAdapter":
        """Take over the values of an adapter; ranks may differ from module to module."""
        for path, layer in zip(self.paths, self.layers, strict=True):
            down, up = (torch.from_numpy(np.array(matrix, np.float32)) for matrix in pairs[path])
            layer.down, layer.up = nn.Parameter(down), nn.Parameter(up)
        return self

    def attach(self, network: nn.Module, prefix: str = "") -> "AttachedAdapter":
        """Put hooks into a network whose paths begin after `prefix`; modules elsewhere are left out."""
        for path, layer in zip(self.paths, self.layers, strict=True):
            if path.startswith(prefix):
                module = network.get_submodule(path.removeprefix(prefix))
                module.register_forward_hook(self._hook(layer))
        return self

    def _hook(self, layer: nn.Module) -> Any:
        scale, of_output = self.record.scale, isinstance(layer, Bottleneck)

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self.weight == 0:
                return None
            there = (module,) if isinstance(layer, LowRankConvolution) else ()
            return output + (self.weight * scale) * layer(output if of_output else inputs[0], *there)

        return add

    def adapter(self, record: AdapterRecord | None = None) -> Adapter:
        """The values as they are now, for a file or for merging."""
        matrices: list[Any] = [(layer.down, layer.up) for layer in self.layers]
        pairs = [Pair(*(matrix.detach().float().cpu().numpy().copy() for matrix in both)) for both in matrices]
        return Adapter(record or self.record, dict(zip(self.paths, pairs, strict=True)))


def new_adapter(networks: Networks, record: AdapterRecord, seed: int = 0) -> AttachedAdapter:
    """A fresh adapter of this record, attached to the whole model, which it freezes."""
    networks.requires_grad_(False)
    shapes = shapes_of(networks.config, record.targets, record.kind)
    return AttachedAdapter(record, shapes).reset(seed).attach(networks)


def attach(network: nn.Module, chosen: WeightedAdapter, prefix: str = "") -> AttachedAdapter:
    """Attach an adapter from a file to a network; see `AttachedAdapter.attach` for `prefix`."""
    shapes = {path: (len(pair.up), pair.down.shape[1]) for path, pair in chosen.adapter.pairs.items()}
    attached = AttachedAdapter(chosen.adapter.record, shapes, chosen.weight).fill(chosen.adapter.pairs)
    return attached.attach(network, prefix).requires_grad_(False)


@torch.no_grad()
def merge(
    network: nn.Module, weighted_adapters: Sequence[WeightedAdapter], prefix: str = "", dtype: Any = np.float32
) -> None:
    """Write low-rank adapters into a network's weights.

    Args:
        network: with float32 weights.
        weighted_adapters: adapters and how strongly they count.
        prefix: as in `AttachedAdapter.attach`.
        dtype: what the weights are rounded to; see `amused_lite.adapters.lora.merge_weight`.

    Raises:
        ValueError: an adapter is none that can be merged.
    """
    for adapter, _ in weighted_adapters:
        if adapter.record.kind != "low_rank":
            raise ValueError(f"adapter {adapter.record.name!r} is a {adapter.record.kind}, which cannot be merged")
    for name in changed_weights(weighted_adapters):
        if name.startswith(prefix):
            module: Any = network.get_submodule(name.removeprefix(prefix).removesuffix(".weight"))
            value = merge_weight(
                name, module.weight.detach().cpu().numpy().astype(dtype, copy=False), weighted_adapters
            )
            new = torch.from_numpy(value.astype(np.float32)).to(module.weight.device)
            module.weight = nn.Parameter(new, requires_grad=False)


class AdaptedWeights:
    """`Weights` with adapters in them: low-rank ones merged, bottlenecks attached, part by part as they load."""

    def __init__(self, weights: Weights, weighted_adapters: Iterable[WeightedAdapter], dtype: Any = np.float32) -> None:
        """`dtype` is how the weights are stored; see `amused_lite.adapters.lora.merge_weight`."""
        self.config: ModelConfig = weights.config
        self._weights, self._dtype = weights, dtype
        self._chosen = [choice for choice in weighted_adapters if choice.weight]

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`; see `Weights`."""
        module = self._weights.part(name)
        kinds = {kind: [c for c in self._chosen if c.adapter.record.kind == kind] for kind in _LAYERS}
        merge(module, kinds["low_rank"], f"{name}.", self._dtype)
        for choice in kinds["bottleneck"]:
            attach(module, choice, f"{name}.")
        return module


def hash_of(token_side: nn.Module) -> str:
    """`base_hash` of a model in memory, from its token side."""
    weights = {f"uvit.token_side.{name}": weight for name, weight in token_side.named_parameters()}
    return base_hash({name: weights[name].detach().float().cpu().numpy() for name in FINGERPRINT})

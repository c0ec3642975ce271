"""What a step of the U-ViT's training shows and hides: every draw follows from the seed and the step's number."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from amused_lite.tokenizer import Tokenizer
from amused_lite.training.data.order import EpochOrder, permuted
from amused_lite.training.data.shards import TokenShards
from amused_lite.training.loop.fit import step_generator
from amused_lite.training.loss import ask, draw_masks
from amused_lite.training.uvit_config import UViTTrainConfig

_BLOCK = 1000  # places of a mixture that are shared out together


class Samples(NamedTuple):
    """Samples as a source has them."""

    text_ids: np.ndarray  # (B, T) captions
    tokens: np.ndarray  # (B, N) codebook indices
    micro_conditioning: np.ndarray  # (B, 5) float32, see `MicroConditioning`


class SampleSource(Protocol):
    """Where training samples come from: a stream, the same one for every process, whatever was read before."""

    def samples(self, place: int, count: int) -> Samples:
        """`count` samples of the stream from `place` on."""
        ...

    def weights(self, place: int, count: int) -> np.ndarray | None:
        """(count, N) float32: how often each of their tokens is asked beside the others; None: all alike."""
        ...


class ShardSamples:
    """The samples of a folder of shards, every one once an epoch."""

    def __init__(self, shards: TokenShards, seed: int) -> None:
        self.shards, self.order = shards, EpochOrder(seed, len(shards))

    def samples(self, place: int, count: int) -> Samples:
        """See `SampleSource`."""
        chosen = self.order.samples(place, count)
        text, tokens, micro = (self.shards.read(column, chosen) for column in ("text", "tokens", "micro"))
        return Samples(text, tokens, micro)

    def weights(self, place: int, count: int) -> None:
        """See `SampleSource`."""


class MixedSamples:
    """Samples of several folders, each as often as its weight says and each every sample once an epoch of its own.

    Places go to the folders in blocks, in which a keyed permutation says which place is whose. So a place alone says
    which sample of which folder stands there, as it does for one folder.
    """

    def __init__(self, sources: Sequence[SampleSource], weights: Sequence[float], seed: int) -> None:
        """Weights count beside one another: 3 and 1 are three samples of four, to a thousandth of all."""
        self.sources, self.seed = sources, seed
        ends = np.round(np.cumsum([0.0, *weights]) / sum(weights) * _BLOCK).astype(np.int64)
        self._starts, self._counts = ends[:-1], np.diff(ends)
        if (self._counts == 0).any():
            raise ValueError(f"weights {', '.join(f'{w:g}' for w in weights)}: one is below a thousandth of all")

    def samples(self, place: int, count: int) -> Samples:
        """See `SampleSource`."""
        rows = [self.sources[source].samples(there, 1) for source, there in self.places(place, count)]
        return Samples(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def weights(self, place: int, count: int) -> None:
        """See `SampleSource`."""

    def places(self, place: int, count: int) -> Iterator[tuple[int, int]]:
        """For each place, the source that it goes to, and the place in that source's stream."""
        for number in range(place, place + count):
            block, within = divmod(number, _BLOCK)
            rank = int(permuted(np.array([within]), _BLOCK, self.seed, block)[0])
            source = int(np.searchsorted(self._starts, rank, "right")) - 1
            yield source, block * int(self._counts[source]) + rank - int(self._starts[source])


class Batch(NamedTuple):
    """One part of a step's batch: what is shown, what is hidden and what is asked."""

    tokens: Tensor  # (B, N)
    masks: Tensor  # (B, N), True where hidden
    asked: Tensor  # (M,) flat positions that carry the loss
    text_ids: Tensor  # (B, T)
    micro_conditioning: Tensor  # (B, 5)
    share: float  # of the step's asked tokens

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        tokens, masks, asked, text_ids, micro = (array.to(device, non_blocking=True) for array in self[:5])
        return Batch(tokens, masks, asked, text_ids, micro, self.share)


class Batches:
    """Deterministic batches: what a step shows and hides follows from its number, and not from who computes it.

    A step's batch has `accumulation` parts. Processes share them: process r of W computes parts r, r + W ...
    """

    def __init__(self, train_config: UViTTrainConfig, source: SampleSource, tokenizer: Tokenizer) -> None:
        self.train_config, self.source = train_config, source
        self.empty = torch.from_numpy(tokenizer.encode([""])[0]).long()

    def parts(self, step: int, process: int = 0, processes: int = 1) -> Iterator[Batch]:
        """The parts of a step's batch that a process computes.

        Raises:
            ValueError: the parts cannot be shared evenly by so many processes.
        """
        config, size = self.train_config, self.train_config.batch // self.train_config.accumulation
        if config.accumulation % processes or config.batch % config.accumulation:
            said = f"a batch of {config.batch} in {config.accumulation} parts cannot be shared by {processes} processes"
            raise ValueError(f"{said}; choose an accumulation that divides the batch and is a multiple of {processes}")
        generator = step_generator(config.seed, step)
        told = torch.rand(config.batch, generator=generator) >= config.prompt_dropout
        masks = draw_masks(config.batch, self._grid, config.rectangle_share, generator)
        parts = torch.arange(config.batch).split(size)
        asked = [self._asked(masks[part], step * config.batch + int(part[0]), generator) for part in parts]
        total = sum(len(places) for places in asked)
        for number in range(process, config.accumulation, processes):
            part = parts[number]
            samples = self.source.samples(step * config.batch + int(part[0]), len(part))
            text_ids = torch.where(told[part, None], torch.from_numpy(samples.text_ids.astype(np.int64)), self.empty)
            yield Batch(
                torch.from_numpy(samples.tokens.astype(np.int64)),
                masks[part],
                asked[number],
                text_ids,
                torch.from_numpy(samples.micro_conditioning),
                len(asked[number]) / total,
            )

    @cached_property
    def _grid(self) -> int:
        """Tokens per side, as the first sample has them."""
        return int(self.source.samples(0, 1).tokens.shape[1] ** 0.5)

    def _asked(self, hidden: Tensor, place: int, generator: torch.Generator) -> Tensor:
        if self.train_config.asked_share is None:
            return hidden.flatten().nonzero()[:, 0]
        weights = self.source.weights(place, len(hidden))
        given = None if weights is None else torch.from_numpy(weights)
        return ask(hidden, int(self.train_config.asked_share * hidden.numel()), generator, given)

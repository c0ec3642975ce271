"""A world: the endless stream of captioned pictures that a model learns from, the same for the same numbers."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from amused_lite.conditioning import MicroConditioning
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.data.batches import Samples
from amused_lite.training.data.order import EpochOrder
from amused_lite.training.data.shards import TokenShards
from amused_lite.training.loop.fit import step_generator
from amused_lite.training.scenes import random_look
from amused_lite.vocabulary import Groups

Split = Literal["train", "all"]  # "train" never shows what is held out


class World(Protocol):
    """What `build.Build` needs of a world. Its scenes say what a picture shows; no trainer looks into them."""

    name: str
    seed: int  # of the stream of scenes that the U-ViT learns from

    def fetch(self, folder: Path) -> None:
        """Bring into the folder what pictures are drawn from; what is there is not fetched again."""
        ...

    def use(self, folder: Path) -> None:
        """Draw from what was fetched into this folder."""
        ...

    def scene(self, seed: int, index: int, split: Split = "train", canvas: int = 512) -> Any:
        """Scene number `index` of the stream `seed`, for a picture of `canvas` px."""
        ...

    def draw(self, scene: Any) -> np.ndarray:
        """Its picture: uint8 (canvas, canvas, 3), RGB."""
        ...

    def thumbnail(self, scene: Any, side: int) -> np.ndarray:
        """Its picture at another size: uint8 (side, side, 3), RGB."""
        ...

    def spoiled(self, scene: Any, rng: random.Random) -> np.ndarray:
        """A picture that fails its caption as generated ones do, as the ranker sees it: uint8 (S, S, 3)."""
        ...

    def caption(self, scene: Any, rng: random.Random) -> str:
        """One of the ways to say it."""
        ...

    def words(self) -> Groups:
        """Everything that its captions may say, in groups."""
        ...

    def hard_negatives(self, scene: Any, rng: random.Random) -> list[str]:
        """Captions that are wrong in exactly one respect."""
        ...

    def micro(self, scene: Any) -> MicroConditioning:
        """Size, crop and score of its picture."""
        ...

    def weights(self, scene: Any) -> np.ndarray | None:
        """(N,) float32: how often each token of its picture is asked beside the others; None: all alike."""
        ...

    def is_scored(self, scene: Any) -> bool:
        """Whether it means the same as a prompt that models are scored on: the U-ViT must not learn from it."""
        ...


class WorldSource:
    """Scenes as training samples; each time another of a scene's captions."""

    def __init__(
        self, shards: TokenShards, order: EpochOrder, world: World, scene: Callable[[int], Any], tokenizer: Tokenizer
    ) -> None:
        self.shards, self.order, self.world, self.scene, self.tokenizer = shards, order, world, scene, tokenizer

    def samples(self, place: int, count: int) -> Samples:
        """See `batches.SampleSource`."""
        chosen, shown = self._chosen(place, count)
        seed = self.order.seed
        said = [self.world.caption(scene, random.Random(f"{seed}/{place + row}")) for row, scene in enumerate(shown)]
        micro = np.concatenate([self.world.micro(scene).array() for scene in shown])
        return Samples(self.tokenizer.encode(said), self.shards.read("tokens", chosen), micro)

    def weights(self, place: int, count: int) -> np.ndarray | None:
        """See `batches.SampleSource`."""
        weights = [self.world.weights(scene) for scene in self._chosen(place, count)[1]]
        given = [weight for weight in weights if weight is not None]
        return np.stack(given) if given else None

    def _chosen(self, place: int, count: int) -> tuple[np.ndarray, list[Any]]:
        """Numbers and scenes. A scene that models are scored on gives its place to the next one."""
        chosen = self.order.samples(place, count)
        for row, index in enumerate(chosen.tolist()):
            while self.world.is_scored(self.scene(index)):
                index = (index + 1) % (self.order.first or self.order.size)
            chosen[row] = index
        return chosen, [self.scene(index) for index in chosen.tolist()]


def codebook_picture(world: World, seed: int, index: int, scene_share: float) -> np.ndarray:
    """A picture (512, 512, 3) uint8 for the VQ-GAN: a scene, or a look that no scene has."""
    if step_generator(seed, index, 7).initial_seed() % 1000 < 1000 * scene_share:
        return world.draw(world.scene(seed, index, "all"))
    return random_look(seed, index)

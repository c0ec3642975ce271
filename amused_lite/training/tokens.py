"""Scenes as token grids, encoded once and kept in shards of plain `.npy`. Knows no loss and no U-ViT."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from amused_lite.models.vqgan import VQGAN

SHARD = 512  # pictures per file


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"tokens-{shard:05d}.npy"


def encode_pictures(model: VQGAN, folder: Path, draw: Callable[[int], np.ndarray], pictures: int) -> None:
    """Draw and encode training pictures 0 ... `pictures`; shards already there are kept, so that it resumes.

    Args:
        draw: picture number to uint8 (S, S, 3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = range((pictures + SHARD - 1) // SHARD)
    began, done = time.monotonic(), 0
    for shard in shards:
        path = shard_path(folder, shard)
        if path.exists():
            continue
        tokens = [_encode(model, draw, range(i, i + 16)) for i in range(shard * SHARD, (shard + 1) * SHARD, 16)]
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, np.concatenate(tokens).astype(np.uint16), allow_pickle=False)
        os.replace(path.with_suffix(".part"), path)
        done += SHARD
        print(f"shard {shard + 1} of {len(shards)}, {done / (time.monotonic() - began):.0f} pictures/s", flush=True)


@torch.no_grad()
def _encode(model: VQGAN, draw: Callable[[int], np.ndarray], indices: range) -> np.ndarray:
    pictures = np.stack([draw(index) for index in indices])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    # Float32 on purpose: bfloat16 picks another code for more than half of the tokens, those with near twins.
    return model.encode_image(pixels.contiguous(memory_format=torch.channels_last)).numpy()


class TokenPool:
    """Random access to encoded scenes while another process may still be encoding the later ones.

    Which pictures step s may use depends on s alone (`first` at the start, `per_step` more each step, up to
    `pictures`), so a resumed run sees the same data. A shard that is not there yet is waited for.
    """

    def __init__(
        self, folder: Path, first: int, per_step: float, pictures: int, reserved: Callable[[int], bool]
    ) -> None:
        """`reserved` says which scene numbers must not be trained on; their right neighbours stand in for them."""
        self.folder, self.first, self.per_step, self.pictures = folder, first, per_step, pictures
        self.reserved = reserved
        self._shards: dict[int, np.ndarray] = {}

    def batch(self, seed: int, step: int, size: int) -> tuple[list[int], np.ndarray]:
        """Scene indices and their tokens (size, N)."""
        available = int(min(self.pictures, self.first + self.per_step * step)) // SHARD * SHARD
        indices = np.random.default_rng([seed, step]).integers(0, available, size).tolist()
        for k, index in enumerate(indices):
            while self.reserved(index):
                index = (index + 1) % available
            indices[k] = index
        return indices, np.stack([self._shard(i // SHARD)[i % SHARD] for i in indices])

    def _shard(self, shard: int) -> np.ndarray:
        path = shard_path(self.folder, shard)
        if shard not in self._shards:
            while not path.exists():
                print(f"waiting for {path.name}; run the stage {self.folder.name} beside this one", flush=True)
                time.sleep(15)
            self._shards[shard] = np.load(path, allow_pickle=False)
        return self._shards[shard]

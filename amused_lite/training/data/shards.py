"""Shards of encoded samples on disk, plain `.npy` files that are mapped and not read. Knows no picture and no model.

    manifest.json        what was encoded and how, and, once all is done, every shard with its count and hashes
    tokens-00000.npy     (n, N) uint16, tokens of n samples
    text-00000.npy       (n, T) uint16, their captions as text ids
    micro-00000.npy      (n, 5) float32, see `MicroConditioning`
    00000.done           the shard's count, hashes, and what was dropped; written last

A file has its name only when it is whole, so work that is killed anywhere goes on with the first shard without a mark.
A world's folder holds tokens alone, since its captions are said anew each time.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from amused_lite.files.atomic import replace_text, unfinished
from amused_lite.reading import read_json

MANIFEST = "manifest.json"
COLUMNS = ("tokens", "text", "micro")
SHARD = 512  # pictures of a folder or a world in a file; a tar is a shard of its own
_HASHED_BELOW = 2**30  # bytes of all shards together that are compared with their hashes at each opening
_OPEN = 4096  # files mapped at once
_REMEDY = "run amused-lite tokenize again"
_Count = Annotated[int, Meta(ge=0, le=2**40)]
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard."""

    count: _Count
    sha256: dict[str, _Sha256]  # column -> of its file
    dropped: dict[str, _Count] = field(default_factory=dict)  # why -> how many pictures


@dataclass(frozen=True)
class ShardManifest:
    """What a folder of shards holds, and how it was made. `shards` is None until all are there."""

    format_version: Annotated[int, Meta(ge=1, le=1)]
    source: Annotated[str, Meta(max_length=4096)]
    plan: _Sha256  # of all that decides what the shards hold: another one is another data set
    pieces: _Count
    model: Annotated[str, Meta(max_length=1000)]
    preset: Annotated[str, Meta(max_length=1000)]
    codebook: _Sha256  # see `codebook_hash`
    tokenizer: _Sha256
    image_size: Annotated[int, Meta(ge=1, le=8192)]
    tokens: Annotated[int, Meta(ge=1, le=2**16)]  # of a sample
    settings: dict[str, Any]
    shards: tuple[ShardRecord, ...] | None = None

    @property
    def count(self) -> int:
        """Samples in all."""
        return sum(shard.count for shard in self.shards or ())

    @property
    def dropped(self) -> dict[str, int]:
        """Why pictures were left out -> how many."""
        return added(shard.dropped for shard in self.shards or ())


def added(counts: Any) -> dict[str, int]:
    """The sum of several counts, by name."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def column_path(folder: Path, column: str, shard: int) -> Path:
    """The file of one of `COLUMNS`."""
    return folder / f"{column}-{shard:05d}.npy"


def _mark_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.done"


def finished(folder: Path, shard: int) -> ShardRecord | None:
    """The record of a shard that is done; a damaged mark counts as none."""
    try:
        record = read_json(_mark_path(folder, shard), ShardRecord, _REMEDY)
    except (ValueError, FileNotFoundError):
        return None
    there = all(column_path(folder, column, shard).is_file() for column in record.sha256)
    return record if there else None


def write_shard(
    folder: Path, shard: int, columns: Mapping[str, np.ndarray], dropped: Mapping[str, int] | None = None
) -> ShardRecord:
    """Write a shard's files and then its mark.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the shard is then not there.
    """
    for column, values in columns.items():
        path = column_path(folder, column, shard)
        with unfinished(path) as partial:
            try:
                with partial.open("xb") as file:
                    np.save(file, values, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except OSError as error:  # numpy counts bytes and names no file
                raise OSError(f"{path} cannot be written: {error}; make room, then run the same command") from error
    return mark(folder, shard, len(next(iter(columns.values()), ())), tuple(columns), dropped or {})


def mark(folder: Path, shard: int, count: int, columns: Sequence[str], dropped: Mapping[str, int]) -> ShardRecord:
    """Write the mark of a shard whose files are there."""
    hashes = {column: _sha256(column_path(folder, column, shard)) for column in columns}
    record = ShardRecord(count, hashes, dict(dropped))
    replace_text(_mark_path(folder, shard), msgspec.json.encode(record).decode())
    return record


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: ShardManifest) -> None:
    """Write `manifest.json` in place of the one before."""
    replace_text(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)).decode() + "\n")


def read_manifest(folder: Path) -> ShardManifest:
    """The manifest of a folder of shards.

    Raises:
        FileNotFoundError, ValueError: there is none, or it cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder} holds no tokens: it has no {MANIFEST}; make it with amused-lite tokenize")
    return read_json(folder / MANIFEST, ShardManifest, _REMEDY)


def open_shards(folder: Path) -> tuple[ShardManifest, "TokenShards"]:
    """A finished folder of shards, checked: its files have the lengths and, where that is quick, the hashes recorded.

    Raises:
        FileNotFoundError: there is no manifest, or a shard's file is gone.
        ValueError: it is not finished, holds nothing, or a shard is damaged.
    """
    manifest = read_manifest(folder)
    if manifest.shards is None:
        raise ValueError(f"{folder} is not finished; run the same amused-lite tokenize again, it goes on from there")
    if not manifest.count:
        raise ValueError(f"{folder} holds no sample; all pictures were dropped: {manifest.dropped}")
    shards = TokenShards(folder, [shard.count for shard in manifest.shards])
    files = {column_path(folder, c, n): (r, h) for n, r in enumerate(manifest.shards) for c, h in r.sha256.items()}
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; {_REMEDY}, which makes it anew")
    quick = sum(path.stat().st_size for path in files) < _HASHED_BELOW
    for path, (record, expected) in files.items():
        if quick and _sha256(path) != expected:
            mark_name = f"{path.stem.rpartition('-')[2]}.done"
            raise ValueError(f"{path} is damaged: its sha256 differs; delete {mark_name} beside it and {_REMEDY}")
        if record.count:
            shards.check(path, record.count)
    return manifest, shards


class TokenShards:
    """Random access to the samples of shards of known lengths; a file that is not there yet is waited for."""

    def __init__(self, folder: Path, counts: Sequence[int]) -> None:
        self.folder = folder
        self._starts = np.cumsum([0, *counts])
        self._map = lru_cache(_OPEN)(self._opened)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, column: str, samples: np.ndarray) -> np.ndarray:
        """One of `COLUMNS` for these samples, a row each."""
        shards = np.searchsorted(self._starts, samples, "right") - 1
        rows = samples - self._starts[shards]
        return np.stack([self._map(column, int(s))[int(r)] for s, r in zip(shards, rows, strict=True)])

    def check(self, path: Path, count: int) -> None:
        """Raise ValueError unless a file has so many rows."""
        column, _, shard = path.stem.partition("-")
        if len(self._map(column, int(shard))) != count:
            raise ValueError(f"{path} does not hold the {count} samples that {MANIFEST} says; {_REMEDY}")

    def _opened(self, column: str, shard: int) -> np.ndarray:
        path = column_path(self.folder, column, shard)
        while not path.exists():
            print(f"waiting for {path.name}; run the stage {self.folder.name} beside this one", flush=True)
            time.sleep(15)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            reason = " ".join(str(error).split())[:80]
            raise ValueError(f"{path} is damaged or cut short ({reason}); delete it and {_REMEDY}") from error

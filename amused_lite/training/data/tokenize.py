"""Pictures to shards of tokens, by one process, several, or Ray's on many machines; killed anywhere, it goes on.

Every piece of the source becomes one shard, and what it holds follows from the piece alone. So it does not matter who
encodes it, or how often.
"""

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format
from tqdm import tqdm

from amused_lite.console.terminal import printable
from amused_lite.models.vqgan import VQGAN
from amused_lite.system.memory import keep_freed
from amused_lite.training.base_model import BaseModel
from amused_lite.training.data import shards
from amused_lite.training.data.pictures import FAULTS, Chosen, PictureSource, SampleFilter, crops_of, plan_of
from amused_lite.training.data.shards import ShardManifest, ShardRecord

ENCODED_AT_ONCE = 4  # pictures, on a processor: 16 take 1.26 times as long (docs/log.md)
_AT_ONCE_ELSEWHERE = 16
_NAMED = 5  # faults of a kind that are named in a shard; all are counted


@dataclass(frozen=True)
class TokenizeJob:
    """All that a process needs to encode any piece."""

    model: str
    source: PictureSource
    choice: SampleFilter
    out: Path
    device: str = "cpu"
    threads: int | None = None


class PictureEncoder:
    """A model's encoder and tokenizer, opened once in each process."""

    def __init__(self, job: TokenizeJob) -> None:
        keep_freed()
        self.job = job
        self.base = BaseModel.open(job.model, job.threads, job.device)
        self.vqgan = convert_conv2d_weight_memory_format(self.base.networks.vqgan, torch.channels_last)
        self.image_size = self.base.networks.config.image_size
        self.at_once = ENCODED_AT_ONCE if job.device == "cpu" else _AT_ONCE_ELSEWHERE

    def __call__(self, piece: int) -> ShardRecord:
        """Encode a piece, unless that is done, and write its shard."""
        out = self.job.out
        return shards.finished(out, piece) or self._encode(piece)

    def _encode(self, piece: int) -> ShardRecord:
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        dropped: dict[str, int] = {}
        batch: list[Chosen] = []
        for item in self.job.source.items(piece):
            made = crops_of(item, self.job.choice, self.image_size)
            if isinstance(made, str):
                dropped[made] = dropped.get(made, 0) + 1
                if made in FAULTS and dropped[made] <= _NAMED:
                    print(f"amused-lite: warning: {printable(item.name)}: {made}", file=sys.stderr)
            else:
                batch += made
            while len(batch) >= self.at_once:
                kept.append(self._columns(batch[: self.at_once]))
                batch = batch[self.at_once :]
        if batch:
            kept.append(self._columns(batch))
        whole = [np.concatenate(part) for part in zip(*kept, strict=True)]  # none where all was dropped
        return shards.write_shard(self.job.out, piece, dict(zip(shards.COLUMNS, whole, strict=False)), dropped)

    def _columns(self, batch: list[Chosen]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tokens = encode_pixels(self.vqgan, np.stack([one.pixels for one in batch]))
        text = self.base.tokenizer.encode([one.text for one in batch]).astype(np.uint16)
        return tokens, text, np.stack([one.micro for one in batch])


@torch.inference_mode()
def encode_pixels(vqgan: VQGAN, pictures: np.ndarray) -> np.ndarray:
    """Pictures (B, S, S, 3) uint8 to tokens (B, N) uint16."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(next(vqgan.parameters()).device).float() / 255
    # Float32 on purpose: bfloat16 picks another code for more than half of the tokens, those with near twins.
    tokens: Tensor = vqgan.encode_image(pixels.contiguous(memory_format=torch.channels_last))
    return tokens.cpu().numpy().astype(np.uint16)


def tokenize(job: TokenizeJob, workers: int = 1, ray_address: str | None = None) -> ShardManifest:
    """Encode a source, or go on with it; returns the manifest of the finished folder.

    Args:
        job: model, source and folder.
        workers: processes on this machine, each with a copy of the encoder; on a cluster, all together.
        ray_address: of a Ray cluster that does the work instead; "local" starts one here. All its machines must see
            the source and the folder under the same paths.

    Raises:
        FileNotFoundError, ValueError, MissingExtraError: see `BaseModel.open`.
        ValueError: the folder is another data set's.
        OSError: the folder cannot be written, or the disk is full; what is there stays, and the same call goes on.
    """
    encoder = PictureEncoder(job)
    manifest = _begun(job, encoder)
    pieces = range(manifest.pieces)
    missing = [piece for piece in pieces if shards.finished(job.out, piece) is None]
    if ray_address:
        done = _on_ray(job, missing, workers, ray_address)
    else:
        done = map(encoder, missing) if workers == 1 else _in_processes(job, missing, workers)
    for _ in tqdm(done, "shards", len(pieces), initial=len(pieces) - len(missing), disable=None):
        pass
    records = [shards.finished(job.out, piece) for piece in pieces]
    assert None not in records
    manifest = replace(manifest, shards=tuple(record for record in records if record))
    shards.write_manifest(job.out, manifest)
    for partial in job.out.glob(".amused-*.part*"):  # of processes that were killed
        partial.unlink(missing_ok=True)
    return manifest


def _begun(job: TokenizeJob, encoder: PictureEncoder) -> ShardManifest:
    """The manifest that a folder begins with; checked where it has begun.

    Raises:
        ValueError: the folder is another data set's, or holds something else.
    """
    base = encoder.base
    what = {
        "codebook": base.codebook_hash,
        "tokenizer": base.tokenizer.hash,
        "image_size": encoder.image_size,
        "tokens": base.networks.config.uvit.num_tokens,
    }
    plan = plan_of(job.source, job.choice, what)
    remedy = "give another folder, or delete this one to encode it anew"
    if (job.out / shards.MANIFEST).exists():
        kept = shards.read_manifest(job.out)
        if kept.plan != plan:
            said = f"{kept.source} with {kept.model}, {json.dumps(kept.settings)}"
            raise ValueError(f"{job.out} was begun from {said}, or the pictures have changed since; {remedy}")
        return kept
    if job.out.exists() and any(job.out.glob("*.npy")):
        raise ValueError(f"{job.out} holds tokens of something else; {remedy}")
    names = {"source": job.source.name, "model": base.info.name, "preset": base.preset}
    manifest = ShardManifest(1, plan=plan, pieces=job.source.pieces, settings=asdict(job.choice), **names, **what)
    shards.write_manifest(job.out, manifest)
    return manifest


_encoder: PictureEncoder | None = None  # of a worker process


def _start(job: TokenizeJob) -> None:
    global _encoder
    parent = multiprocessing.parent_process()
    if parent:  # a worker whose parent was killed would wait for work for ever
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends the workers
    _encoder = PictureEncoder(job)


def _work(piece: int) -> ShardRecord:
    assert _encoder is not None
    return _encoder(piece)


def _in_processes(job: TokenizeJob, pieces: list[int], workers: int) -> Iterator[ShardRecord]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (job,)) as pool:
        try:
            yield from pool.map(_work, pieces)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _on_ray(job: TokenizeJob, pieces: list[int], workers: int, address: str) -> Iterator[ShardRecord]:
    """Ray Data starts the encoders, moves the pieces to them and replaces workers that die."""
    import ray  # pyright: ignore[reportMissingImports] -- the extra "cluster", which the tests do not need

    # One of this machine alone listens nowhere else.
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **own)
    except Exception as error:  # its own kinds, and plain ones
        reason = " ".join(str(error).split())[:120]
        raise ConnectionError(f"Ray at {address!r} does not answer ({reason}); check the address") from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
    gpus = 1 if job.device.startswith("cuda") else 0
    rows = ray.data.from_items([{"piece": piece} for piece in pieces], override_num_blocks=max(1, len(pieces)))
    encoder: Any = _RayEncoder
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
    made = rows.map(encoder, fn_constructor_args=(job,), compute=pool, num_gpus=gpus, num_cpus=1)
    for row in made.iter_rows():
        yield ShardRecord(row["count"], {})


class _RayEncoder:
    def __init__(self, job: TokenizeJob) -> None:
        self.encoder = PictureEncoder(job)

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        return row | {"count": self.encoder(row["piece"]).count}

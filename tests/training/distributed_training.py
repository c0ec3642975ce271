"""A small training that tests start as one process or several. Arguments: data, run, stop after, shard."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from amused_lite.config import TextConfig, UViTConfig
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.uvit import UViT
from amused_lite.runtimes.open import open_model
from amused_lite.training.data.batches import Batches, ShardSamples
from amused_lite.training.data.shards import open_shards
from amused_lite.training.uvit import UViTLoss, initialize, train_uvit
from amused_lite.training.uvit_config import UViTTrainConfig

UVIT = UViTConfig(
    grid=8, codebook_size=32, vocab_size=40, token_width=16, block_width=16, block_heads=2, res_blocks=1,
    hidden_size=16, layers=2, heads=2, feedforward_width=24, text_width=12, pooled_width=12, micro_width=4,
    resample=True, learned_positions=True,
)  # fmt: skip
TEXT = TextConfig(
    vocab_size=1024, context_length=32, width=12, layers=2, heads=2, feedforward_width=16, projection_width=12,
    start_token_id=1022, end_token_id=1023,
)  # fmt: skip
CONFIG = UViTTrainConfig(
    steps=50, batch=8, accumulation=4, learning_rate=3e-3, warmup=5, clip_norm=1.0, train_text=True, log_every=1
)


def train(data: Path, run: Path, stop_after: int, shard: bool = False) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    uvit, text = UViT(UVIT), CLIPText(TEXT)
    initialize(uvit)
    batches = Batches(CONFIG, ShardSamples(open_shards(data)[1], CONFIG.seed), open_model("tiny")[1])
    train_uvit(UViTLoss(uvit, text, replace(CONFIG, shard=shard)), batches, run, stop_after)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), len(sys.argv) > 4)

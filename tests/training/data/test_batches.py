"""What steps show: shares of empty prompts and hidden tokens, and the same step whoever computes it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amused_lite.runtimes.open import open_model
from amused_lite.training.data.batches import Batch, Batches, MixedSamples, ShardSamples
from amused_lite.training.data.shards import TokenShards, write_shard
from amused_lite.training.uvit_config import UViTTrainConfig

CONFIG = UViTTrainConfig(batch=40, accumulation=4, rectangle_share=0.0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> ShardSamples:
    """100 samples of 256 tokens in two shards; a sample's number is in every column."""
    folder, tokenizer = tmp_path_factory.mktemp("shards"), open_model("tiny")[1]
    for shard, rows in enumerate((range(64), range(64, 100))):
        tokens = np.array([[row] * 256 for row in rows], np.uint16)
        text = tokenizer.encode([f"a {row}" for row in rows]).astype(np.uint16)
        write_shard(
            folder, shard, {"tokens": tokens, "text": text, "micro": np.array([[row] * 5 for row in rows], "f4")}
        )
    return ShardSamples(TokenShards(folder, [64, 36]), seed=3)


@pytest.fixture(scope="module")
def batches(samples: ShardSamples) -> Batches:
    return Batches(CONFIG, samples, open_model("tiny")[1])


def test_columns_stay_together_and_epochs_are_whole(batches: Batches) -> None:
    tokenizer, shown = open_model("tiny")[1], []
    for step in range(5):
        for part in batches.parts(step):
            numbers = part.tokens[:, 0].tolist()
            shown += numbers
            assert part.micro_conditioning[:, 0].tolist() == numbers
            said = torch.from_numpy(tokenizer.encode([f"a {number}" for number in numbers])).long()
            assert ((part.text_ids == said) | (part.text_ids == batches.empty)).all()
    assert sorted(shown[:100]) == sorted(shown[100:]) == [*range(100)]


def test_one_prompt_in_ten_is_empty(batches: Batches) -> None:
    wide = Batches(replace(CONFIG, batch=1000, accumulation=1), batches.source, open_model("tiny")[1])
    empty = sum((part.text_ids == wide.empty).all(1).sum().item() for step in range(10) for part in wide.parts(step))
    assert empty == pytest.approx(1000, abs=100)  # 90 +- 1 % of 10,000 keep theirs; the standard error is 30


def test_hidden_shares_are_the_cosine_of_a_uniform_draw(batches: Batches) -> None:
    wide = Batches(replace(CONFIG, batch=5000, accumulation=1), batches.source, open_model("tiny")[1])
    (part,) = wide.parts(0)
    shares = part.masks.float().mean(1).numpy()
    for count in range(16, 256, 16):  # if r = cos(u pi / 2), then P(r < x) = 1 - 2 acos(x) / pi; between counts
        below = 1 - 2 / math.pi * math.acos((count - 0.5) / 256)
        assert (shares < (count - 0.5) / 256).mean() == pytest.approx(below, abs=0.035)  # five standard errors
    assert shares.mean() == pytest.approx(2 / math.pi, abs=0.022)  # 0.64; five standard errors of 0.31 / 71


def test_a_mixture_keeps_its_weights_and_every_folders_epochs(samples: ShardSamples) -> None:
    few = ShardSamples(TokenShards(samples.shards.folder, [64]), seed=4)
    mixed = MixedSamples([samples, few], [3, 1], seed=3)
    places = [*mixed.places(0, 4000)]
    for source, weight in enumerate((3000, 1000)):
        own = [there for one, there in places if one == source]
        assert sorted(own) == [*range(weight)]  # every place of its stream once: nothing lost, nothing twice
    first = [source for source, _ in places[:1000]]
    assert 180 < sum(first[:800]) < 220 and first[:100] != first[100:200]  # mixed within a block
    shown, cut = mixed.samples(0, 50), [mixed.samples(place, 10) for place in range(0, 50, 10)]
    assert np.array_equal(shown.tokens, np.concatenate([part.tokens for part in cut]))
    for row, (source, there) in enumerate(places[:50]):
        assert np.array_equal(shown.tokens[row], (samples, few)[source].samples(there, 1).tokens[0])
    with pytest.raises(ValueError, match="weights 5000, 1: one is below a thousandth of all"):
        MixedSamples([samples, few], [5000, 1], seed=3)


@pytest.mark.parametrize("asked_share", [None, 0.25])
def test_a_step_is_the_same_for_any_number_of_processes(batches: Batches, asked_share: float | None) -> None:
    some = Batches(replace(CONFIG, asked_share=asked_share), batches.source, open_model("tiny")[1])
    alone = [*some.parts(7)]
    assert sum(part.share for part in alone) == pytest.approx(1)
    for processes in (2, 4):
        shared: list[Batch | None] = [None] * 4
        for process in range(processes):
            shared[process::processes] = some.parts(7, process, processes)
        for one, other in zip(alone, shared, strict=True):
            assert other is not None and one.share == other.share
            assert all(a.equal(b) for a, b in zip(one[:5], other[:5], strict=True))
    with pytest.raises(ValueError, match=r"batch of 40 in 4 parts cannot be shared by 3 processes; choose an accum"):
        next(some.parts(0, 0, 3))


def test_a_damaged_shard_is_named(samples: ShardSamples, tmp_path: Path) -> None:
    (tmp_path / "tokens-00000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"tokens-00000.npy is damaged or cut short .*run amused-lite tokenize again"):
        TokenShards(tmp_path, [3]).read("tokens", np.arange(1))

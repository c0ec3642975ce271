"""Learning a style: every picture counts, gradients are peft's, killed and resumed is the same, memory is saved."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig
from safetensors.torch import load_file
from style_models import RECIPE, data, record, run_all, training
from torch import Tensor, nn

from amused_lite.adapters.convert import _table
from amused_lite.adapters.torch import AttachedAdapter
from amused_lite.config import ModelConfig
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import load_networks
from amused_lite.style.config import TRAIN_CONFIGS
from amused_lite.style.cost import estimate
from amused_lite.style.train import StyleBatch, StyleBatches, StyleStep, prepare, train_style
from amused_lite.training.base_model import CropTokens
from amused_lite.training.loop.fit import TrainingRun
from amused_lite.training.uvit import checkpointed


def gradients(step: nn.Module, attached: nn.Module, batch: StyleBatch) -> list[Tensor]:
    attached.zero_grad(set_to_none=True)
    step(batch).backward()
    return [parameter.grad.clone() for parameter in attached.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("pictures", "batch"), [(1, 1), (3, 2), (10, 1), (10, 4), (2, 5)])
def test_every_picture_comes_up_equally_often(pictures: int, batch: int) -> None:
    batches = StyleBatches(replace(RECIPE, batch=batch), data(pictures), "gold", 64)
    steps = pictures * 4
    shown = [picture for step in range(steps) for picture in batches.pictures(step)]
    counts = np.bincount(shown, minlength=pictures)
    assert counts.sum() == steps * batch
    assert counts.min() == counts.max() == 4 * batch  # whole rounds: exactly equal
    if pictures > 3:
        assert shown[:pictures] != shown[pictures : 2 * pictures]  # each round in an order of its own
    rows = [batches.batch(step) for step in range(steps)]
    for k, row in enumerate(rows):  # and each row's tokens, crop and caption belong together
        for tokens, text, micro in zip(row.tokens, row.texts, row.micro, strict=True):
            crops = batches.data.tokens[text]
            assert batches.captions[text] == f"a boat {int(text)} in gold style"
            assert any(torch.equal(tokens, crop) for crop in crops)
            assert micro.tolist() == [64, 64, 0, 0, 6]
        assert torch.equal(row.masks, batches.batch(k).masks)


def test_each_of_the_pictures_contributes_gradient() -> None:
    """The published PyTorch StyleDrop used the first picture only, for three years."""
    train_config = replace(RECIPE, batch=1)
    step, attached, batches = training(train_config, pictures=5)
    for parameter in attached.parameters():
        nn.init.normal_(parameter, std=0.1)
    changed = StyleBatches(train_config, data(5, seed=1), "gold", 64)
    seen = set()
    for number in range(5):
        (picture,) = batches.pictures(number)
        seen.add(picture)
        ours, others = (gradients(step, attached, b.batch(number)) for b in (batches, changed))
        assert all(gradient.abs().max() > 0 for gradient in ours)
        assert any((a - b).abs().max() > 1e-6 for a, b in zip(ours, others, strict=True))  # its tokens matter
    assert seen == set(range(5))


def test_crops_prior_pictures_and_dropped_prompts_reach_the_batch() -> None:
    told = StyleBatches(replace(RECIPE, tell_crop=True), data(), "gold", 64).batch(0)
    assert all(any(torch.equal(row, micro) for micro in data().micro.flatten(0, 1)) for row in told.micro)
    prior = CropTokens(torch.full((2, 1, 64), 7), torch.zeros(2, 1, 5), ("a cup", "a star"))
    train_config = replace(RECIPE, batch=400, prior_share=0.25, prompt_dropout=0.1)
    batches = StyleBatches(train_config, data(), "gold", 64, prior)
    batch = batches.batch(0)
    own = (batch.tokens == 7).all(1)
    assert own.float().mean().item() == pytest.approx(0.25, abs=0.11)  # five standard errors of 400 draws
    empty = batch.texts == len(batches.captions) - 1
    assert batches.captions[-1] == "" and empty.float().mean().item() == pytest.approx(0.1, abs=0.075)
    said = [batches.captions[text] for text in batch.texts[own & ~empty]]
    assert set(said) == {"a cup", "a star"}  # without words of style
    hidden = StyleBatches(replace(RECIPE, batch=400, smallest_mask=0.5), data(), "gold", 64).batch(0).masks.sum(1)
    plain = StyleBatches(replace(RECIPE, batch=400), data(), "gold", 64).batch(0).masks.sum(1)
    assert hidden.min() == 32 and plain.min() < 10
    assert torch.equal(hidden, plain.clamp_min(32))


def reference(
    uvit: Any, shapes: dict[str, tuple[int, int]], attached: AttachedAdapter, config: ModelConfig, targets: list[str]
) -> dict[str, Any]:
    """The published network with peft's matrices, which get our values; our module -> theirs."""
    uvit.add_adapter(LoraConfig(r=attached.record.rank, lora_alpha=attached.record.alpha, target_modules=targets))
    modules = dict(uvit.named_modules())
    table = _table(config, shapes)
    layers = {path: modules[table[path].name.removesuffix(".weight")] for path in attached.paths}
    for layer, ours in zip(layers.values(), attached.layers, strict=True):
        layer.lora_A["default"].weight.data = ours.down.detach().clone()
        layer.lora_B["default"].weight.data = ours.up.detach().clone()
    return layers


def published_loss(
    uvit: Any, batch: StyleBatch, states: Tensor, pooled: Tensor, mask_token_id: int, codes: int
) -> Tensor:
    """As the published script asks: logits of the whole grid, cross-entropy where hidden."""
    grid = int(batch.tokens.shape[1] ** 0.5)
    ids = batch.tokens.masked_fill(batch.masks, mask_token_id).unflatten(1, (grid, grid))
    labels = batch.tokens.masked_fill(~batch.masks, -100)
    logits = uvit(ids, states, pooled, batch.micro).reshape(len(ids), codes, -1)
    return F.cross_entropy(logits, labels, ignore_index=-100)


def test_gradients_equal_the_published_script_s(tmp_path: Path) -> None:
    uvit: Any = published.make_uvit()
    weights = PublishedWeights(published.save(tmp_path, uvit))
    config, networks = weights.config, load_networks(weights)
    train_config = replace(RECIPE, targets=("attention", "block_attention"), alpha=5.0, tell_crop=True)
    attached = prepare(networks, record(train_config), train_config)
    generator = torch.Generator().manual_seed(0)
    for parameter in attached.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    tokens = torch.randint(64, (2, 3, 64), generator=generator)
    batches = StyleBatches(
        train_config, CropTokens(tokens, 100 * torch.rand(2, 3, 5), ("a boat", "a cup")), "gold", config.image_size
    )
    step = StyleStep(networks, CharacterTokenizer(11), batches.captions, train_config)  # type: ignore[arg-type]
    batch = batches.batch(0)
    ours = gradients(step, attached, batch)

    shapes = {
        path: (len(layer.up), layer.down.shape[1]) for path, layer in zip(attached.paths, attached.layers, strict=True)
    }  # type: ignore[arg-type, union-attr]
    layers = reference(uvit, shapes, attached, config, ["to_q", "to_k", "to_v"])
    states, pooled = (feature[batch.texts] for feature in step.features)
    loss = published_loss(uvit, batch, states, pooled, config.uvit.mask_token_id, config.uvit.codebook_size)
    loss.backward()
    assert step(batch).item() == pytest.approx(loss.item(), rel=1e-5)
    theirs = [
        w.grad for layer in layers.values() for w in (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    ]
    largest = max(gradient.abs().max().item() for gradient in theirs)
    for mine, gradient in zip(ours, theirs, strict=True):  # float32: rounding of a network of 9 layers, backwards
        torch.testing.assert_close(mine, gradient, rtol=1e-3, atol=1e-5 * largest)


class CharacterTokenizer:
    """Ids for the published text tower's 99 entries."""

    def __init__(self, length: int) -> None:
        self.length = length

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = [[97, *(ord(letter) % 90 for letter in text)][: self.length - 1] for text in texts]
        return np.array([row + [98] * (self.length - len(row)) for row in rows], np.int32)


def test_it_learns_and_leaves_the_base_alone(tmp_path: Path) -> None:
    train_config = replace(RECIPE, steps=60, learning_rate=2e-2, targets=("attention", "feedforward", "head", "text"))
    step, attached, _ = training(train_config)
    batches = StyleBatches(train_config, data(codes=3), "gold", 64)
    before = {name: value.clone() for name, value in step.networks.state_dict().items()}

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([step(batches.batch(number)).item() for number in range(10)]))

    first = loss()
    assert train_style(step, attached, batches, TrainingRun(tmp_path)) == "all 60 steps are done"
    assert loss() < 1.4 < first  # nats: ln 3 = 1.1 for pictures of three codes, ln 32 = 3.5 for knowing nothing
    for name, value in step.networks.state_dict().items():
        assert torch.equal(value, before[name])
    attached.weight = 0.0
    assert loss() == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_stopped_and_resumed_is_the_same(optimizer: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    train_config = replace(RECIPE, optimizer=optimizer, rank=128, targets=("feedforward",), learning_rate=1e-2)
    straight, reason = run_all(train_config, tmp_path / "straight")
    assert reason == "all 12 steps are done"
    first, reason = run_all(replace(train_config, steps=5), tmp_path / "parts")
    second, reason = run_all(train_config, tmp_path / "parts")
    assert reason == "all 12 steps are done"
    assert run_all(train_config, tmp_path / "parts")[1] == reason  # nothing left to do
    for a, b, c in zip(straight.parameters(), second.parameters(), first.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_reason_to_stop_ends_it_for_good(tmp_path: Path) -> None:
    asked: list[int] = []

    def watch(steps: int) -> str:
        asked.append(steps)
        return "enough" if steps == 8 else ""

    assert run_all(RECIPE, tmp_path, watch=watch)[1] == "enough"
    assert asked == [4, 8]
    assert run_all(RECIPE, tmp_path, watch=watch)[1] == "enough" and asked == [4, 8]


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from style_models import RECIPE, TrainingRun, StyleStep, run_all
forward = StyleStep.forward
def slowly(self, batch):
    time.sleep(0.05)
    return forward(self, batch)
StyleStep.forward = slowly
TrainingRun.due = lambda self: True
print(run_all(RECIPE, Path(sys.argv[1]))[1])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_anywhere_nothing_is_lost(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    assert how == signal.SIGKILL or output.strip().endswith("None")  # the user's wish, not the end
    assert "adapter.layers.0.up" in load_file(checkpoint)
    resumed, reason = run_all(RECIPE, tmp_path)
    straight, _ = run_all(RECIPE, tmp_path / "straight")
    assert reason == "all 12 steps are done"
    for a, b in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpointing_keeps_less_and_changes_nothing() -> None:
    """The published script's switch did nothing, and later crashed."""
    step, attached, batches = training(RECIPE)
    for parameter in attached.parameters():
        nn.init.normal_(parameter, std=0.1)
    batch, kept = batches.batch(0), {}
    grads = {}
    for enabled in (False, True):
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with (
            checkpointed(step.networks.uvit, enabled),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            loss = step(batch)
        kept[enabled] = sum(sizes)
        attached.zero_grad()
        with checkpointed(step.networks.uvit, enabled):
            loss.backward()
        grads[enabled] = [parameter.grad.clone() for parameter in attached.parameters()]  # type: ignore[union-attr]
    assert kept[True] < 0.5 * kept[False]
    for a, b in zip(*grads.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)  # the same operations, once more
    assert "forward" not in vars(step.networks.uvit.token_side.layers[0])


def test_an_eight_bit_base_gives_nearly_the_same_gradients() -> None:
    pytest.importorskip("bitsandbytes")
    grads = []
    for int8 in (False, True):
        train_config = replace(RECIPE, int8_base=int8)
        step, attached, batches = training(train_config)
        for index, parameter in enumerate(attached.parameters()):
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(index))
        grads.append(torch.cat([gradient.flatten() for gradient in gradients(step, attached, batches.batch(0))]))
        if int8:
            assert type(step.networks.uvit.token_side.layers[0].feedforward.widen).__name__ == "Linear8bitLt"
    # Weights are rounded to 1 / 127 of each row's largest; random networks amplify that to a few per cent.
    assert F.cosine_similarity(grads[0], grads[1], dim=0) > 0.98


def test_the_estimate_measures_and_changes_nothing() -> None:
    step, attached, batches = training(RECIPE)
    before = [parameter.clone() for parameter in attached.parameters()]
    cost = estimate(lambda: step(batches.batch(0)), attached)
    assert 0 < cost.seconds < 60 and (cost.bytes is None or cost.bytes > 50e6)
    for parameter, old in zip(attached.parameters(), before, strict=True):
        assert torch.equal(parameter, old) and parameter.grad is None


def test_published_recipes_keep_the_published_scale() -> None:
    """The README's rates belong to alpha / rank of 32 / 16 and 1 / 16."""
    assert TRAIN_CONFIGS["amused-256"].alpha / TRAIN_CONFIGS["amused-256"].rank == 2
    assert TRAIN_CONFIGS["amused-512"].alpha / TRAIN_CONFIGS["amused-512"].rank == 1 / 16

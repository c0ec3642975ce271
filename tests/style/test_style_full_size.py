"""Learning a style at amused-512's full size, random weights: gradients against the published script's, and cost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from test_style_train import published_loss, reference
from torch import nn

from amused_lite.adapters.lora import AdapterRecord, shapes_of
from amused_lite.adapters.torch import AttachedAdapter
from amused_lite.config import PRESETS
from amused_lite.models import checkpoint_config
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.uvit import UViT
from amused_lite.style.config import TRAIN_CONFIGS
from amused_lite.style.train import StyleBatches
from amused_lite.training.base_model import CropTokens
from amused_lite.training.loss import masked_token_loss

CONFIG = PRESETS["amused-512"]
PUBLISHED_GIGABYTES = 5.6  # what the README says its StyleDrop recipe for 512 takes, on a GPU


@torch.no_grad()
def random_uvit() -> Any:
    values = checkpoint_config.published_configs(CONFIG)["transformer/config.json"]
    with torch.device("meta"):
        uvit = published.UVit2DModel(**{key: value for key, value in values.items() if not key.startswith("_")})
    uvit.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, weight in uvit.named_parameters():
        if weight.ndim == 1 or ".channelwise_norm." in name:
            weight.normal_(float(name.endswith(".weight")), 0.2, generator=generator)
        else:
            width = weight[0].numel() ** -0.5
            weight.uniform_(-1.7 * width, 1.7 * width, generator=generator)
    return uvit.requires_grad_(False)


@pytest.mark.slow
def test_gradients_equal_the_published_script_s_at_full_size(tmp_path: Path) -> None:
    record = AdapterRecord("x", 8, 0.5, ("attention", "block_attention"), "amused-512", "", "")
    shapes = shapes_of(CONFIG, record.targets)
    attached = AttachedAdapter(record, shapes)
    generator = torch.Generator().manual_seed(1)
    for parameter in attached.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator)
    tokens = torch.randint(8192, (1, 1, 1024), generator=generator)
    micro = torch.tensor([[[512.0, 512, 0, 0, 6]]])
    batch = StyleBatches(TRAIN_CONFIGS["amused-512"], CropTokens(tokens, micro, ("a",)), "gold", 512).batch(0)
    states, pooled = torch.randn(1, 77, 768, generator=generator), torch.randn(1, 768, generator=generator)

    uvit = random_uvit()
    uvit.save_pretrained(tmp_path / "transformer", max_shard_size="1GB")
    layers = reference(uvit, shapes, attached, CONFIG, ["to_q", "to_k", "to_v"])
    expected = published_loss(uvit, batch, states, pooled, CONFIG.uvit.mask_token_id, 8192)
    expected.backward()
    theirs = [layer.lora_A["default"].weight.grad for layer in layers.values()]
    theirs += [layer.lora_B["default"].weight.grad for layer in layers.values()]
    del uvit, layers

    for name, values in checkpoint_config.published_configs(CONFIG).items():
        if not name.startswith("transformer"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(json.dumps(values))
    weights = PublishedWeights(tmp_path)
    with torch.device("meta"):
        ours = UViT(CONFIG.uvit)
    ours.prompt_side, ours.token_side = weights.part("uvit.prompt_side"), weights.part("uvit.token_side")
    ours.requires_grad_(False)
    attached.attach(ours, "uvit.")
    asked = batch.masks.flatten().nonzero()[:, 0]
    loss = masked_token_loss(ours, batch.tokens, batch.masks, asked, states, pooled, batch.micro, 0.0)
    loss.backward()
    mine: list[Any] = [layer.down.grad for layer in attached.layers] + [layer.up.grad for layer in attached.layers]
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(mine, theirs, strict=True)]
    print(f"loss {loss.item():.5f}, theirs {expected.item():.5f}")
    print(f"gradients of {len(mine)} matrices: relative error at most {max(errors):.1e}")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert max(errors) < 1e-3  # float32 through 28 blocks and back; the largest error of a whole matrix


COST = """
import sys, time, torch
from dataclasses import replace
from amused_lite.adapters.lora import AdapterRecord
from amused_lite.config import PRESETS
from amused_lite.models.networks import Networks
from amused_lite.adapters.torch import AttachedAdapter, new_adapter
from amused_lite.style.train import *
from amused_lite.style.config import *
from amused_lite.style.cost import *
from amused_lite.training.uvit import checkpointed
from amused_lite.training.base_model import CropTokens
device, checkpointing, int8 = sys.argv[1], sys.argv[2] == "True", sys.argv[3] == "True"
config = PRESETS["amused-512"]
recipe = replace(RECIPES["amused-512"], int8_base=int8)
with torch.device("meta"):
    networks = Networks(config)
networks.vqgan, networks.ranker = torch.nn.Identity(), torch.nn.Identity()
networks.to_empty(device=device)
with torch.no_grad():
    for weight in networks.parameters():
        weight.uniform_(-0.02, 0.02) if weight.ndim > 1 else weight.fill_(1)
class Ids:
    def encode(self, texts):
        import numpy as np
        return np.full((len(texts), 77), 49407, np.int32)
tokens = torch.randint(8192, (2, 2, 1024))
batches = StyleBatches(recipe, CropTokens(tokens, torch.zeros(2, 2, 5), ("a", "b")), "gold", 512)
record = AdapterRecord("x", recipe.rank, recipe.alpha, recipe.targets, "amused-512", "", "")
attached = prepare(networks, record, recipe)
step = StyleStep(networks, Ids(), batches.captions, recipe)
optimizer = make_optimizer(attached, recipe)
with checkpointed(networks.uvit, checkpointing):
    cost = estimate(lambda: step(batches.batch(0)), attached)
print(f"{device} checkpointing {checkpointing} int8 {int8}: {cost.seconds:.1f} s a step, {cost.bytes / 1e9:.2f} GB")
print(cost.bytes)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("checkpointing", "int8"), [(False, False), (True, False), (False, True)])
def test_the_cost_of_a_step(checkpointing: bool, int8: bool) -> None:
    """On this machine, beside what the published recipe takes. The text tower stays in memory; the VQ-GAN does not."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command = [sys.executable, "-c", COST, device, str(checkpointing), str(int8)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(output)
    if not int8:  # on a CPU the float32 matrices are still there while the 8-bit ones are made
        assert int(output.splitlines()[-1]) < PUBLISHED_GIGABYTES * 1e9

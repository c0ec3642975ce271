"""amused-512 at its full size, random weights written by diffusers and transformers themselves: one guided forward."""

import gc
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from diffusers import AmusedScheduler, UVit2DModel, VQModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from amused_lite.conditioning import stack_pair
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.models import checkpoint_config
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.unmask import guide
from amused_lite.runtimes.torch import TorchRuntime

GUIDANCE = 9.0
pytestmark = pytest.mark.slow  # in miniature: test_checkpoint, test_uvit_parity, test_clip_parity, test_vqgan_parity


@torch.no_grad()
def random_model(build: Any, values: dict[str, Any], seed: int) -> nn.Module:
    """One of the libraries' models from a published configuration; about half a second for 100 million weights."""
    with torch.device("meta"):
        model = build(values)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids")
        buffer.copy_(torch.arange(buffer.shape[-1])[None])
    for name, weight in model.named_parameters():
        if weight.ndim == 1 or ".channelwise_norm." in name:
            weight.normal_(float(name.endswith(".weight")), 0.2, generator=generator)
        else:
            width = weight[0].numel() ** -0.5
            weight.uniform_(-1.7 * width, 1.7 * width, generator=generator)
    return model.eval()


def save_part(folder: Path, part: str, build: Any, values: dict[str, Any], seed: int) -> nn.Module:
    """Make a part and let its library save it, in shards as large models come."""
    model = random_model(build, values, seed)
    model.save_pretrained(folder / part, max_shard_size="1GB")  # type: ignore[operator]
    return model


def plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_")}


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """The folder, and what the published code computes from it. Each of its models is gone before the next is made."""
    folder, config = tmp_path_factory.mktemp("amused-512"), PRESETS["amused-512"]
    configs = checkpoint_config.published_configs(config)
    AmusedScheduler(mask_token_id=config.uvit.mask_token_id).save_pretrained(folder / "scheduler")
    found: dict[str, Tensor] = {}

    text_config = plain(configs["text_encoder/config.json"]) | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    text: Any = save_part(
        folder, "text_encoder", lambda v: CLIPTextModelWithProjection(CLIPTextConfig(**v)), text_config, 1
    )
    found["ids"] = torch.full((2, 77), 49407)
    found["ids"][:, 0] = 49406
    found["ids"][1, 1:9] = torch.randint(0, 49406, (8,), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        features = text(found["ids"], output_hidden_states=True)
    del text

    uvit: Any = save_part(
        folder, "transformer", lambda v: UVit2DModel(**v), plain(configs["transformer/config.json"]), 2
    )
    found["tokens"] = published.random_tokens(1, 32, 8256)
    found["micro"] = torch.tensor([[512.0, 512.0, 0.0, 0.0, 6.0]])
    pair = found["tokens"].unflatten(1, (32, 32)).repeat(2, 1, 1)
    with torch.no_grad():
        logits = uvit(pair, features.hidden_states[-2], features.text_embeds, found["micro"].repeat(2, 1))
    negative, prompted = logits.flatten(2).transpose(1, 2).chunk(2)
    found["logits"] = negative + GUIDANCE * (prompted - negative)
    del uvit, logits, negative, prompted

    vqgan: Any = save_part(folder, "vqvae", lambda v: VQModel(**v), plain(configs["vqvae/config.json"]), 3)
    found["codes"] = torch.randint(0, 8192, (1, 16), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        decoded = vqgan.decode(found["codes"], force_not_quantize=True, shape=(1, 4, 4, 64))
        found["pixels"] = decoded.sample.clip(0, 1)
        found["encoded"] = vqgan.quantize(vqgan.encode(found["pixels"]).latents)[2][2]
    gc.collect()
    return folder, found


@torch.no_grad()
def test_guided_forward_equals_diffusers(reference: tuple[Path, dict[str, Tensor]]) -> None:
    folder, found = reference
    start = time.perf_counter()
    weights = PublishedWeights(folder)
    assert weights.config == PRESETS["amused-512"]
    assert isinstance(weights.config, ModelConfig)
    runtime = TorchRuntime(weights)
    ids, micro = found["ids"].int().numpy(), found["micro"].numpy()
    pair = stack_pair(runtime.encode_prompt(ids[:1], micro), runtime.encode_prompt(ids[1:], micro))
    runtime.release("encode_prompt")
    side = weights.part("uvit.token_side")
    conditioning = type(pair)(*(torch.from_numpy(np.ascontiguousarray(array)) for array in pair))
    features = side.features(found["tokens"].int().repeat(2, 1), conditioning)
    logits = side.head(guide(*features.chunk(2), torch.tensor([GUIDANCE])))
    error = relative(logits, found["logits"])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"amused-512, guidance {GUIDANCE}: logits up to {logits.abs().max():.1f}, relative error {error:.1e}")
    print(f"load and run {seconds:.0f} s, peak memory of this process {peak:.1f} GiB")
    assert error <= 1e-4
    assert peak < 12


@torch.no_grad()
def test_decoder_and_encoder_equal_diffusers(reference: tuple[Path, dict[str, Tensor]]) -> None:
    folder, found = reference
    vqgan = PublishedWeights(folder).part("vqgan")
    error = (vqgan.decode_image(found["codes"]) - found["pixels"]).abs().max().item()
    equal = (vqgan.encode_image(found["pixels"])[0] == found["encoded"]).float().mean().item()
    print(f"VQ-GAN at full size: pixels max abs error {error:.1e}, {equal:.0%} of codes equal")
    assert error <= 1e-4
    assert equal == 1

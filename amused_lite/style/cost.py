"""What learning a style costs, measured; and a way to pay less memory. Knows no pictures."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amused_lite.models.networks import Networks
from amused_lite.system.memory import peak_memory


def quantize_base(networks: Networks) -> None:
    """Put the U-ViT's matrices into 8 bits (LLM.int8, Dettmers et al. 2022), in place; for training an adapter beside.

    Raises:
        ImportError: bitsandbytes is not installed; the command asks for it first.
    """
    from bitsandbytes.nn import Linear8bitLt

    for path, linear in list(networks.uvit.named_modules()):
        if isinstance(linear, nn.Linear) and not path.endswith("head"):
            small = Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
            small.load_state_dict({"weight": linear.weight.detach()})
            networks.uvit.set_submodule(path, small.to(linear.weight.device).requires_grad_(False))


class Estimate(NamedTuple):
    """What a training will cost, measured on one step."""

    seconds: float  # a step
    bytes: int | None  # at the most, None where the system does not say


def estimate(loss: Callable[[], Tensor], learned: nn.Module) -> Estimate:
    """Run one step forwards and backwards twice, change nothing, and measure the second.

    Args:
        loss: of one batch.
        learned: whose parameters get gradients.
    """
    cuda = next(learned.parameters()).device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()  # what came before took more, and is over
    for _ in range(2):
        began = time.perf_counter()
        loss().backward()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        for parameter in learned.parameters():
            parameter.grad = None
    return Estimate(seconds, torch.cuda.max_memory_allocated() if cuda else peak_memory())

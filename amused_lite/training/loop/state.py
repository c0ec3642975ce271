"""What a checkpoint holds, as nested dicts of tensors and numbers: optimizers, averaged weights. Knows no file."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from amused_lite.system.extras import require_extra

Kind = TypeVar("Kind")
_TABLE = 256


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists to one dict with dotted keys."""
    if isinstance(tree, dict):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {prefix[:-1]: tree}
    return {k: v for key, value in items for k, v in flatten(value, f"{prefix}{key}.").items()}


def whole(value: Tensor) -> Tensor:
    """A tensor that may be split over processes, gathered; all of them have to ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Any, template: Any) -> Any:
    """A whole tensor, split as the template is."""
    if isinstance(template, DTensor) and isinstance(value, Tensor) and value.shape == template.shape:
        return distribute_tensor(value.to(template.device), template.device_mesh, template.placements)
    return value


def load_like(module: nn.Module, values: dict[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors, into a module that may be split."""
    state = module.state_dict()
    module.load_state_dict({name: like(value, state.get(name)) for name, value in values.items()})


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps per parameter, as a nested dict for `TrainingRun.save`."""
    return {str(index): _copied(state) for index, state in optimizer.state_dict()["state"].items()}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """The same with small tensors of their own: bitsandbytes' share tables of 256 numbers, which a file cannot hold."""
    own = {}
    for key, value in state.items():
        small = isinstance(value, Tensor) and value.numel() <= _TABLE
        own[key] = _copied(value) if isinstance(value, dict) else value.clone() if small else value
    return own


def restore_optimizer(optimizer: torch.optim.Optimizer, values: dict[str, Any], prefix: str = "optimizer") -> None:
    """The inverse of `optimizer_state`, from the flat names of a checkpoint; bitsandbytes keeps numbers among them."""
    state: dict[int, dict[str, Any]] = {}
    owners = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in subset(values, prefix).items():
        index, *path = key.split(".")
        place, value = state.setdefault(int(index), {}), like(value, owners[int(index)])
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def adamw8bit() -> Any:
    """bitsandbytes' AdamW with states in 8 bits (Dettmers et al. 2022).

    Raises:
        MissingExtraError: it is not installed.
    """
    require_extra("style", "8-bit AdamW", "bitsandbytes")
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def subset(values: dict[str, Kind], prefix: str) -> dict[str, Kind]:
    """The entries below `prefix.`, with the prefix taken off."""
    return {k.removeprefix(prefix + "."): v for k, v in values.items() if k.startswith(prefix + ".")}


class Ema:
    """Exponential moving average of a module's parameters, with the usual warm-up of the decay."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.shadow)
        parameters = dict(module.named_parameters())
        torch._foreach_lerp_([self.shadow[n] for n in names], [parameters[n].detach() for n in names], 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])

    @torch.no_grad()
    def restore(self, shadow: dict[str, Tensor]) -> None:
        """Take over averages from a checkpoint; KeyError where one is missing."""
        for name, value in self.shadow.items():
            value.copy_(like(shadow[name], value))

"""One process or many: what accelerate knows of them, in the few words that a trainer needs.

`accelerate launch` and `torchrun` start the processes and say which is which; started plainly, there is one. Every
process reads the same files and computes its own parts of a batch; the first one writes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

Kind = TypeVar("Kind")


def is_first() -> bool:
    """Whether this process writes logs and checkpoints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def any_says(flag: bool) -> bool:
    """Whether any process says so; all get the same answer."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    said = torch.tensor(float(flag), device=device)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said.item())


class Distributed:
    """The processes of a training, and the device of this one."""

    def __init__(self, shard: bool = False) -> None:
        """`shard`: split weights, gradients and optimizers over the processes."""
        from accelerate import Accelerator

        self.shard = shard
        self.accelerator = Accelerator()
        self.process, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device

    def prepare(self, loss: nn.Module, layers: Iterable[nn.Module]) -> nn.Module:
        """The loss as it is called: on this process's device, whole (DDP) or split over the processes (FSDP2).

        Args:
            loss: whose weights learn; optimizers are made afterwards.
            layers: that are split one by one, so that only one at a time is whole.
        """
        loss = loss.to(self.device)
        if self.processes == 1:
            return loss
        if not self.shard:
            return self.accelerator.prepare(loss)
        mesh = init_device_mesh(self.device.type, (self.processes,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(loss, mesh=mesh)
        return loss

    def tracker(self, name: str, folder: Path) -> Callable[[int, dict[str, float]], object] | None:
        """What a tracker wants to be told of each line of the log; None without a name.

        Raises:
            ValueError: accelerate does not know it, or it is not installed.
        """
        if not name:
            return None
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

        chosen = filter_trackers([name], folder) if name in LOGGER_TYPE_TO_CLASS else []
        if not chosen:
            raise ValueError(f"tracker {name!r} is not known or not installed; pip install {name}, or leave it out")
        self.accelerator.log_with, self.accelerator.project_configuration.logging_dir = chosen, str(folder)
        self.accelerator.init_trackers("amused-lite")
        return lambda step, values: self.accelerator.log(values, step)

    def marked_last(self, parts: Iterable[Kind]) -> Iterator[tuple[bool, Kind]]:
        """Each part, and whether it is the last: gradients are gathered once, behind it."""
        before: list[Kind] = []
        for part in parts:
            if before:
                yield False, before.pop()
            before.append(part)
        yield True, before.pop()

    def gathering(self, model: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """Within, backward gathers gradients from all processes only if `now`."""
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(now)
            return nullcontext()
        return nullcontext() if now or self.processes == 1 else self.accelerator.no_sync(model)

    def sum(self, value: float) -> float:
        """The sum over all processes."""
        if self.processes == 1:
            return value
        total: Any = self.accelerator.reduce(torch.tensor(value, device=self.device), "sum")
        return float(total)

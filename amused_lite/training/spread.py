"""One process or many: what accelerate knows of them, in the few words that a trainer needs.

`accelerate launch` and `torchrun` start the processes and say which is which; started plainly, there is one. Every
process reads the same files and computes its own parts of a batch; the first one writes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from amused_lite.training.uvit import Optimizers

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


class Spread:
    """The processes of a training, and the device of this one."""

    def __init__(self) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator()
        self.process, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device

    def prepare(self, loss: nn.Module, optimizers: "Optimizers") -> nn.Module:
        """The loss as it is called: spread over the processes, weights and optimizers with it."""
        if self.processes == 1:
            return loss.to(self.device)
        names = list(optimizers.parts)
        made = self.accelerator.prepare(loss, *(optimizer for optimizer, _ in optimizers.parts.values()))
        for name, optimizer in zip(names, made[1:], strict=True):
            optimizers.parts[name] = (optimizer, optimizers.parts[name][1])
        return made[0]

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
        return nullcontext() if now or self.processes == 1 else self.accelerator.no_sync(model)

    def sum(self, value: float) -> float:
        """The sum over all processes."""
        if self.processes == 1:
            return value
        total: Any = self.accelerator.reduce(torch.tensor(value, device=self.device), "sum")
        return float(total)

    def whole(self, value: Tensor) -> Tensor:
        """A figure of parameters, where they are split over processes."""
        return value.full_tensor() if hasattr(value, "full_tensor") else value  # type: ignore[operator]

"""A training run on disk: a log that grows, checkpoints that resume, a plot of the loss. Knows no model.

Nothing here is pickled: tensors go into safetensors, numbers into its JSON header. Trainers derive every random
draw from (seed, step), so that step and weights are the whole state, and a killed run continues as if it had not been.
"""

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from amused_lite.reading import convert, parse_object
from amused_lite.training.loop.distributed import any_says, is_first
from amused_lite.training.loop.sharded import forget_split, split_file, split_tensors, write_split
from amused_lite.training.loop.state import Ema, flatten, optimizer_state, restore_optimizer, subset


def use_threads(count: int | None) -> None:
    """Set torch's threads for the whole process; None leaves them."""
    if count is not None:
        torch.set_num_threads(count)


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A torch generator that depends only on its three keys."""
    mixed = np.random.Philox(key=np.array([seed, (step << 8) | stream], np.uint64)).random_raw(1)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))


class _Step(Struct):
    step: Annotated[int, Meta(ge=0, le=2**40)]


class TrainingRun:
    """A folder with `log.jsonl`, `checkpoint.safetensors` and whatever the trainer adds.

    Args:
        folder: made if absent; a run that is already there continues.
        minutes_between_checkpoints: a checkpoint is also written at the end and on Ctrl-C or SIGTERM.
    """

    def __init__(self, folder: Path, minutes_between_checkpoints: float = 3.0) -> None:
        self.folder = folder
        self.interval = 60 * minutes_between_checkpoints
        self.stop_requested = False
        self.also_log: Callable[[int, dict[str, float]], object] | None = None  # a tracker's
        self._saved = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def steps(self, first: int, last: int) -> Iterator[int]:
        """Yield step numbers until `last`, or until the user or the system asks to stop; twice means at once.

        Only the main thread hears signals; elsewhere, set `stop_requested`.
        """
        before: dict[int, Any] = {}

        def request(number: int, frame: Any) -> None:
            if self.stop_requested:
                if callable(before.get(number)):
                    before[number](number, frame)  # the program's own way to end
                raise KeyboardInterrupt
            self.stop_requested = True
            print(f"\nstopping after this step (signal {number}); the run continues when started again", flush=True)

        here = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if here else ()
        for number in numbers:
            before[number] = signal.signal(number, request)
        try:
            for step in range(first, last):
                if any_says(self.stop_requested):
                    return
                yield step
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def log(self, step: int, **values: float) -> None:
        """Append one line and print it, where this process is the first."""
        if not is_first():
            return
        line = {"step": step, "time": round(time.time(), 1)} | {k: round(float(v), 5) for k, v in values.items()}
        if self.also_log:
            self.also_log(step, values)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        tqdm.write(" ".join(f"{key} {value}" for key, value in line.items() if key != "time"))  # above the bar
        sys.stdout.flush()

    def due(self) -> bool:
        """Whether it is time for a checkpoint; all processes get the same answer."""
        return any_says(self.stop_requested or time.monotonic() - self._saved > self.interval)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write `state` (nested dicts of tensors and numbers) so that a crash leaves the old or the new file.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        self._saved = time.monotonic()
        flat = flatten(state)
        tensors = {key: value.detach().contiguous() for key, value in flat.items() if isinstance(value, Tensor)}
        numbers = {key: value for key, value in flat.items() if not isinstance(value, Tensor)}
        if split := split_tensors(tensors):
            write_split(self.folder, step, split)
        if not is_first():
            return
        tensors = {key: value for key, value in tensors.items() if key not in split}
        temporary = self.checkpoint.with_suffix(".part")
        try:
            save_file(tensors, temporary, metadata={"numbers": json.dumps(numbers | {"step": step})})
            os.replace(temporary, self.checkpoint)
            forget_split(self.folder, step)
        except SafetensorError as error:  # what its library makes of a full disk
            raise OSError(f"{self.checkpoint} cannot be written: {error}; make room, then start it again") from error
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """(step, tensors, numbers) of the last checkpoint, or None at the start of a run."""
        if not self.checkpoint.exists():
            return None
        where, remedy = f"{self.checkpoint}: numbers", self._remedy
        tensors: dict[str, Tensor] = {}
        try:
            with safe_open(self.checkpoint, "pt") as file:
                values = parse_object((file.metadata() or {}).get("numbers", ""), where, remedy)
                tensors |= {key: file.get_tensor(key) for key in file.keys()}
            step = convert(values, _Step, where, remedy, closed=False).step
            if (split := split_file(self.folder, step)).exists():
                with safe_open(split, "pt") as file:
                    tensors |= {key: file.get_tensor(key) for key in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{self.checkpoint} is damaged or cut short ({error}); {remedy}") from error
        numbers = convert(values, dict[str, bool | int | float | str | None], where, remedy)
        return step, tensors, {key: value for key, value in numbers.items() if key != "step"}

    @property
    def _remedy(self) -> str:
        return f"remove {self.folder} to start anew"

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """What a checkpoint holds is taken over in here: what does not fit is the file's fault, and said so.

        Raises:
            ValueError: the checkpoint is of another training.
        """
        try:
            yield
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{self.checkpoint} does not fit this training ({reason}); {self._remedy}") from error

    def resume(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """As `load`, for a trainer that goes on: log lines of steps that will run again are dropped."""
        saved = self.load()
        if saved:
            self._forget_after(saved[0])
        return saved

    def _forget_after(self, step: int) -> None:
        if not is_first():
            return
        log = self.folder / "log.jsonl"
        if log.exists():
            lines = [line for line in log.read_text().splitlines() if _step_of(line) < step]
            log.write_text("".join(line + "\n" for line in lines))

    def plot(self, *names: str) -> None:
        """Draw the named columns of the log over the steps into `loss.png`."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        lines = [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]
        figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.2), squeeze=False)
        for axis, name in zip(axes[0], names, strict=True):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axis.plot(*zip(*points, strict=True), linewidth=1)
            axis.set(xlabel="step", ylabel=name)
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(self.folder / "loss.png", dpi=110)
        plt.close(figure)


def _step_of(line: str) -> float:
    """Of a line of the log; infinity where it was cut off by a kill or a full disk."""
    try:
        return msgspec.json.decode(line, type=_Step).step
    except msgspec.MsgspecError:
        return math.inf


class Trainer(Protocol):
    """What `fit` needs of one kind of training; `ModuleTrainer` has `state` and `restore` for most.

    `step` updates the weights once and returns figures for the log, `loss` among them; every draw follows from its
    number. `state` gives nested dicts of tensors and numbers: all that a training that goes on needs. `restore` takes
    them back, flat as `TrainingRun.load` returns them.
    """

    def step(self, number: int) -> dict[str, float]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None: ...


def fit(
    run: TrainingRun,
    trainer: Trainer,
    steps: int,
    log_every: int = 50,
    log_first: bool = True,
    mean: bool = False,
    stop_after: int | None = None,
    after_step: Callable[[int], str] | None = None,
) -> str | None:
    """Train, or go on training, to the end of `steps`: resume, update, log, save.

    Args:
        run: keeps the log and the checkpoints.
        steps: of the whole training.
        log_every: steps between lines of the log; the last step has one as well.
        log_first: the lines are those of steps 0, n, 2n ... instead of n - 1, 2n - 1 ...
        mean: log the mean of the losses since the last line in place of the last loss.
        stop_after: end this session after so many steps.
        after_step: called with the number of steps done, after the log; a reason from it ends the training.

    Returns:
        Why it ended, or None when it was stopped before.

    Raises:
        ValueError: the folder holds another training, or a damaged one; or the loss is no number any more.
    """
    first, losses, reason = 0, [], ""
    if saved := run.resume():
        first, tensors, numbers = saved
        with run.restoring():
            trainer.restore(tensors, numbers)
        losses = [value for key, value in numbers.items() if key.startswith("losses.")]
        reason = numbers.get("reason", "")
    end = f"all {steps} steps are done"
    if first >= steps or reason:
        return reason or end
    last = min(steps, first + stop_after) if stop_after else steps
    with tqdm(total=steps, initial=first, desc="training", unit="step", disable=None) as bar:
        for number in run.steps(first, last):
            figures, done = trainer.step(number), number + 1
            _check_finite(run, number, figures)
            losses.append(figures["loss"])
            bar.update()
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
            if done == steps or (number if log_first else done) % log_every == 0:
                run.log(number, **figures | ({"loss": float(np.mean(losses))} if mean else {}))
                losses.clear()
            reason = after_step(done) if after_step else ""
            if run.due() or done == last or reason:
                kept = {"losses": losses} if mean else {}
                run.save(done, trainer.state() | kept | ({"reason": reason} if reason else {}))
            if reason or done == steps:
                return reason or end
    return None


def _check_finite(run: TrainingRun, step: int, figures: dict[str, float]) -> None:
    """Raise ValueError where a training has gone wrong, before that is saved."""
    if bad := [name for name in ("loss", "norm") if not math.isfinite(figures.get(name, 0.0))]:
        kept = f"{run.checkpoint} is from before" if run.checkpoint.exists() else "no checkpoint was written yet"
        raise ValueError(f"step {step}: the {bad[0]} is {figures[bad[0]]}; {kept}; go on with a lower learning rate")


class ModuleTrainer:
    """A module and its optimizer, with averaged weights where `ema` is given; a subclass has the step."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None) -> None:
        self.module, self.optimizer, self.ema = module, optimizer, ema

    def update(self, loss: Tensor, rate: float, step: int) -> float:
        """One step down the loss at this learning rate; returns the norm of the gradients, which are clipped to 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.module, step)
        return norm.item()

    def average(self) -> None:
        """Put the averaged weights into the module."""
        assert self.ema is not None
        self.ema.copy_to(self.module)

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        average = {"ema": self.ema.shadow} if self.ema else {}
        return {"model": self.module.state_dict(), "optimizer": optimizer_state(self.optimizer), **average}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.module.load_state_dict(subset(tensors, "model"))
        restore_optimizer(self.optimizer, tensors, "optimizer")
        if self.ema:
            self.ema.shadow = subset(tensors, "ema")

"""Train the U-ViT on token grids and captions. Knows no pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from amused_lite.adapters.torch import AttachedAdapter
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.uvit import UViT
from amused_lite.system.memory import keep_freed
from amused_lite.training.data.batches import Batch, Batches
from amused_lite.training.loop.distributed import Distributed
from amused_lite.training.loop.fit import TrainingRun, fit
from amused_lite.training.loop.state import Ema, adamw8bit, load_like, optimizer_state, restore_optimizer, subset, whole
from amused_lite.training.loss import masked_token_loss
from amused_lite.training.uvit_config import UViTTrainConfig


class Optimizers:
    """One AdamW, or Muon for the matrices and AdamW for the rest, on one schedule."""

    def __init__(self, model: nn.Module, train_config: UViTTrainConfig) -> None:
        self.train_config = train_config
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        plain = [p for name, p in named if p.ndim < 2 or "embedding." in name or "positions" in name]
        matrices = [(name, p) for name, p in named if not any(p is other for other in plain)]
        # Muon is for hidden matrices: the head, and the modulation that starts at zero, stay with AdamW.
        hidden = [p for name, p in matrices if p.ndim == 2 and "modulation" not in name and ".head.weight" not in name]
        muon = hidden if train_config.optimizer == "muon" else []
        decayed = [p for _, p in matrices if not any(p is other for other in muon)]
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        rate, decay = train_config.learning_rate, train_config.weight_decay
        adamw = adamw8bit() if train_config.optimizer == "adamw8bit" else partial(torch.optim.AdamW, fused=True)
        optimizer = adamw(groups, lr=rate, betas=train_config.betas, weight_decay=decay)
        self.parts: dict[str, tuple[torch.optim.Optimizer, float]] = {"adamw": (optimizer, rate)}
        if muon:
            rate = train_config.muon_learning_rate
            optimizer = torch.optim.Muon(muon, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self.parts["muon"] = (optimizer, rate)

    def step(self, step: int) -> float:
        """Set the rate for this step, update, clear; returns the schedule's factor."""
        train_config = self.train_config
        factor = min(1.0, (step + 1) / max(1, train_config.warmup))
        if train_config.cooldown:
            factor = min(factor, (train_config.steps - step) / train_config.cooldown)
        for optimizer, rate in self.parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return factor

    def state(self) -> dict[str, object]:
        return {name: optimizer_state(optimizer) for name, (optimizer, _) in self.parts.items()}

    def restore(self, values: dict[str, Any]) -> None:
        for name, (optimizer, _) in self.parts.items():
            restore_optimizer(optimizer, values, f"optimizer.{name}")


def initialize(model: UViT) -> None:
    """Truncated normal matrices as in open-muse; modulation starts at zero, residual branches start small."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d | nn.ConvTranspose2d):
            fan_in = module.weight[0].numel()
            deviation = 0.02 if isinstance(module, nn.Embedding) else min(0.04, fan_in**-0.5)
            nn.init.trunc_normal_(module.weight, std=deviation)
        if "modulation" in name and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
        if name.endswith((".out", ".narrow")) and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)


def initialize_text(text: CLIPText) -> None:
    """Words must not drown in what the layers add: embeddings are large beside it (docs/log.md)."""
    for name, parameter in text.named_parameters():
        if name == "embedding.weight":
            nn.init.normal_(parameter, std=1.0)
        elif name == "positions":
            nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)


@contextmanager
def checkpointed(uvit: UViT, enabled: bool = True) -> Iterator[None]:
    """While inside, the U-ViT's layers keep no activations and compute them again in the backward pass."""
    side = uvit.token_side
    layers = [*side.layers, side.down_block, side.up_block] if enabled else []
    for layer in layers:
        forward = layer.forward
        layer.forward = lambda *inputs, forward=forward: checkpoint(forward, *inputs, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


class UViTLoss(nn.Module):
    """A part of a batch -> its share of the step's loss, in bfloat16 arithmetic.

    All that takes part is inside, so that one wrapper spreads it over processes.
    """

    def __init__(
        self, uvit: UViT, text: CLIPText, train_config: UViTTrainConfig, adapter: AttachedAdapter | None = None
    ) -> None:
        """`adapter`: attached to the U-ViT; it alone learns."""
        super().__init__()
        self.uvit, self.text, self.adapter, self.train_config = uvit, text, adapter, train_config
        self.requires_grad_(False)
        self.trained.requires_grad_(True)
        self._through_text, self._token_loss = _text_and_token_loss, masked_token_loss
        if train_config.compile:
            self._through_text, self._token_loss = torch.compile(_text_and_token_loss), torch.compile(masked_token_loss)

    @property
    def trained(self) -> nn.Module:
        """What learns, under the names that checkpoints have."""
        if self.adapter is not None:
            return self.adapter
        return nn.ModuleDict({"uvit": self.uvit, "text": self.text}) if self.train_config.train_text else self.uvit

    def forward(self, batch: Batch) -> Tensor:
        """A scalar; those of a step's parts add up to the mean over all tokens asked in it."""
        tokens, masks, asked, text_ids, micro, share = batch
        smoothing, device = self.train_config.label_smoothing, tokens.device.type
        if self.train_config.train_text:
            # The fused attention's backward is slow at these lengths (docs/log.md).
            with torch.autocast(device, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                loss = self._through_text(self.text, self.uvit, tokens, masks, asked, text_ids, micro, smoothing)
        else:
            with torch.no_grad():
                states, pooled = self.text(text_ids)
            with torch.autocast(device, torch.bfloat16):
                loss = self._token_loss(
                    self.uvit, tokens, masks, asked, states, pooled, micro, label_smoothing=smoothing
                )
        return loss * share


def _text_and_token_loss(
    text: CLIPText,
    uvit: UViT,
    tokens: Tensor,
    masks: Tensor,
    asked: Tensor,
    text_ids: Tensor,
    micro: Tensor,
    smoothing: float,
) -> Tensor:
    states, pooled = text(text_ids)
    return masked_token_loss(uvit, tokens, masks, asked, states, pooled, micro, smoothing)


class UViTTrainer:
    """What learns of a U-ViT and its text tower, with optimizers and averaged weights; on one process or many."""

    def __init__(self, loss: UViTLoss, batches: Batches) -> None:
        self.train_config, self.batches = loss.train_config, batches
        self.trained, self.distributed = loss.trained, Distributed(self.train_config.shard)
        self.loss_of = self.distributed.prepare(loss, loss.uvit.token_side.layers)
        self.optimizers = Optimizers(self.trained, self.train_config)
        self.ema = Ema(self.trained, self.train_config.ema_decay)

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        config, distributed, total = self.train_config, self.distributed, 0.0
        parts = self.batches.parts(number, distributed.process, distributed.processes)
        for last, part in distributed.marked_last(parts):
            with distributed.gathering(self.loss_of, last):
                loss = self.loss_of(part.to(distributed.device))
                (loss * distributed.processes).backward()  # gradients are averaged over processes, and should add up
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), config.clip_norm or float("inf"))
        factor = self.optimizers.step(number)
        self.ema.update(self.trained, number)
        return {"loss": distributed.sum(total), "rate": factor, "norm": whole(norm).item()}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, what learns has its averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in self.trained.named_parameters()}
        self.ema.copy_to(self.trained)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.trained.named_parameters():
                    parameter.copy_(own[name])

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {"model": self.trained.state_dict(), "ema": self.ema.shadow, "optimizer": self.optimizers.state()}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        load_like(self.trained, subset(tensors, "model"))
        self.ema.restore(subset(tensors, "ema"))
        self.optimizers.restore(tensors | numbers)


def train_uvit(
    loss: UViTLoss,
    batches: Batches,
    folder: Path,
    stop_after: int | None = None,
    watch: Callable[[UViTTrainer, int], None] | None = None,
    tracker: str = "",
) -> bool:
    """Train, or go on training, in `folder`; what learns has its averaged weights then. Returns whether it is done.

    Args:
        loss: of what a new run starts from; a run that is there already brings its own weights.
        stop_after: end this session after so many steps; the schedule stays that of the whole training.
        watch: called with the steps done, at the start of a session and after every step.
        tracker: one that accelerate knows, beside the log.

    Raises:
        ValueError: see `fit` and `Batches.parts`.
    """
    keep_freed()
    trainer, config = UViTTrainer(loss, batches), loss.train_config
    run = TrainingRun(folder)
    run.also_log = trainer.distributed.tracker(tracker, folder)

    def after_step(done: int) -> str:
        if watch:
            watch(trainer, done)
        return ""

    if not run.checkpoint.exists():
        after_step(0)
    with checkpointed(loss.uvit, config.checkpointing):
        reason = fit(
            run, trainer, config.steps, config.log_every, mean=True, stop_after=stop_after, after_step=after_step
        )
    trainer.ema.copy_to(trainer.trained)
    loss.eval()
    return reason is not None

"""Train the U-ViT on token grids and captions. Knows no pixels.

The published recipe (aMUSEd, section 4.1; open-muse's configurations) is the default; the tiny preset's differs where a
measurement in docs/bundled-model.md says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from amused_lite.models.clip_text import CLIPText
from amused_lite.models.uvit import UViT
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.loop import Ema, TrainingRun, fit, optimizer_state, restore_optimizer, step_generator, subset
from amused_lite.training.loss import ask, draw_masks, masked_token_loss


@dataclass(frozen=True)
class UViTTrainConfig:
    """How the masked transformer is trained. Defaults are amused-512's published settings."""

    steps: int = 554_000
    batch: int = 1024
    accumulation: int = 1  # the batch is split into this many parts
    optimizer: str = "adamw"  # or "muon" for the matrices of the layers (Jordan et al. 2024)
    learning_rate: float = 1e-4
    muon_learning_rate: float = 0.0
    warmup: int = 2000
    cooldown: int = 0  # last steps, over which the rate falls linearly to zero
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    label_smoothing: float = 0.1
    prompt_dropout: float = 0.1
    rectangle_share: float = 0.15
    ema_decay: float = 0.9999
    asked_share: float | None = None  # of all tokens, how many hidden ones carry the loss; None means every hidden one
    train_text: bool = False  # the text tower learns too, from this loss
    compile: bool = False
    log_every: int = 50
    seed: int = 3


RECIPES = {
    "amused-512": UViTTrainConfig(),
    "amused-256": UViTTrainConfig(steps=1_000_000, batch=2048),
    "tiny": UViTTrainConfig(
        steps=12_000,
        batch=16,
        optimizer="muon",
        learning_rate=1.5e-3,
        muon_learning_rate=3e-3,
        warmup=200,
        cooldown=2_500,
        betas=(0.9, 0.98),
        clip_norm=1.0,
        label_smoothing=0.0,
        ema_decay=0.999,
        asked_share=0.25,
        compile=True,
    ),
}
RECIPES["storybook"] = replace(RECIPES["tiny"], steps=40_000, cooldown=8_000, train_text=True)


def drop_prompts(captions: list[str], share: float, generator: torch.Generator) -> list[str]:
    """Each caption is replaced by the empty one with probability `share`."""
    dropped = torch.rand(len(captions), generator=generator) < share
    return ["" if drop else caption for caption, drop in zip(captions, dropped.tolist(), strict=True)]


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
        self.parts: dict[str, tuple[torch.optim.Optimizer, float]] = {
            "adamw": (
                torch.optim.AdamW(
                    groups,
                    lr=train_config.learning_rate,
                    betas=train_config.betas,
                    weight_decay=train_config.weight_decay,
                    fused=True,
                ),
                train_config.learning_rate,
            )
        }
        if muon:
            rate = train_config.muon_learning_rate
            optimizer = torch.optim.Muon(
                muon, lr=rate, weight_decay=train_config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.parts["muon"] = (optimizer, rate)

    def step(self, step: int) -> float:
        """Set the rate for this step, update, clear; returns the schedule's factor."""
        train_config = self.train_config
        factor = min(1.0, (step + 1) / train_config.warmup)
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

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, (optimizer, _) in self.parts.items():
            restore_optimizer(optimizer, tensors, f"optimizer.{name}")


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


class Samples(NamedTuple):
    """Samples of one step: captions, tokens and micro-conditioning."""

    captions: list[str]
    tokens: np.ndarray  # (B, N) codebook indices
    micro_conditioning: np.ndarray  # (B, 5) float32, see `MicroConditioning`


class SampleSource(Protocol):
    """Where training samples come from: the same ones for the same numbers, whatever came before."""

    def samples(self, seed: int, step: int, size: int) -> Samples:
        """The samples of one step."""
        ...


class Batch(NamedTuple):
    """One batch, or its share of an accumulated one: what is shown, what is hidden and what is asked."""

    tokens: Tensor  # (B, N)
    masks: Tensor  # (B, N), True where hidden
    asked: Tensor  # (M,) flat positions that carry the loss
    text_ids: Tensor  # (B, T)
    micro_conditioning: Tensor  # (B, 5)


class Batches:
    """Deterministic batches: every draw follows from (seed, step)."""

    def __init__(self, train_config: UViTTrainConfig, source: SampleSource, tokenizer: Tokenizer) -> None:
        self.train_config, self.source, self.tokenizer = train_config, source, tokenizer

    def parts(self, step: int) -> Iterable[Batch]:
        """The step's batch, split for accumulation."""
        train_config = self.train_config
        generator = step_generator(train_config.seed, step)
        samples = self.source.samples(train_config.seed, step, train_config.batch)
        captions = drop_prompts(samples.captions, train_config.prompt_dropout, generator)
        tokens = torch.from_numpy(samples.tokens.astype(np.int64))
        masks = draw_masks(train_config.batch, int(tokens.shape[1] ** 0.5), train_config.rectangle_share, generator)
        text_ids = torch.from_numpy(self.tokenizer.encode(captions)).long()
        micro = torch.from_numpy(samples.micro_conditioning)
        for part in torch.arange(train_config.batch).chunk(train_config.accumulation):
            hidden = masks[part]
            if train_config.asked_share is None:
                asked = hidden.flatten().nonzero()[:, 0]
            else:
                asked = ask(hidden, int(train_config.asked_share * hidden.numel()), generator)
            yield Batch(tokens[part], hidden, asked, text_ids[part], micro[part])


def _text_and_token_loss(text: CLIPText, uvit: UViT, batch: Batch, label_smoothing: float) -> Tensor:
    tokens, masks, asked, text_ids, micro = batch
    states, pooled = text(text_ids)
    return masked_token_loss(uvit, tokens, masks, asked, states, pooled, micro, label_smoothing)


def make_loss(text: CLIPText, uvit: UViT, train_config: UViTTrainConfig) -> Callable[[Batch], Tensor]:
    """The loss of a batch, in bfloat16: through the text tower where that learns too, else with its features."""

    def joint(batch: Batch) -> Tensor:
        # The fused attention's backward is slow at these lengths (docs/log.md).
        with torch.autocast(batch.tokens.device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            return through_text(text, uvit, batch, train_config.label_smoothing)

    def frozen(batch: Batch) -> Tensor:
        tokens, masks, asked, text_ids, micro = batch
        with torch.no_grad():
            states, pooled = text(text_ids)
        with torch.autocast(tokens.device.type, torch.bfloat16):
            return token_loss(
                uvit, tokens, masks, asked, states, pooled, micro, label_smoothing=train_config.label_smoothing
            )

    through_text, token_loss = _text_and_token_loss, masked_token_loss
    if train_config.compile:
        through_text, token_loss = torch.compile(through_text), torch.compile(token_loss)
    return joint if train_config.train_text else frozen


class UViTTrainer:
    """The U-ViT, with the text tower where that learns too, their optimizers and averaged weights."""

    def __init__(self, model: UViT, text: CLIPText, train_config: UViTTrainConfig, batches: Batches) -> None:
        self.train_config, self.batches = train_config, batches
        self.trained = nn.ModuleDict({"uvit": model, "text": text.train()}) if train_config.train_text else model
        self.optimizers = Optimizers(self.trained, train_config)
        self.ema = Ema(self.trained, train_config.ema_decay)
        self.loss_of = make_loss(text, model, train_config)

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        train_config, total = self.train_config, 0.0
        for part in self.batches.parts(number):
            loss = self.loss_of(part)
            (loss / train_config.accumulation).backward()
            total += loss.item() / train_config.accumulation
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), train_config.clip_norm or float("inf"))
        factor = self.optimizers.step(number)
        self.ema.update(self.trained, number)
        return {"loss": total, "rate": factor, "norm": float(norm)}

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {"model": self.trained.state_dict(), "ema": self.ema.shadow, "optimizer": self.optimizers.state()}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.trained.load_state_dict(subset(tensors, "model"))
        self.ema.shadow = subset(tensors, "ema")
        self.optimizers.restore(tensors)


def train_uvit(
    model: UViT,
    text: CLIPText,
    train_config: UViTTrainConfig,
    batches: Batches,
    folder: Path,
    stop_after: int | None = None,
) -> UViT:
    """Train, or go on training, the U-ViT in `folder`; returns the averaged weights in evaluation mode.

    Args:
        model: what a new run starts from; a run that is there already brings its own weights.
        text: the tower that reads the captions; it learns too with `recipe.train_text`.
        stop_after: end this session after so many steps; the schedule stays that of `recipe.steps`.
    """
    trainer = UViTTrainer(model, text, train_config, batches)
    fit(TrainingRun(folder), trainer, train_config.steps, train_config.log_every, mean=True, stop_after=stop_after)
    trainer.ema.copy_to(trainer.trained)
    text.eval()
    return model.eval()

"""Learn a style from a few pictures: a small adapter beside the frozen U-ViT (StyleDrop, Sohn et al. 2023).

The loss is the one the network was trained with (`training.loss`); only the adapter's matrices are trained.
Everything random follows from (seed, step), so a killed training goes on as if nothing had happened.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from amused_lite.adapters.lora import AdapterRecord
from amused_lite.adapters.torch import AttachedAdapter, new_adapter
from amused_lite.conditioning import MicroConditioning
from amused_lite.models.networks import Networks
from amused_lite.style.config import StyleTrainConfig
from amused_lite.style.cost import quantize_base
from amused_lite.style.data import in_turn, styled
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.base_model import CropTokens
from amused_lite.training.loop.fit import TrainingRun, fit, step_generator
from amused_lite.training.loop.state import adamw8bit, optimizer_state, restore_optimizer, subset
from amused_lite.training.loss import ask, draw_masks, masked_token_loss
from amused_lite.training.uvit import checkpointed

if TYPE_CHECKING:
    from amused_lite.style.decoder import DecoderBatches, DecoderStep


class StyleBatch(NamedTuple):
    """Arguments of `masked_token_loss` after the network, but for the text, whose rows are named."""

    tokens: Tensor  # (B, N)
    masks: Tensor  # (B, N)
    asked: Tensor  # (M,)
    texts: Tensor  # (B,) rows of `StyleBatches.captions`
    micro: Tensor  # (B, 5)


class StyleBatches:
    """Deterministic batches in which every picture comes up equally often."""

    def __init__(
        self,
        train_config: StyleTrainConfig,
        data: CropTokens,
        style: str,
        image_size: int,
        prior: CropTokens | None = None,
    ) -> None:
        """`prior`: one crop of each of the base's own pictures, for `recipe.prior_share`."""
        self.train_config, self.data = train_config, data
        self.grid = int(data.tokens.shape[-1] ** 0.5)
        self.plain_micro = torch.from_numpy(MicroConditioning(image_size, image_size).array())[0]
        self.captions = [styled(caption, style) for caption in data.captions]
        self.prior = prior if train_config.prior_share else None
        self.captions += self.prior.captions if self.prior is not None else ()
        self.captions.append("")

    def pictures(self, step: int) -> list[int]:
        """Which pictures the rows of a step show: all in a new order, again and again."""
        return in_turn(len(self.data.tokens), self.train_config.batch, self.train_config.seed, step)

    def batch(self, step: int) -> StyleBatch:
        """The batch of one step."""
        train_config, generator = self.train_config, step_generator(self.train_config.seed, step)
        chosen = torch.tensor(self.pictures(step))
        crops = torch.randint(self.data.tokens.shape[1], (train_config.batch,), generator=generator)
        tokens, micro = self.data.tokens[chosen, crops], self.data.micro[chosen, crops]
        if not train_config.tell_crop:
            micro = self.plain_micro.expand(train_config.batch, -1)
        turn = torch.rand(train_config.batch, generator=generator)
        if self.prior is not None:
            row = torch.randint(len(self.prior.tokens), (train_config.batch,), generator=generator)
            swap = turn < train_config.prior_share
            tokens = torch.where(swap[:, None], self.prior.tokens[row, 0], tokens)
            micro = torch.where(swap[:, None], self.plain_micro, micro)
            chosen = torch.where(swap, len(self.data.captions) + row, chosen)
        dropped = torch.rand(train_config.batch, generator=generator) < train_config.prompt_dropout
        chosen = chosen.masked_fill(dropped, len(self.captions) - 1)
        masks = draw_masks(train_config.batch, self.grid, 0.0, generator)
        masks = _hide_more(masks, train_config.smallest_mask, generator)
        if train_config.asked_share is None:
            asked = masks.flatten().nonzero()[:, 0]
        else:
            asked = ask(masks, int(train_config.asked_share * masks.numel()), generator)
        return StyleBatch(tokens, masks, asked, chosen, micro)


def _hide_more(masks: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """At least `share` of each row hidden, by hiding further tokens at random."""
    if not share:
        return masks
    count = round(share * masks.shape[1])
    rank = (torch.rand(masks.shape, generator=generator) - masks.float()).argsort(-1).argsort(-1)  # the hidden first
    return masks | (rank < count)


class StyleStep(nn.Module):
    """The loss of one batch, on whatever device the networks are."""

    def __init__(
        self, networks: Networks, tokenizer: Tokenizer, captions: list[str], train_config: StyleTrainConfig
    ) -> None:
        super().__init__()
        self.networks, self.train_config = networks, train_config
        self.device = next(networks.parameters()).device
        self.ids = torch.from_numpy(tokenizer.encode(captions)).long().to(self.device)
        with torch.no_grad():
            self.features = networks.text(self.ids)  # of every caption, once

    def forward(self, batch: StyleBatch) -> Tensor:
        train_config = self.train_config
        tokens, masks, asked, texts, micro = (array.to(self.device) for array in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=train_config.precision == "bfloat16"):
            if "text" in train_config.targets:
                states, pooled = self.networks.text(self.ids[texts])
            else:
                states, pooled = (feature[texts] for feature in self.features)
            return masked_token_loss(
                self.networks.uvit, tokens, masks, asked, states, pooled, micro, train_config.label_smoothing
            )


def make_optimizer(attached: AttachedAdapter, train_config: StyleTrainConfig) -> torch.optim.Optimizer:
    """AdamW over the adapter, its states in 8 bits if asked for."""
    options: dict[str, Any] = {
        "lr": train_config.learning_rate,
        "betas": train_config.betas,
        "eps": 1e-8,
        "weight_decay": train_config.weight_decay,
    }
    adamw = adamw8bit() if train_config.optimizer == "adamw8bit" else torch.optim.AdamW
    return adamw(attached.parameters(), **options)


def prepare(networks: Networks, record: AdapterRecord, train_config: StyleTrainConfig) -> AttachedAdapter:
    """A fresh adapter on a frozen base, which is put into 8 bits first if asked for."""
    if train_config.int8_base:
        quantize_base(networks)
    attached = new_adapter(networks, record, train_config.seed)
    return attached.to(next(networks.parameters()).device)


class StyleTrainer:
    """An adapter, its optimizer and what is asked of it."""

    def __init__(
        self,
        step: "StyleStep | DecoderStep",
        attached: AttachedAdapter,
        batches: "StyleBatches | DecoderBatches",
    ) -> None:
        self.loss, self.attached, self.batches, self.train_config = step, attached, batches, batches.train_config
        self.optimizer = make_optimizer(attached, self.train_config)

    def step(self, number: int) -> dict[str, float]:
        """See `Trainer`."""
        loss = self.loss(self.batches.batch(number))
        loss.backward()
        nn.utils.clip_grad_norm_(self.attached.parameters(), self.train_config.clip_norm or float("inf"))
        factor = _update(self.optimizer, self.train_config, number)
        return {"loss": loss.item(), "rate": factor}

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {"adapter": self.attached.state_dict(), "optimizer": optimizer_state(self.optimizer)}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """See `Trainer`."""
        self.attached.load_state_dict(subset(tensors, "adapter"))
        restore_optimizer(self.optimizer, tensors | numbers)


def train_style(
    step: "StyleStep | DecoderStep",
    attached: AttachedAdapter,
    batches: "StyleBatches | DecoderBatches",
    run: TrainingRun,
    watch: Callable[[int], str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> str | None:
    """Train, or go on training, an adapter; returns why it ended, or None when the user stopped it before.

    Args:
        step: the loss.
        attached: from `prepare`; it is trained in place.
        batches: what is asked.
        run: keeps the log and the checkpoints.
        watch: called every `recipe.sample_every` steps with the number of steps done; a reason from it ends it.
        progress: called after every step with the number of steps done.
    """
    train_config, trainer = batches.train_config, StyleTrainer(step, attached, batches)

    def after_step(done: int) -> str:
        if progress:
            progress(done)
        sampled = done % train_config.sample_every == 0 or done == train_config.steps
        return watch(done) if watch and sampled else ""

    with checkpointed(step.networks.uvit, train_config.checkpointing):
        return fit(
            run,
            trainer,
            train_config.steps,
            train_config.sample_every,
            log_first=False,
            mean=True,
            after_step=after_step,
        )


def _update(optimizer: torch.optim.Optimizer, train_config: StyleTrainConfig, step: int) -> float:
    """Set the rate, step, clear; returns the schedule's factor."""
    factor = min(1.0, (step + 1) / train_config.warmup) if train_config.warmup else 1.0
    if train_config.cooldown:
        factor = min(factor, (train_config.steps - step) / (train_config.cooldown * train_config.steps))
    for group in optimizer.param_groups:
        group["lr"] = train_config.learning_rate * factor
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return factor

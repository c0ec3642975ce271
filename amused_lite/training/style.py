"""Learn a style from a few pictures: a small adapter beside the frozen U-ViT (StyleDrop, Sohn et al. 2023).

The question asked of the network is the one it was trained with (`loss`); only the adapter's matrices learn the answer.
Everything random follows from (seed, step), so a killed training goes on as if nothing had happened.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from amused_lite.adapters import AdapterRecord
from amused_lite.conditioning import MicroConditioning
from amused_lite.models.adapters import AttachedAdapter, new_adapter
from amused_lite.models.networks import Networks
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.loss import ask, draw_masks, masked_token_loss
from amused_lite.training.run import Run, optimizer_state, step_generator, subset
from amused_lite.training.style_cost import checkpointed, quantize_base
from amused_lite.training.style_data import StyleTokens, styled


@dataclass(frozen=True)
class StyleRecipe:
    """How a style is learned. Defaults are what the published README and script of aMUSEd agree on.

    The README's rank is 16 on the queries, keys and values of all attentions, 10.4 MB. Ours is 8 on the transformer's,
    4.3 MB, with the same alpha / rank, which is what its learning rates belong to.

    Raises:
        ValueError: a number is out of range or a name is unknown.
    """

    steps: int = 1500
    batch: int = 1
    learning_rate: float = 4e-4
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("attention",)
    kind: str = "low_rank"
    optimizer: str = "adamw"  # or "adamw8bit", bitsandbytes'
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    warmup: int = 0
    cooldown: float = 0.0  # share of the steps, at the end, over which the rate falls linearly to zero
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    prompt_dropout: float = 0.0
    prior_share: float = 0.0  # of each batch: pictures of the base itself, without words of style
    guessed_share: float = 0.0  # of each batch: the base's pictures as `style_guess` thinks they are in the style
    recode: bool = False  # where pictures are guessed, begin with their codes in the places of plain ones
    smallest_mask: float = 0.0  # share of the tokens that is hidden at least
    asked_share: float | None = None  # as in `UViTRecipe`
    crops: int = 16  # in all, at least 2 of each picture
    tell_crop: bool = True  # micro-conditioning says where the crop was, as in the published script
    precision: str = "bfloat16"  # of the arithmetic, or "float32"; the weights stay float32
    int8_base: bool = False  # frozen matrices in 8 bits, through bitsandbytes
    checkpointing: bool = False  # compute activations twice rather than keep them
    sample_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "alpha"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be above 0, got {getattr(self, name):g}")
        for name in ("label_smoothing", "prompt_dropout", "prior_share", "guessed_share", "smallest_mask", "cooldown"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1, got {getattr(self, name):g}")
        if (both := self.prior_share + self.guessed_share) > 1:
            raise ValueError(f"prior_share and guessed_share together must be at most 1, got {both:g}")
        for name, known in {"optimizer": ("adamw", "adamw8bit"), "precision": ("float32", "bfloat16")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")

    def crops_of(self, pictures: int) -> int:
        """Crops of each of so many pictures."""
        return max(2, self.crops // pictures)


RECIPES = {
    "amused-256": StyleRecipe(),  # README, StyleDrop 256: rate 4e-4, alpha 32 at rank 16, good at 1500 to 2000 steps
    "amused-512": StyleRecipe(learning_rate=1e-3, alpha=0.5),  # README, StyleDrop 512: rate 1e-3, alpha 1 at rank 16
    "tiny": StyleRecipe(
        steps=80,
        batch=8,
        learning_rate=1e-3,
        alpha=8.0,
        targets=("attention", "block_attention", "feedforward", "blocks", "head"),
        betas=(0.9, 0.99),
        weight_decay=0.0,
        warmup=20,
        cooldown=0.7,
        clip_norm=1.0,
        guessed_share=0.7,
        recode=True,
        crops=8,
        asked_share=0.25,
        tell_crop=False,
    ),
}


class Batch(NamedTuple):
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
        recipe: StyleRecipe,
        data: StyleTokens,
        style: str,
        image_size: int,
        prior: StyleTokens | None = None,
        guessed: StyleTokens | None = None,
    ) -> None:
        """`prior` and `guessed`: one crop of each picture, for the shares of those names."""
        self.recipe, self.data = recipe, data
        self.grid = int(data.tokens.shape[-1] ** 0.5)
        self.plain_micro = torch.from_numpy(MicroConditioning(image_size, image_size).array())[0]
        self.captions = [styled(caption, style) for caption in data.captions]
        self.others: list[tuple[StyleTokens, float, int]] = []  # with their share and the row of their first caption
        for other, share, words in ((prior, recipe.prior_share, ""), (guessed, recipe.guessed_share, style)):
            if other is not None and share:
                self.others.append((other, share, len(self.captions)))
                self.captions += [styled(caption, words) if words else caption for caption in other.captions]
        self.captions.append("")

    def pictures(self, step: int) -> list[int]:
        """Which pictures the rows of a step show: all in a new order, again and again."""
        count, batch = len(self.data.tokens), self.recipe.batch
        rows = range(step * batch, (step + 1) * batch)
        orders = {row // count: None for row in rows}
        drawn = {n: torch.randperm(count, generator=step_generator(self.recipe.seed, n, 1)).tolist() for n in orders}
        return [drawn[row // count][row % count] for row in rows]

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        recipe, generator = self.recipe, step_generator(self.recipe.seed, step)
        chosen = torch.tensor(self.pictures(step))
        crops = torch.randint(self.data.tokens.shape[1], (recipe.batch,), generator=generator)
        tokens, micro = self.data.tokens[chosen, crops], self.data.micro[chosen, crops]
        if not recipe.tell_crop:
            micro = self.plain_micro.expand(recipe.batch, -1)
        turn, before = torch.rand(recipe.batch, generator=generator), 0.0
        for other, share, first in self.others:
            row = torch.randint(len(other.tokens), (recipe.batch,), generator=generator)
            swap = (turn >= before) & (turn < before + share)
            tokens = torch.where(swap[:, None], other.tokens[row, 0], tokens)
            micro = torch.where(swap[:, None], self.plain_micro, micro)
            chosen = torch.where(swap, first + row, chosen)
            before += share
        dropped = torch.rand(recipe.batch, generator=generator) < recipe.prompt_dropout
        texts = chosen.masked_fill(dropped, len(self.captions) - 1)
        masks = draw_masks(recipe.batch, self.grid, 0.0, generator)
        masks = _hide_more(masks, recipe.smallest_mask, generator)
        if recipe.asked_share is None:
            asked = masks.flatten().nonzero()[:, 0]
        else:
            asked = ask(masks, int(recipe.asked_share * masks.numel()), generator)
        return Batch(tokens, masks, asked, texts, micro)


def _hide_more(masks: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """At least `share` of each row hidden, by hiding further tokens at random."""
    if not share:
        return masks
    count = round(share * masks.shape[1])
    rank = (torch.rand(masks.shape, generator=generator) - masks.float()).argsort(-1).argsort(-1)  # the hidden first
    return masks | (rank < count)


class StyleStep(nn.Module):
    """The loss of one batch, on whatever device the networks are."""

    def __init__(self, networks: Networks, tokenizer: Tokenizer, captions: list[str], recipe: StyleRecipe) -> None:
        super().__init__()
        self.networks, self.recipe = networks, recipe
        self.device = next(networks.parameters()).device
        self.ids = torch.from_numpy(tokenizer.encode(captions)).long().to(self.device)
        with torch.no_grad():
            self.features = networks.text(self.ids)  # of every caption, once

    def forward(self, batch: Batch) -> Tensor:
        recipe = self.recipe
        tokens, masks, asked, texts, micro = (array.to(self.device) for array in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            if "text" in recipe.targets:
                states, pooled = self.networks.text(self.ids[texts])
            else:
                states, pooled = (feature[texts] for feature in self.features)
            return masked_token_loss(
                self.networks.uvit, tokens, masks, asked, states, pooled, micro, recipe.label_smoothing
            )


def make_optimizer(attached: AttachedAdapter, recipe: StyleRecipe) -> torch.optim.Optimizer:
    """AdamW over the adapter, its states in 8 bits if asked for."""
    options: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": recipe.betas,
        "eps": 1e-8,
        "weight_decay": recipe.weight_decay,
    }
    if recipe.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(attached.parameters(), **options)
    return torch.optim.AdamW(attached.parameters(), **options)


def prepare(networks: Networks, record: AdapterRecord, recipe: StyleRecipe) -> AttachedAdapter:
    """A fresh adapter on a frozen base, which is put into 8 bits first if asked for."""
    if recipe.int8_base:
        quantize_base(networks)
    attached = new_adapter(networks, record, recipe.seed)
    return attached.to(next(networks.parameters()).device)


def train_style(
    step: StyleStep,
    attached: AttachedAdapter,
    batches: StyleBatches,
    run: Run,
    watch: Callable[[int], str] | None = None,
) -> str | None:
    """Train, or go on training, an adapter; returns why it ended, or None when the user stopped it before.

    Args:
        step: the loss.
        attached: from `prepare`; it is trained in place.
        batches: what is asked.
        run: keeps the log and the checkpoints.
        watch: called every `recipe.sample_every` steps with the number of steps done; a reason from it ends it.
    """
    recipe = batches.recipe
    optimizer = make_optimizer(attached, recipe)
    first, losses, reason = 0, [], ""
    if saved := run.resume():
        first, tensors, numbers = saved
        attached.load_state_dict(subset(tensors, "adapter"))
        _restore(optimizer, tensors | numbers)
        losses = [value for key, value in numbers.items() if key.startswith("losses.")]
        reason = numbers.get("reason", "")
    if first >= recipe.steps or reason:
        return reason or f"all {recipe.steps} steps are done"
    with (
        checkpointed(step.networks, recipe.checkpointing),
        tqdm(total=recipe.steps, initial=first, desc="learning", unit="step", disable=None) as bar,
    ):
        for number in run.steps(first, recipe.steps):
            loss = step(batches.batch(number))
            loss.backward()
            nn.utils.clip_grad_norm_(attached.parameters(), recipe.clip_norm or float("inf"))
            factor = _update(optimizer, recipe, number)
            losses.append(loss.item())
            bar.update()
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}")
            done = number + 1
            if done % recipe.sample_every == 0 or done == recipe.steps:
                run.log(number, loss=float(np.mean(losses)), rate=factor)
                losses.clear()
                reason = watch(done) if watch else ""
            if run.due() or done == recipe.steps or reason:
                state = {"adapter": attached.state_dict(), "optimizer": optimizer_state(optimizer), "losses": losses}
                run.save(done, _copied(state) | {"reason": reason})
            if reason or done == recipe.steps:
                return reason or f"all {recipe.steps} steps are done"
    return None


def _update(optimizer: torch.optim.Optimizer, recipe: StyleRecipe, step: int) -> float:
    """Set the rate, step, clear; returns the schedule's factor."""
    factor = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.cooldown:
        factor = min(factor, (recipe.steps - step) / (recipe.cooldown * recipe.steps))
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * factor
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return factor


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """The same nested dict with tensors of their own: bitsandbytes' share tables, which a file cannot hold."""
    return {
        key: _copied(value) if isinstance(value, dict) else value.clone() if isinstance(value, Tensor) else value
        for key, value in state.items()
    }


def _restore(optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`; bitsandbytes nests some, and keeps plain numbers among its tensors."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        first, *path = key.split(".")
        if first == "optimizer":
            place = state.setdefault(int(path[0]), {})
            for name in path[1:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

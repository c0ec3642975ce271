"""Go on with a whole model on somebody's own data: all of its U-ViT, its text tower too, or a low-rank adapter of them.

Rates, batches and steps of the published models are those of aMUSEd's fine-tuning README; the bundled model's were
measured (docs/training/training.md).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from amused_lite.adapters.lora import Adapter, AdapterRecord, shapes_of
from amused_lite.adapters.torch import AttachedAdapter, new_adapter
from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.models.networks import Networks
from amused_lite.training.base_model import BaseModel
from amused_lite.training.data.batches import Batches, MixedSamples, ShardSamples
from amused_lite.training.data.shards import ShardManifest, TokenShards, open_shards
from amused_lite.training.loop.distributed import is_first
from amused_lite.training.loop.state import whole
from amused_lite.training.uvit import UViTLoss, UViTTrainer, train_uvit
from amused_lite.training.uvit_config import UViTTrainConfig

_PUBLISHED = UViTTrainConfig(
    steps=1000, batch=8, learning_rate=1e-4, warmup=0, label_smoothing=0.0, prompt_dropout=0.1, rectangle_share=0.0
)
# (preset, how) -> settings; "full8bit" is full with 8-bit AdamW.
RECIPES = {
    ("amused-256", "full"): _PUBLISHED,
    ("amused-256", "full8bit"): replace(_PUBLISHED, batch=16, learning_rate=2e-5, steps=750),
    ("amused-256", "adapter"): replace(_PUBLISHED, batch=16, learning_rate=8e-4, steps=1250),
    ("amused-512", "full"): replace(_PUBLISHED, learning_rate=8e-5),
    ("amused-512", "full8bit"): replace(_PUBLISHED, learning_rate=5e-6),
    ("amused-512", "adapter"): _PUBLISHED,
    ("tiny", "full"): replace(
        _PUBLISHED, steps=400, learning_rate=1e-3, warmup=20, cooldown=200, clip_norm=1.0, asked_share=0.25,
        ema_decay=0.99,
    ),
    ("tiny", "adapter"): replace(
        _PUBLISHED, steps=400, learning_rate=3e-3, warmup=20, cooldown=200, clip_norm=1.0, asked_share=0.25,
        ema_decay=0.99,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class AdapterShape:
    """What a low-rank adapter is like; defaults are the published script's, `ADAPTERS` has presets that differ."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("attention", "block_attention")


ADAPTERS = {"tiny": AdapterShape(8, 8.0, ("attention", "block_attention", "feedforward", "blocks", "head"))}


def recipe_of(preset: str, adapter: bool, optimizer: str = "adamw") -> UViTTrainConfig:
    """The preset's settings; amused-512's for a model of no preset."""
    how = "adapter" if adapter else "full8bit" if optimizer == "adamw8bit" else "full"
    found = RECIPES.get((preset, how)) or RECIPES.get((preset, "full")) or RECIPES["amused-512", how]
    return replace(found, optimizer=optimizer)


class Data(NamedTuple):
    """A folder of shards, and how often its samples come beside those of others."""

    manifest: ShardManifest
    shards: TokenShards
    weight: float

    def key(self, folders: int) -> list[Any]:
        """What decides its part in a plan."""
        return [self.manifest.plan, self.manifest.count, *([self.weight] if folders > 1 else [])]


@dataclass(frozen=True)
class Finetuning:
    """A model, data and settings that fit together."""

    base: BaseModel
    data: tuple["Data", ...]
    config: UViTTrainConfig
    adapter: AdapterShape | None  # None: all weights learn

    @property
    def plan(self) -> str:
        """Hex sha256 of all that decides what is learned."""
        free = {"log_every": 0, "compile": False, "checkpointing": False, "shard": False}
        said = [asdict(replace(self.config, **free)), self.adapter and asdict(self.adapter)]
        key = [self.base.info.model_hash, *(one for data in self.data for one in data.key(len(self.data))), *said]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def prepare(
    base: BaseModel, data: Mapping[Path, float], config: UViTTrainConfig, adapter: AdapterShape | None = None
) -> Finetuning:
    """Open the data and see that all fits, before any work.

    Args:
        data: folders of shards -> weights, which count beside one another.

    Raises:
        FileNotFoundError, ValueError: see `open_shards`; or the data holds another model's tokens, or a target is
            unknown.
    """
    opened = tuple(_open_data(base, folder, weight) for folder, weight in data.items())
    if adapter:
        shapes_of(base.networks.config, adapter.targets)
        if {"decoder"} & {*adapter.targets}:
            raise ValueError("the target decoder learns from pixels; use amused-lite style train, or name others")
        config = replace(config, train_text="text" in adapter.targets)
    return Finetuning(base, opened, config, adapter)


def _open_data(base: BaseModel, folder: Path, weight: float) -> Data:
    manifest, shards = open_shards(folder)
    ours = {
        "codes": (base.codebook_hash, manifest.codebook),
        "tokenizer": (base.tokenizer.hash, manifest.tokenizer),
        f"{base.networks.config.uvit.num_tokens} tokens": (base.networks.config.uvit.num_tokens, manifest.tokens),
    }
    if other := [name for name, (model, kept) in ours.items() if model != kept]:
        said = f"{folder} holds {manifest.tokens} tokens a picture of {manifest.model}, which has not the {other[0]}"
        raise ValueError(f"{said} of {base.info.name}; encode it with amused-lite tokenize -m {base.info.name}")
    return Data(manifest, shards, weight)


def finetune(
    plan: Finetuning,
    name: str,
    work: Path,
    prompts: Sequence[str] = (),
    sample_every: int = 100,
    stop_after: int | None = None,
    tracker: str = "",
) -> Adapter | BaseModel | None:
    """Train, or go on training; returns the adapter or the model, or None when it was stopped before the end.

    Args:
        plan: from `prepare`.
        name: of the adapter.
        work: the folder of checkpoints and samples.
        prompts: what samples show, before the first step and every `sample_every` steps.
        stop_after: end this session after so many steps.
        tracker: one that accelerate knows, such as tensorboard, beside the log.

    Raises:
        ValueError: see `train_uvit`.
    """
    base, config = plan.base, plan.config
    folder = work / plan.plan[:8]  # another plan is another training
    attached = _attach(plan, name) if plan.adapter else None
    networks = base.networks
    loss = UViTLoss(networks.uvit, networks.text, config, attached)
    for parameter in loss.trained.parameters():  # weights may be mapped from the model's file
        parameter.data = parameter.data.clone()
    folders = [ShardSamples(data.shards, config.seed) for data in plan.data]
    source = MixedSamples(folders, [data.weight for data in plan.data], config.seed) if folders[1:] else folders[0]
    batches = Batches(config, source, base.tokenizer)

    def sample(trainer: UViTTrainer, done: int) -> None:
        path = folder / f"samples-{done:05d}.png"
        if prompts and (done % sample_every == 0 or done == config.steps) and is_first() and not path.exists():
            with trainer.averaged():
                pictures = [base.amused().generate(prompt, seed=0).image for prompt in prompts]
            contact_sheet(pictures, prompts, path, columns=min(4, len(prompts)))

    done = train_uvit(loss, batches, folder, stop_after, sample, tracker)
    if not done:
        return None
    if attached is not None:
        return attached.cpu().adapter()
    with torch.device("meta"):
        made = Networks(networks.config)
    made.load_state_dict({name: whole(value).cpu() for name, value in networks.state_dict().items()}, assign=True)
    return replace(base, networks=made.requires_grad_(False).eval())


def _attach(plan: Finetuning, name: str) -> AttachedAdapter:
    assert plan.adapter is not None
    base, adapter = plan.base, plan.adapter
    record = AdapterRecord(
        name=name,
        rank=adapter.rank,
        alpha=adapter.alpha,
        targets=adapter.targets,
        preset=base.preset,
        base_model=Path(base.info.name).name,
        base_hash=base.hash,
        recipe={
            "data": ", ".join(data.manifest.source for data in plan.data),
            "samples": sum(data.manifest.count for data in plan.data),
            **asdict(plan.config),
        },
    )
    torch.manual_seed(plan.config.seed)
    return new_adapter(base.networks, record, plan.config.seed).to(next(base.networks.parameters()).device)

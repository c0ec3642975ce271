"""Settings of the U-ViT's training.

The published recipe (aMUSEd, section 4.1; open-muse's configurations) is the default; the tiny preset's differs where a
measurement in docs/training/bundled-model.md says so.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class UViTTrainConfig:
    """How the masked transformer is trained. Defaults are amused-512's published settings."""

    steps: int = 554_000
    batch: int = 1024
    accumulation: int = 1  # the batch is split into this many parts, which processes share
    optimizer: str = "adamw"  # or "adamw8bit", bitsandbytes'; or "muon" for the layers' matrices (Jordan et al. 2024)
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
    checkpointing: bool = False  # compute activations twice rather than keep them
    shard: bool = False  # split weights, gradients and optimizer over processes (FSDP2)
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

"""Numbers of a style's training, and what each preset takes."""

import math
from dataclasses import dataclass, replace

# What says how tokens are learned, or how the U-ViT is held in memory meanwhile.
_TOKENS_ONLY = ("prompt_dropout", "label_smoothing", "smallest_mask", "crops", "int8_base", "checkpointing")


@dataclass(frozen=True)
class StyleTrainConfig:
    """Settings of style training. Defaults are what the published README and script of aMUSEd agree on.

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
    guessed_share: float = 0.0  # the decoder's batches: the base's pictures as `augment` thinks they are in the style
    smallest_mask: float = 0.0  # share of the tokens that is hidden at least
    asked_share: float | None = None  # as in `UViTTrainConfig`
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
        if self.decoder and len(self.targets) > 1:
            raise ValueError("the target decoder is learned alone, from pictures and not from tokens; name no other")
        if self.decoder and (self.prior_share or self.kind != "low_rank"):
            raise ValueError("the target decoder takes low_rank adapters, and no prior_share")
        if self.decoder and (
            idle := [name for name in _TOKENS_ONLY if getattr(self, name) != getattr(type(self), name)]
        ):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
            raise ValueError(f"{flags} is for learning tokens, and the target decoder learns to paint; leave it out")
        if self.guessed_share and not self.decoder:
            raise ValueError("guessed_share is for the target decoder; other targets take prior_share")
        for name, known in {"optimizer": ("adamw", "adamw8bit"), "precision": ("float32", "bfloat16")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")

    @property
    def decoder(self) -> bool:
        """Whether the decoder learns to paint the same tokens otherwise, in place of the U-ViT to choose others."""
        return "decoder" in self.targets

    def crops_of(self, pictures: int) -> int:
        """Crops of each of so many pictures."""
        return max(2, self.crops // pictures)


TRAIN_CONFIGS = {
    "amused-256": StyleTrainConfig(),  # README, StyleDrop 256: rate 4e-4, alpha 32, rank 16, good at 1500 to 2000 steps
    "amused-512": StyleTrainConfig(
        learning_rate=1e-3, alpha=0.5
    ),  # README, StyleDrop 512: rate 1e-3, alpha 1 at rank 16
    "tiny": StyleTrainConfig(
        steps=800,
        batch=4,  # random quadrants of pictures
        learning_rate=3e-3,
        rank=16,
        alpha=16.0,
        targets=("decoder",),
        betas=(0.9, 0.98),
        weight_decay=0.0,
        warmup=60,  # a look far from the plain one begins with large errors
        cooldown=0.9,
        clip_norm=1.0,
        guessed_share=0.95,
    ),
}
_TINY_TOKENS = StyleTrainConfig(
    steps=300,
    batch=8,
    learning_rate=3e-3,
    alpha=8.0,
    targets=("attention", "block_attention", "feedforward", "blocks", "head"),
    betas=(0.9, 0.99),
    weight_decay=0.0,
    warmup=20,
    cooldown=0.7,
    clip_norm=1.0,
    crops=8,
    asked_share=0.25,
    tell_crop=False,
)


def train_config_of(preset: str, targets: tuple[str, ...] = ()) -> StyleTrainConfig:
    """The preset's recipe, or that for these targets; amused-512's for a model of no preset."""
    own = TRAIN_CONFIGS.get(preset, TRAIN_CONFIGS["amused-512"])
    if not targets or own.decoder == ("decoder" in targets):
        return replace(own, targets=targets or own.targets)
    return replace(TRAIN_CONFIGS["tiny"] if "decoder" in targets else _TINY_TOKENS, targets=targets)


# What samples show unless told: the README's own for the published models, simple scenes for the bundled one.
_PROMPTS = {
    "tiny": (
        "a red star in a meadow",
        "a blue house at night",
        "two green trees by the sea",
        "a yellow car in the snow",
    ),
    "": (
        "A chihuahua walking on the street",
        "A banana on the table",
        "A church on the street",
        "A tabby cat walking in the forest",
    ),
}


def sample_prompts(preset: str) -> tuple[str, ...]:
    """What samples of a model of this preset show, unless told."""
    return _PROMPTS.get(preset, _PROMPTS[""])

"""What a model is: frozen dataclasses and the presets. Knows no torch and no files.

Sizes are those of the published `transformer/config.json`, `vqvae/config.json` and `text_encoder/config.json`; the
fields carry this project's names, and `models/checkpoint.py` holds the one table that translates them.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from msgspec import Meta

# Far above any model of this kind, and far below what would fill a machine's memory before a weight was read.
Width = Annotated[int, Meta(ge=1, le=16_384)]
Layers = Annotated[int, Meta(ge=1, le=256)]
Heads = Annotated[int, Meta(ge=1, le=256)]
Entries = Annotated[int, Meta(ge=1, le=2**20)]  # of a vocabulary or a codebook
TokenId = Annotated[int, Meta(ge=0, lt=2**20)]
Epsilon = Annotated[float, Meta(gt=0, le=1)]
Levels = Annotated[tuple[Width, ...], Meta(min_length=1, max_length=10)]
Patch = Annotated[int, Meta(ge=1, le=64)]
Guidance = Annotated[float, Meta(ge=0, le=100)]
_LARGEST_PREDICTION = 2**28  # numbers: one for each code at each token, drawn anew at every step
_LARGEST_SIDE = 8192  # px
MAX_SEED = 2**64 - 1  # the noise is keyed by a seed of 64 bits
RANKER_SIDE = 128  # pixels of the square pictures that a ranker looks at; larger ones are averaged down to it


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class TextConfig:
    """CLIP's text tower (Radford et al. 2021). Defaults are CLIP-L/14."""

    vocab_size: Entries = 49408
    context_length: Annotated[int, Meta(ge=3, le=4096)] = 77
    width: Width = 768
    layers: Annotated[int, Meta(ge=2, le=256)] = 12  # penultimate states need 2
    heads: Heads = 12
    feedforward_width: Annotated[int, Meta(ge=1, le=65_536)] = 3072
    projection_width: Width = 768
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    norm_eps: Epsilon = 1e-5
    start_token_id: TokenId = 49406
    end_token_id: TokenId = 49407  # also pads: aMUSEd attends to all positions, so the padding id is part of the model

    def __post_init__(self) -> None:
        _check(self.width % self.heads == 0, f"text width {self.width} is not divisible by {self.heads} heads")
        for name, token in (("start_token_id", self.start_token_id), ("end_token_id", self.end_token_id)):
            _check(token < self.vocab_size, f"{name} is {token}, expected an id below vocab_size {self.vocab_size}")


@dataclass(frozen=True)
class UViTConfig:
    """The U-ViT masked transformer (aMUSEd, section 3). Defaults are amused-256's."""

    grid: Annotated[int, Meta(ge=1, le=256)] = 16  # tokens per side of the square picture it was trained for
    codebook_size: Entries = 8192
    vocab_size: Entries = 8256  # codebook, padding to a multiple of 64, and the mask token as its last entry
    token_width: Width = 768
    block_width: Width = 768
    block_heads: Heads = 12
    res_blocks: Annotated[int, Meta(ge=1, le=64)] = 3  # in the down block and again in the up block
    hidden_size: Width = 1024
    layers: Layers = 22
    heads: Heads = 16
    feedforward_width: Annotated[int, Meta(ge=1, le=65_536)] = 2816
    text_width: Width = 768
    pooled_width: Width = 768
    micro_width: Width = 256  # sinusoid width of each of the five micro-conditioning numbers
    resample: bool = False  # halve the grid before the transformer, double it after (amused-512)
    norm_eps: Epsilon = 1e-6
    learned_positions: bool = False  # not published; see docs/log.md for why the tiny preset has them

    def __post_init__(self) -> None:
        _check(self.vocab_size > self.codebook_size, "vocab_size must leave room for the mask token")
        _check(self.hidden_size % self.heads == 0, f"hidden_size {self.hidden_size} / {self.heads} heads is not whole")
        _check(self.block_width % self.block_heads == 0, f"block_width {self.block_width} / {self.block_heads} heads")
        _check(self.micro_width % 2 == 0, f"micro_width must be even, got {self.micro_width}")
        _check(not (self.resample and self.grid % 2), f"a resampled grid must be even, got {self.grid}")
        size = f"{self.num_tokens} tokens out of {self.codebook_size} codes"
        most = f"{size} are more than {_LARGEST_PREDICTION} numbers"
        _check(self.num_tokens * self.codebook_size <= _LARGEST_PREDICTION, most)

    @property
    def mask_token_id(self) -> int:
        return self.vocab_size - 1

    @property
    def num_tokens(self) -> int:
        return self.grid * self.grid

    @property
    def inner_grid(self) -> int:
        """Tokens per side inside the transformer."""
        return self.grid // 2 if self.resample else self.grid


@dataclass(frozen=True)
class VQGANConfig:
    """The VQ-GAN tokenizer of pictures (Esser et al. 2021). Defaults are aMUSEd's f16, 8192 codes, no attention."""

    channels: Levels = (128, 256, 256, 512, 768)  # one level each; every level but the last halves the side
    layers_per_block: Annotated[int, Meta(ge=1, le=64)] = 2
    latent_channels: Width = 64
    codebook_size: Entries = 8192
    norm: Literal["group", "none"] = "group"
    norm_groups: Annotated[int, Meta(ge=1, le=1024)] = 32
    patch_size: Patch = 1  # pixels folded into channels before the first and after the last convolution
    spherical: bool = False  # latents and codes scaled to unit root mean square
    # 3x3 convolutions only at the encoder's first level, so that a token depends on little but its own pixels.
    local_encoder: bool = False
    decoder_channels: Levels | None = None  # as `channels`, where the decoder's differ
    # Widths of a draft decoder, as `channels`; it stands in for the model's own, which was as deep as the encoder.
    draft: Levels | None = None

    def __post_init__(self) -> None:
        for width in self.draft or ():
            _check(width > 0, f"a draft decoder's widths must be 1 or more, got {width}")
        levels, most = len(self.draft or ()), self.downsample_factor.bit_length()  # the most: down to single pixels
        _check(levels <= most, f"a draft decoder has {most} levels or fewer, got {levels}")
        if self.decoder_channels:
            _check(len(self.decoder_channels) == len(self.channels), "the decoder needs as many levels as the encoder")
        if self.norm == "group":
            for width in (*self.channels, *(self.decoder_channels or ())):
                _check(width % self.norm_groups == 0, f"{width} channels do not split into {self.norm_groups} groups")

    @property
    def downsample_factor(self) -> int:
        return self.patch_size * 2 ** (len(self.channels) - 1)

    @property
    def decoder(self) -> "VQGANConfig":
        """How the decoder is built: as the encoder, or plainer and smaller when it is a draft.

        A draft has no norms, one block more than one at each level, and folds as many pixels into channels as it takes.
        """
        if self.draft is None:
            return replace(self, channels=self.decoder_channels or self.channels, decoder_channels=None)
        patch = self.downsample_factor // 2 ** (len(self.draft) - 1)
        return replace(self, channels=self.draft, layers_per_block=1, norm="none", patch_size=patch, draft=None)


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: text tower, U-ViT and VQ-GAN that fit together."""

    text: TextConfig = field(default_factory=TextConfig)
    uvit: UViTConfig = field(default_factory=UViTConfig)
    vqgan: VQGANConfig = field(default_factory=VQGANConfig)
    guidance_scale: Guidance = 10.0  # the preset's default; the user's choice goes into GenerateOptions
    token_temperature: Annotated[float, Meta(ge=0.01, le=10)] = 1.0
    ranker: bool = field(default=False, compare=False)  # an image tower comes along, which ranks and draws nothing

    def __post_init__(self) -> None:
        pairs = (
            ("text.width", self.text.width, "uvit.text_width", self.uvit.text_width),
            ("text.projection_width", self.text.projection_width, "uvit.pooled_width", self.uvit.pooled_width),
            ("vqgan.codebook_size", self.vqgan.codebook_size, "uvit.codebook_size", self.uvit.codebook_size),
        )
        for left, a, right, b in pairs:
            _check(a == b, f"{left} is {a} but {right} is {b}; they must be equal")
        _check(self.image_size <= _LARGEST_SIDE, f"pictures of {self.image_size} px a side, at most {_LARGEST_SIDE}")

    @property
    def image_size(self) -> int:
        """Side of the square picture in pixels."""
        return self.uvit.grid * self.vqgan.downsample_factor


_AMUSED_256 = ModelConfig(guidance_scale=4.5)  # 256 is best at 4 to 5 and collapses by 10 (open-muse's own sweep)
_AMUSED_512 = replace(_AMUSED_256, uvit=replace(_AMUSED_256.uvit, grid=32, resample=True), guidance_scale=9.0)
_TINY = ModelConfig(
    text=TextConfig(
        vocab_size=1024,
        context_length=32,
        width=192,
        layers=3,
        heads=3,
        feedforward_width=768,
        projection_width=192,
        activation="gelu",
        start_token_id=1022,
        end_token_id=1023,
    ),
    uvit=UViTConfig(
        grid=32,
        codebook_size=1024,
        vocab_size=1088,
        token_width=128,
        block_width=128,
        block_heads=2,
        res_blocks=2,
        hidden_size=192,
        layers=6,
        heads=3,
        feedforward_width=512,
        text_width=192,
        pooled_width=192,
        micro_width=32,
        resample=True,
        learned_positions=True,
    ),
    vqgan=VQGANConfig(
        channels=(48, 96, 128),
        layers_per_block=1,
        latent_channels=16,
        codebook_size=1024,
        norm="none",
        patch_size=4,
        spherical=True,
    ),
    guidance_scale=2.0,
    token_temperature=0.5,  # a network this small is unsure too often; at 1.0 stray codes speckle the picture
)

_STORYBOOK = replace(
    _TINY,
    text=replace(
        _TINY.text,
        vocab_size=4096,
        context_length=40,
        width=256,
        heads=4,
        feedforward_width=1024,
        projection_width=256,
        start_token_id=4094,
        end_token_id=4095,
    ),
    uvit=replace(
        _TINY.uvit,
        codebook_size=4096,
        vocab_size=4160,
        hidden_size=256,
        heads=4,
        feedforward_width=704,
        text_width=256,
        pooled_width=256,
    ),
    vqgan=replace(_TINY.vqgan, codebook_size=4096, local_encoder=True, decoder_channels=(64, 128, 256)),
)

PRESETS: dict[str, ModelConfig] = {
    "amused-256": _AMUSED_256,
    "amused-512": _AMUSED_512,
    "tiny": _TINY,
    "storybook": _STORYBOOK,
}

"""Published `config.json` files to `ModelConfig` and back. Strict: a value that our networks do not have is refused."""

from collections.abc import Mapping
from typing import Any

from amused_lite.config import PRESETS, ModelConfig, TextConfig, UViTConfig, VQGANConfig

# Our field -> (published key, the library's own default where a file leaves the key out).
_UVIT: dict[str, tuple[str, Any]] = {
    "grid": ("sample_size", 64),
    "codebook_size": ("codebook_size", 8192),
    "vocab_size": ("vocab_size", 8256),
    "token_width": ("in_channels", 768),
    "block_width": ("block_out_channels", 768),
    "block_heads": ("block_num_heads", 12),
    "res_blocks": ("num_res_blocks", 3),
    "hidden_size": ("hidden_size", 1024),
    "layers": ("num_hidden_layers", 22),
    "heads": ("num_attention_heads", 16),
    "feedforward_width": ("intermediate_size", 2816),
    "text_width": ("encoder_hidden_size", 768),
    "pooled_width": ("cond_embed_dim", 768),
    "micro_width": ("micro_cond_encode_dim", 256),
    "resample": ("downsample", False),
    "norm_eps": ("layer_norm_eps", 1e-6),
}
_VQGAN: dict[str, tuple[str, Any]] = {
    "layers_per_block": ("layers_per_block", 1),
    "latent_channels": ("latent_channels", 3),
    "codebook_size": ("num_vq_embeddings", 256),
    "norm_groups": ("norm_num_groups", 32),
}
_TEXT: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 49408),
    "context_length": ("max_position_embeddings", 77),
    "width": ("hidden_size", 512),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 8),
    "feedforward_width": ("intermediate_size", 2048),
    "projection_width": ("projection_dim", 512),
    "norm_eps": ("layer_norm_eps", 1e-5),
}
_LEGACY_END = 2  # OpenAI's files say 2; every reader takes the largest id instead


class _ConfigReader:
    """One config.json; every complaint names the file, the key, what it got and what it expected."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def require(self, key: str, expected: Any, default: Any) -> None:
        got = self.values.get(key, default)
        if got != expected:
            remedy = "amused-lite runs networks built like the published aMUSEd only"
            raise ValueError(f"{self.where}: {key} is {got!r}, expected {expected!r}; {remedy}")

    def take(self, key: str, default: Any) -> Any:
        got = self.values.get(key, default)
        if isinstance(default, float) and type(got) is int:
            got = float(got)
        if type(got) is not type(default):
            raise ValueError(f"{self.where}: {key} is {got!r}, expected a value such as {default!r}; check the file")
        if type(got) is int and got < 1:
            raise ValueError(f"{self.where}: {key} is {got}, expected 1 or more; check the file")
        return got

    def fields(self, table: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
        return {ours: self.take(key, default) for ours, (key, default) in table.items()}


def read_uvit(values: Mapping[str, Any], where: str) -> UViTConfig:
    """`transformer/config.json` of a UVit2DModel; `where` names it in errors.

    Raises:
        ValueError: a value is not one that our U-ViT can have.
    """
    reader = _ConfigReader(values, where)
    reader.require("_class_name", "UVit2DModel", "UVit2DModel")
    reader.require("use_bias", False, False)
    reader.require("ln_elementwise_affine", True, True)
    reader.require("upsample", values.get("downsample", False), False)
    reader.require("micro_cond_embed_dim", 5 * reader.take("micro_cond_encode_dim", 256), 1280)
    return _build(UViTConfig, reader.fields(_UVIT), where)


def read_vqgan(values: Mapping[str, Any], where: str) -> VQGANConfig:
    """`vqvae/config.json` of a VQModel.

    Raises:
        ValueError: a value is not one that our VQ-GAN can have.
    """
    reader = _ConfigReader(values, where)
    channels = reader.take("block_out_channels", [64])
    if not channels or any(type(width) is not int or width < 1 for width in channels):
        raise ValueError(f"{where}: block_out_channels is {channels!r}, expected a list of widths; check the file")
    reader.require("_class_name", "VQModel", "VQModel")
    reader.require("in_channels", 3, 3)
    reader.require("out_channels", 3, 3)
    reader.require("act_fn", "silu", "silu")
    reader.require("norm_type", "group", "group")
    reader.require("mid_block_add_attention", False, True)
    reader.require("down_block_types", ["DownEncoderBlock2D"] * len(channels), ["DownEncoderBlock2D"])
    reader.require("up_block_types", ["UpDecoderBlock2D"] * len(channels), ["UpDecoderBlock2D"])
    if values.get("vq_embed_dim") is not None:
        reader.require("vq_embed_dim", reader.take("latent_channels", 3), None)
    return _build(VQGANConfig, {"channels": tuple(channels), **reader.fields(_VQGAN)}, where)


def read_text(values: Mapping[str, Any], where: str) -> TextConfig:
    """`text_encoder/config.json` of a CLIPTextModelWithProjection.

    Raises:
        ValueError: a value is not one that our text tower can have.
    """
    reader = _ConfigReader(values, where)
    reader.require("architectures", ["CLIPTextModelWithProjection"], ["CLIPTextModelWithProjection"])
    activation = reader.take("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise ValueError(f"{where}: hidden_act is {activation!r}, expected 'quick_gelu' or 'gelu'")
    found = reader.fields(_TEXT)
    start, end = values.get("bos_token_id", 49406), values.get("eos_token_id", 49407)
    if end == _LEGACY_END:
        start, end = found["vocab_size"] - 2, found["vocab_size"] - 1
    for key, token in (("bos_token_id", start), ("eos_token_id", end)):
        if type(token) is not int or not 0 <= token < found["vocab_size"]:
            raise ValueError(f"{where}: {key} is {token!r}, expected an id below vocab_size {found['vocab_size']}")
    return _build(TextConfig, {**found, "activation": activation, "start_token_id": start, "end_token_id": end}, where)


def _build(kind: Any, values: dict[str, Any], where: str) -> Any:
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def check_scheduler(values: Mapping[str, Any], uvit: UViTConfig, where: str) -> None:
    """`scheduler/scheduler_config.json` of an AmusedScheduler.

    Raises:
        ValueError: it unmasks by another law than ours.
    """
    reader = _ConfigReader(values, where)
    reader.require("_class_name", "AmusedScheduler", "AmusedScheduler")
    reader.require("mask_token_id", uvit.mask_token_id, None)
    # diffusers' inpainting pipeline writes "linear" into the scheduler it shares with the others.
    reader.require("masking_schedule", "cosine", "cosine")


def join(text: TextConfig, uvit: UViTConfig, vqgan: VQGANConfig) -> ModelConfig:
    """A whole model, with its preset's own guidance where it has a preset's U-ViT.

    Raises:
        ValueError: the three do not fit together.
    """
    for preset in PRESETS.values():
        if preset.uvit == uvit:
            return ModelConfig(text, uvit, vqgan, preset.guidance_scale, preset.token_temperature)
    return ModelConfig(text, uvit, vqgan)


def published_configs(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Path inside a published folder -> the JSON to write there.

    Raises:
        ValueError: the model has something that diffusers' networks do not have.
    """
    for what, has in (
        ("learned positions", config.uvit.learned_positions),
        ("spherical codes", config.vqgan.spherical),
        ("a patch stem", config.vqgan.patch_size != 1),
        ("a VQ-GAN without norms", config.vqgan.norm != "group"),
        ("a draft decoder", config.vqgan.draft is not None),
    ):
        if has:
            remedy = "only models built like the published ones can be saved for diffusers"
            raise ValueError(f"this model has {what}, which diffusers' aMUSEd does not have; {remedy}")
    diffusers = {"_diffusers_version": "0.33.1"}  # the last release that maintained the aMUSEd pipelines
    levels = len(config.vqgan.channels)
    return {
        "transformer/config.json": {"_class_name": "UVit2DModel", **diffusers}
        | {key: getattr(config.uvit, ours) for ours, (key, _) in _UVIT.items()}
        | {"upsample": config.uvit.resample, "micro_cond_embed_dim": 5 * config.uvit.micro_width}
        | {"use_bias": False, "ln_elementwise_affine": True, "hidden_dropout": 0.0, "attention_dropout": 0.0},
        "vqvae/config.json": {"_class_name": "VQModel", **diffusers, "block_out_channels": list(config.vqgan.channels)}
        | {key: getattr(config.vqgan, ours) for ours, (key, _) in _VQGAN.items()}
        | {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        | {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "norm_type": "group", "vq_embed_dim": None}
        | {"mid_block_add_attention": False, "lookup_from_codebook": True, "force_upcast": True}
        | {"sample_size": 32, "scaling_factor": 0.18215},
        "text_encoder/config.json": {"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model"}
        | {key: getattr(config.text, ours) for ours, (key, _) in _TEXT.items()}
        | {"hidden_act": config.text.activation, "attention_dropout": 0.0, "dtype": "float32"}
        | {"bos_token_id": config.text.start_token_id, "eos_token_id": config.text.end_token_id}
        | {"pad_token_id": config.text.end_token_id},
        "scheduler/scheduler_config.json": {"_class_name": "AmusedScheduler", **diffusers}
        | {"mask_token_id": config.uvit.mask_token_id, "masking_schedule": "cosine"},
        "model_index.json": {"_class_name": "AmusedPipeline", **diffusers}
        | {"scheduler": ["diffusers", "AmusedScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"]}
        | {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}
        | {"transformer": ["diffusers", "UVit2DModel"], "vqvae": ["diffusers", "VQModel"]},
    }

"""Published `config.json` files to `ModelConfig` and back. Strict: a value that our networks do not have is refused."""

from collections.abc import Mapping
from typing import Any

from amused_lite.config import PRESETS, ModelConfig, TextConfig, UViTConfig, VQGANConfig
from amused_lite.reading import Kind, convert

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
    "channels": ("block_out_channels", [64]),
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
    "activation": ("hidden_act", "quick_gelu"),
}
_RENAMED = {"start_token_id": "bos_token_id", "end_token_id": "eos_token_id"}
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
            raise ValueError(f"{self.where}: {key} is {repr(got)[:40]}, expected {repr(expected)[:60]}; {remedy}")

    def build(self, kind: type[Kind], table: Mapping[str, tuple[str, Any]], **more: Any) -> Kind:
        """One of our configurations, by the table of its fields; its own types and ranges decide."""
        taken = {ours: self.values.get(key, default) for ours, (key, default) in table.items()}
        names = {ours: key for ours, (key, _) in table.items()} | _RENAMED
        return convert(taken | more, kind, self.where, "check the file", names=names)


def read_uvit(values: Mapping[str, Any], where: str) -> UViTConfig:
    """`transformer/config.json` of a UVit2DModel; `where` names it in errors.

    Raises:
        ValueError: a value is not one that our U-ViT can have.
    """
    reader = _ConfigReader(values, where)
    reader.require("_class_name", "UVit2DModel", "UVit2DModel")
    config = reader.build(UViTConfig, _UVIT)
    reader.require("use_bias", False, False)
    reader.require("ln_elementwise_affine", True, True)
    reader.require("upsample", values.get("downsample", False), False)
    reader.require("micro_cond_embed_dim", 5 * config.micro_width, 1280)
    return config


def read_vqgan(values: Mapping[str, Any], where: str) -> VQGANConfig:
    """`vqvae/config.json` of a VQModel.

    Raises:
        ValueError: a value is not one that our VQ-GAN can have.
    """
    reader = _ConfigReader(values, where)
    config = reader.build(VQGANConfig, _VQGAN)
    levels = len(config.channels)
    reader.require("_class_name", "VQModel", "VQModel")
    reader.require("in_channels", 3, 3)
    reader.require("out_channels", 3, 3)
    reader.require("act_fn", "silu", "silu")
    reader.require("norm_type", "group", "group")
    reader.require("mid_block_add_attention", False, True)
    reader.require("down_block_types", ["DownEncoderBlock2D"] * levels, ["DownEncoderBlock2D"])
    reader.require("up_block_types", ["UpDecoderBlock2D"] * levels, ["UpDecoderBlock2D"])
    if values.get("vq_embed_dim") is not None:
        reader.require("vq_embed_dim", config.latent_channels, None)
    return config


def read_text(values: Mapping[str, Any], where: str) -> TextConfig:
    """`text_encoder/config.json` of a CLIPTextModelWithProjection.

    Raises:
        ValueError: a value is not one that our text tower can have.
    """
    reader = _ConfigReader(values, where)
    reader.require("architectures", ["CLIPTextModelWithProjection"], ["CLIPTextModelWithProjection"])
    start, end = values.get("bos_token_id", 49406), values.get("eos_token_id", 49407)
    size = values.get("vocab_size", _TEXT["vocab_size"][1])
    if end == _LEGACY_END and type(size) is int:
        start, end = size - 2, size - 1
    return reader.build(TextConfig, _TEXT, start_token_id=start, end_token_id=end)


def check_scheduler(values: Mapping[str, Any], uvit: UViTConfig, where: str) -> None:
    """`scheduler/scheduler_config.json` of an AmusedScheduler.

    Raises:
        ValueError: its mask schedule or sampler is not the one of this project.
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
        "vqvae/config.json": {"_class_name": "VQModel", **diffusers}
        | {key: getattr(config.vqgan, ours) for ours, (key, _) in _VQGAN.items()}
        | {"block_out_channels": list(config.vqgan.channels)}
        | {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        | {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "norm_type": "group", "vq_embed_dim": None}
        | {"mid_block_add_attention": False, "lookup_from_codebook": True, "force_upcast": True}
        | {"sample_size": 32, "scaling_factor": 0.18215},
        "text_encoder/config.json": {"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model"}
        | {key: getattr(config.text, ours) for ours, (key, _) in _TEXT.items()}
        | {"attention_dropout": 0.0, "dtype": "float32"}
        | {"bos_token_id": config.text.start_token_id, "eos_token_id": config.text.end_token_id}
        | {"pad_token_id": config.text.end_token_id},
        "scheduler/scheduler_config.json": {"_class_name": "AmusedScheduler", **diffusers}
        | {"mask_token_id": config.uvit.mask_token_id, "masking_schedule": "cosine"},
        "model_index.json": {"_class_name": "AmusedPipeline", **diffusers}
        | {"scheduler": ["diffusers", "AmusedScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"]}
        | {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}
        | {"transformer": ["diffusers", "UVit2DModel"], "vqvae": ["diffusers", "VQModel"]},
    }

"""The one table between our names of weights and those of diffusers, transformers and open_clip. Opens no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amused_lite.config import ModelConfig, TextConfig, UViTConfig, VQGANConfig

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Published:
    """One of our weights in a published file."""

    name: str
    shape: Shape  # as published: linears may be 1x1 convolutions there
    source: str  # the part's folder: transformer, vqvae or text_encoder


def published_names(config: ModelConfig, part: str, shapes: Mapping[str, Shape]) -> dict[str, Published]:
    """Our weight -> where it is published, for a part of `networks.PARTS` whose weights have `shapes`."""
    tables: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
        "text": ("text_encoder", lambda: _text(config.text)),
        "uvit.prompt_side": ("transformer", lambda: _prompt_side(config.uvit)),
        "uvit.token_side": ("transformer", lambda: _token_side(config.uvit)),
        "vqgan": ("vqvae", lambda: _vqgan(config.vqgan)),
    }
    source, table = tables[part]
    modules = table()
    names = {}
    for ours, shape in shapes.items():
        module, _, leaf = ours.rpartition(".")
        theirs = modules[ours] if ours in modules else f"{modules[module]}.{leaf}"
        names[ours] = Published(theirs, _published_shape(theirs, shape), source)
    return names


# Weights in published files that we have no use for.
IGNORED = ("text_model.embeddings.position_ids",)  # 0, 1, 2, ... in files older than transformers 4.31


def _published_shape(theirs: str, shape: Shape) -> Shape:
    if theirs in ("embed.conv.weight", "mlm_layer.conv1.weight", "mlm_layer.conv2.weight"):
        return (*shape, 1, 1)
    if ".channelwise_norm." in theirs:  # written for broadcasting over (B, H, W, D)
        return (1, 1, 1, *shape)
    return shape


def _side_blocks(config: UViTConfig) -> list[tuple[str, str]]:
    """(side, their attention block) for each down, then each up block."""
    sides = ("down_block", "up_block")
    return [(side, f"{side}.attention_blocks.{i}") for side in sides for i in range(config.res_blocks)]


def _prompt_side(config: UViTConfig) -> dict[str, str]:
    table = {
        "text_projection": "encoder_proj",
        "text_norm": "encoder_proj_layer_norm",
        "condition_in": "cond_embed.linear_1",
        "condition_out": "cond_embed.linear_2",
    }
    for block, (side, theirs) in enumerate(_side_blocks(config)):
        table[f"block_text.{block}"] = f"{theirs}.kv_mapper"
        table[f"block_modulation.{block}"] = f"{side}.res_blocks.{block % config.res_blocks}.cond_embeds_mapper"
        for i in range(2):
            table[f"block_key_value.{2 * block + i}.key"] = f"{theirs}.attn{i + 1}.to_k"
            table[f"block_key_value.{2 * block + i}.value"] = f"{theirs}.attn{i + 1}.to_v"
    for layer in range(config.layers):
        theirs = f"transformer_layers.{layer}"
        table[f"layer_key_value.{layer}.key"] = f"{theirs}.attn2.to_k"
        table[f"layer_key_value.{layer}.value"] = f"{theirs}.attn2.to_v"
        for i in range(3):
            table[f"layer_modulation.{3 * layer + i}"] = f"{theirs}.norm{i + 1}.linear"
    return table


def _token_side(config: UViTConfig) -> dict[str, str]:
    table = {
        "embedding": "embed.embeddings",
        "embedding_norm": "embed.layer_norm",
        "embedding_projection": "embed.conv",
        "down_norm": "down_block.downsample.norm",
        "down": "down_block.downsample.conv",
        "up_norm": "up_block.upsample.norm",
        "up": "up_block.upsample.conv",
        "in_norm": "project_to_hidden_norm",
        "project_in": "project_to_hidden",
        "out_norm": "project_from_hidden_norm",
        "project_out": "project_from_hidden",
        "head_projection": "mlm_layer.conv1",
        "head_norm": "mlm_layer.layer_norm",
        "head": "mlm_layer.conv2",
    }
    res_names = {"depthwise": "depthwise", "norm": "norm", "response_norm": "channelwise_norm"}
    res_names |= {"widen": "channelwise_linear_1", "narrow": "channelwise_linear_2"}
    for block, (side, theirs) in enumerate(_side_blocks(config)):
        i = block % config.res_blocks
        table |= {f"{side}.res_blocks.{i}.{a}": f"{side}.res_blocks.{i}.{b}" for a, b in res_names.items()}
        for j in range(2):
            ours = f"{side}.attentions.{i}"
            table[f"{ours}.norms.{j}"] = f"{theirs}.norm{j + 1}"
            table[f"{ours}.attentions.{j}.query"] = f"{theirs}.attn{j + 1}.to_q"
            table[f"{ours}.attentions.{j}.out"] = f"{theirs}.attn{j + 1}.to_out.0"
    layer_names = {"self_norm": "norm1.norm", "text_norm": "norm2.norm", "feedforward_norm": "norm3.norm"}
    layer_names |= {f"self_attention.{ours}": f"attn1.to_{ours[0]}" for ours in ("query", "key", "value")}
    layer_names |= {"self_attention.out": "attn1.to_out.0"}
    layer_names |= {"text_attention.query": "attn2.to_q", "text_attention.out": "attn2.to_out.0"}
    layer_names |= {"feedforward.widen": "ff.net.0.proj", "feedforward.narrow": "ff.net.2"}
    for layer in range(config.layers):
        table |= {f"layers.{layer}.{a}": f"transformer_layers.{layer}.{b}" for a, b in layer_names.items()}
    return table


def _vqgan(config: VQGANConfig) -> dict[str, str]:
    table = {"pre_quant": "quant_conv", "post_quant": "post_quant_conv", "codebook": "quantize.embedding.weight"}
    for side, direction, extra in (("encoder", "down", 0), ("decoder", "up", 1)):
        count = config.layers_per_block + extra
        table |= {f"{side}.stem": f"{side}.conv_in", f"{side}.norm": f"{side}.conv_norm_out"}
        table |= {f"{side}.out": f"{side}.conv_out"}
        blocks = {f"{side}.middle.{i}": f"{side}.mid_block.resnets.{i}" for i in range(2)}
        for level in range(len(config.channels)):
            theirs = f"{side}.{direction}_blocks.{level}"
            blocks |= {f"{side}.levels.{level}.{i}": f"{theirs}.resnets.{i}" for i in range(count)}
            table[f"{side}.{direction}s.{level}"] = f"{theirs}.{direction}samplers.0.conv"
        for ours, theirs in blocks.items():
            table |= {f"{ours}.{name}": f"{theirs}.{name}" for name in ("norm1", "conv1", "norm2", "conv2")}
            table[f"{ours}.shortcut"] = f"{theirs}.conv_shortcut"
    return table


def _text(config: TextConfig) -> dict[str, str]:
    table = {
        "embedding": "text_model.embeddings.token_embedding",
        "positions": "text_model.embeddings.position_embedding.weight",
        "final_norm": "text_model.final_layer_norm",
        "projection": "text_projection",
    }
    layer_names = {"attention_norm": "layer_norm1", "feedforward_norm": "layer_norm2"}
    layer_names |= {ours: f"self_attn.{ours[0]}_proj" for ours in ("query", "key", "value")}
    layer_names |= {"out": "self_attn.out_proj", "widen": "mlp.fc1", "narrow": "mlp.fc2"}
    for layer in range(config.layers):
        theirs = f"text_model.encoder.layers.{layer}"
        table |= {f"layers.{layer}.{a}": f"{theirs}.{b}" for a, b in layer_names.items()}
    return table


def from_open_clip(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Text weights of an open_clip CLIP under our names. Names of its vision side and its logit scale are dropped.

    Raises:
        ValueError: a weight of the text tower is missing.
    """

    def take(name: str) -> Tensor:
        if name not in tensors:
            raise ValueError(f"no weight {name} among the open_clip weights; expected a CLIP with a text transformer")
        return tensors[name]

    ours = {
        "embedding.weight": take("token_embedding.weight"),
        "positions": take("positional_embedding"),
        "final_norm.weight": take("ln_final.weight"),
        "final_norm.bias": take("ln_final.bias"),
        "projection.weight": take("text_projection").T,  # (width, projection) over there
    }
    names = {"attention_norm": "ln_1", "feedforward_norm": "ln_2", "out": "attn.out_proj"}
    names |= {"widen": "mlp.c_fc", "narrow": "mlp.c_proj"}
    for layer in range(layers):
        theirs = f"transformer.resblocks.{layer}"
        for leaf in ("weight", "bias"):
            packed = take(f"{theirs}.attn.in_proj_{leaf}").chunk(3)  # query, key, value in one matrix
            for name, tensor in zip(("query", "key", "value"), packed, strict=True):
                ours[f"layers.{layer}.{name}.{leaf}"] = tensor
            for name, their_name in names.items():
                ours[f"layers.{layer}.{name}.{leaf}"] = take(f"{theirs}.{their_name}.{leaf}")
    # Copies, because queries, keys and values would go on sharing the packed matrix's memory.
    form = torch.contiguous_format
    return {name: tensor.to(torch.float32, copy=True, memory_format=form) for name, tensor in ours.items()}

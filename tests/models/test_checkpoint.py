"""Published folders in every shape they come in, what is wrong with some of them, and the way back."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from diffusers import AmusedPipeline, UVit2DModel, VQModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from amused_lite.config import PRESETS
from amused_lite.models import checkpoint_config
from amused_lite.models.checkpoint import PublishedWeights, save_diffusers
from amused_lite.models.networks import PARTS, Networks, SavedWeights, load_networks
from amused_lite.tokenizer import Tokenizer

WEIGHTS = "diffusion_pytorch_model.safetensors"


def same(left: Networks, right: Networks) -> bool:
    pairs = zip(left.state_dict().items(), right.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_published_configurations_are_the_presets() -> None:
    """The files of amused/amused-256 and amused-512, as FACTS and the hub have them."""
    uvit = {"_class_name": "UVit2DModel", "sample_size": 16, "micro_cond_encode_dim": 256, "micro_cond_embed_dim": 1280}
    vqvae: dict[str, Any] = {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 256, 512, 768],
        "down_block_types": ["DownEncoderBlock2D"] * 5,
        "up_block_types": ["UpDecoderBlock2D"] * 5,
        "latent_channels": 64,
        "layers_per_block": 2,
        "num_vq_embeddings": 8192,
        "vq_embed_dim": None,
        "norm_type": "group",
        "norm_num_groups": 32,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
        "force_upcast": True,
        "sample_size": 32,
        "scaling_factor": 0.18215,
    }
    text: dict[str, Any] = {
        "architectures": ["CLIPTextModelWithProjection"],
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    for name, changes in (
        ("amused-256", {}),
        ("amused-512", {"sample_size": 32, "downsample": True, "upsample": True}),
    ):
        config = checkpoint_config.join(
            checkpoint_config.read_text(text, "text"),
            checkpoint_config.read_uvit(uvit | changes, "uvit"),
            checkpoint_config.read_vqgan(vqvae, "vqvae"),
        )
        assert config == PRESETS[name]
        written = checkpoint_config.published_configs(config)
        assert checkpoint_config.read_uvit(written["transformer/config.json"], "") == config.uvit
        assert checkpoint_config.read_vqgan(written["vqvae/config.json"], "") == config.vqgan
        assert checkpoint_config.read_text(written["text_encoder/config.json"], "") == config.text


def test_single_sharded_and_fp16_files_hold_the_same_model(tmp_path: Path) -> None:
    single = PublishedWeights(published.save(tmp_path / "single"))
    sharded = PublishedWeights(published.save(tmp_path / "sharded", max_shard_size="20KB"))
    assert len(list((tmp_path / "sharded" / "transformer").glob("*.safetensors"))) > 2
    assert len(list((tmp_path / "sharded" / "text_encoder").glob("*.safetensors"))) > 2
    assert same(load_networks(single), load_networks(sharded))

    parts = published.make_uvit().half(), published.make_vqgan().half(), published.make_text().half()
    half = PublishedWeights(published.save(tmp_path / "half", *parts, variant="fp16"))
    half_shards = published.save(tmp_path / "half-shards", *parts, variant="fp16", max_shard_size="20KB")
    assert not list((tmp_path / "half").glob("*/diffusion_pytorch_model.safetensors"))
    rounded = load_networks(single).half().float()
    assert same(load_networks(half), rounded)
    assert same(load_networks(PublishedWeights(half_shards, variant="fp16")), rounded)

    published.save(tmp_path / "half")  # plain files beside the variant's
    assert same(load_networks(PublishedWeights(tmp_path / "half")), load_networks(single))
    assert same(load_networks(PublishedWeights(tmp_path / "half", "fp16")), rounded)
    with pytest.raises(FileNotFoundError, match=r"no diffusion_pytorch_model\.bf16\.safetensors"):
        PublishedWeights(tmp_path / "half", "bf16").part("vqgan")


def test_old_text_encoders_carry_position_ids(tmp_path: Path) -> None:
    folder = published.save(tmp_path)
    path = folder / "text_encoder" / "model.safetensors"
    save_file(load_file(path) | {"text_model.embeddings.position_ids": torch.arange(11)[None]}, path)
    PublishedWeights(folder).part("text")


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    folder = published.save(tmp_path)
    (folder / "transformer" / WEIGHTS).unlink()
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.bin, which can run code .* safetensors"):
        PublishedWeights(folder).part("uvit.token_side")


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    folder = published.save(tmp_path, max_shard_size="20KB")
    shard = sorted((folder / "vqvae").glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{shard.name} is damaged or not safetensors"):
        PublishedWeights(folder).part("vqgan")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        PublishedWeights(folder).part("vqgan")
    index = folder / "vqvae" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"encoder.conv_in.weight": "../../secret.safetensors"}}))
    with pytest.raises(ValueError, match="secret"):
        PublishedWeights(folder).part("vqgan")
    (folder / "vqvae" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"vqvae.config\.json is not JSON"):
        PublishedWeights(folder)
    (folder / "vqvae" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vqvae.config\.json is missing"):
        PublishedWeights(folder)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        PublishedWeights(tmp_path / "nowhere")


def _rename_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["mlm_layer.conv9.weight"] = tensors.pop("mlm_layer.conv2.weight")


def _drop_many(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("up_block.")]:
        del tensors[name]


def _reshape_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["encoder_proj.weight"] = tensors["encoder_proj.weight"].T.contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_one, r"1 missing: mlm_layer\.conv2\.weight; 1 unexpected: mlm_layer\.conv9\.weight"),
        (_drop_many, r"36 missing: up_block\.\S+, up_block\.\S+, up_block\.\S+, \.\.\.;"),
        (_reshape_one, r"1 misshapen: encoder_proj\.weight \(got \(24, 40\), expected \(40, 24\)\)"),
    ],
)
@pytest.mark.parametrize("part", ["uvit.prompt_side", "uvit.token_side"])
def test_wrong_weights_are_named(
    part: str, change: Callable[[dict[str, torch.Tensor]], None], message: str, tmp_path: Path
) -> None:
    """Whichever side is loaded, the whole file is checked."""
    path = published.save(tmp_path) / "transformer" / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=message):
        PublishedWeights(tmp_path).part(part)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("transformer", {"use_bias": True}, "use_bias is True, expected False"),
        ("transformer", {"upsample": True}, "upsample is True, expected False"),
        ("transformer", {"block_out_channels": [36]}, "block_out_channels is a list of 1, expected int"),
        ("transformer", {"block_num_heads": 5}, "block_width 36 / 5 heads"),
        ("transformer", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected int <= 256"),
        ("text_encoder", {"max_position_embeddings": 10**9}, "max_position_embeddings is 1000000000, expected int <="),
        ("transformer", {"hidden_size": 0}, "hidden_size is 0, expected int >= 1"),
        ("transformer", {"_class_name": "UNet2DModel"}, "expected 'UVit2DModel'"),
        ("transformer", {"encoder_hidden_size": 25}, "text.width is 24 but uvit.text_width is 25"),
        ("vqvae", {"mid_block_add_attention": True}, "mid_block_add_attention is True, expected False"),
        ("vqvae", {"norm_type": "spatial"}, "norm_type is 'spatial', expected 'group'"),
        ("vqvae", {"vq_embed_dim": 3}, "vq_embed_dim is 3, expected 6"),
        ("vqvae", {"block_out_channels": [12, 21]}, "21 channels do not split into 4 groups"),
        ("text_encoder", {"hidden_act": "relu"}, 'hidden_act is "relu", expected one of gelu, quick_gelu'),
        ("text_encoder", {"eos_token_id": 49407}, "end_token_id is 49407, expected an id below vocab_size 99"),
        ("text_encoder", {"architectures": ["CLIPModel"]}, "architectures is"),
        ("scheduler", {"masking_schedule": "linear"}, "masking_schedule is 'linear', expected 'cosine'"),
        ("scheduler", {"mask_token_id": 8255}, "mask_token_id is 8255, expected 71"),
    ],
)
def test_unsupported_configurations_are_refused(file: str, change: dict, message: str, tmp_path: Path) -> None:
    published.save(tmp_path)
    path = tmp_path / file / ("scheduler_config.json" if file == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        PublishedWeights(tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[PublishedWeights, Path, Path]:
    """A published model that our own code saved again: the original, the new folder, its tokenizer.json."""
    text = published.make_text(vocab_size=600, bos_token_id=598, eos_token_id=599, pad_token_id=599)
    original = PublishedWeights(published.save(tmp_path / "original", text=text))
    tokenizer = tmp_path / "tokenizer.json"
    Tokenizer.train(["a dog on a boat", "a red star", "two dogs"], 600, 11).save(tokenizer)
    save_diffusers(load_networks(original), tmp_path / "again", tokenizer)
    return original, tmp_path / "again", tokenizer


@torch.no_grad()
def test_saved_folder_loads_in_diffusers_and_gives_the_same(saved: tuple[PublishedWeights, Path, Path]) -> None:
    original, folder, tokenizer_file = saved
    assert same(load_networks(PublishedWeights(folder)), load_networks(original))
    for kind, part in ((UVit2DModel, "transformer"), (VQModel, "vqvae"), (CLIPTextModelWithProjection, "text_encoder")):
        theirs, reference = (kind.from_pretrained(root / part) for root in (folder, original.folder))
        for (name, weight), (other, expected) in zip(
            sorted(theirs.state_dict().items()), sorted(reference.state_dict().items()), strict=True
        ):
            assert name == other
            assert torch.equal(weight, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = AmusedPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config["mask_token_id"] == 71
    picture = pipeline("a red dog", height=16, width=16, num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (16, 16, 3)

    ours = Tokenizer.from_file(tokenizer_file, 11, 598, 599)
    theirs = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    prompts = ["a red dog", "Two  DOGS, 3 boats!", "", "a very long prompt that does not fit into eleven places"]
    ids = theirs(prompts, padding="max_length", truncation=True, max_length=theirs.model_max_length)["input_ids"]
    assert ids == ours.encode(prompts).tolist()


def test_tokenizer_folders_are_copied(saved: tuple[PublishedWeights, Path, Path], tmp_path: Path) -> None:
    original, folder, _ = saved
    save_diffusers(load_networks(original), tmp_path / "third", folder / "tokenizer")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "third" / "tokenizer" / name).read_bytes() == (folder / "tokenizer" / name).read_bytes()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_diffusers(load_networks(original), tmp_path / "fourth", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("uvit", {"learned_positions": True}, "learned positions"),
        ("vqgan", {"spherical": True}, "spherical codes"),
        ("vqgan", {"patch_size": 2}, "a patch stem"),
        ("vqgan", {"norm": "none"}, "a VQ-GAN without norms"),
    ],
)
def test_what_diffusers_does_not_have_is_refused(part: str, change: dict, message: str, tmp_path: Path) -> None:
    published.save(tmp_path / "original")
    config = PublishedWeights(tmp_path / "original").config
    networks = Networks(replace(config, **{part: replace(getattr(config, part), **change)}))
    with pytest.raises(ValueError, match=message):
        save_diffusers(networks, tmp_path / "out", tmp_path / "tokenizer.json")
    assert not (tmp_path / "out").exists()


def test_our_own_file_keeps_the_model_and_names_what_is_wrong(tmp_path: Path) -> None:
    weights = PublishedWeights(published.save(tmp_path))
    networks = load_networks(weights)
    path = tmp_path / "weights.safetensors"
    published.save_weights(networks, path)
    assert same(load_networks(SavedWeights(path, weights.config)), networks)
    tensors = load_file(path)
    tensors["unet.weight"] = tensors.pop("text.projection.weight")
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"1 missing: text\.projection\.weight; 1 unexpected: unet\.weight"):
        SavedWeights(path, weights.config).part("text")
    assert set(PARTS) == {"text", "uvit.prompt_side", "uvit.token_side", "vqgan", "ranker"}
    path.unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        SavedWeights(path, weights.config).part("vqgan")

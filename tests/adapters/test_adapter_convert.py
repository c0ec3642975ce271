"""Adapters through the loaders and savers of diffusers and peft themselves, on their own networks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from diffusers import UVit2DModel
from diffusers.loaders.lora_pipeline import AmusedLoraLoaderMixin
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn

from amused_lite.adapters.convert import read_foreign, write_diffusers, write_peft
from amused_lite.adapters.file import load_adapter, save_adapter
from amused_lite.adapters.lora import TARGETS, Adapter, AdapterRecord, Pair, WeightedAdapter, check_adapter, shapes_of
from amused_lite.adapters.torch import merge
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.files.safetensors import open_tensors, write_tensors
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import Networks, load_networks

UVIT_TARGETS = tuple(target for target in TARGETS if target not in ("text", "embedding", "decoder"))
LORA = {"r": 3, "lora_alpha": 5, "target_modules": ["to_q", "to_k", "to_v"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.save(tmp_path_factory.mktemp("published"))


def ours(base: Path) -> Networks:
    return load_networks(PublishedWeights(base))


def theirs(base: Path) -> UVit2DModel:
    return UVit2DModel.from_pretrained(base / "transformer").eval()


def adapter_for(config: ModelConfig, targets: tuple[str, ...] = UVIT_TARGETS, alpha: float = 5.0) -> Adapter:
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(*(rng.normal(0, 0.2, size).astype(np.float32) for size in ((3, inside), (outside, 3))))
        for module, (outside, inside) in shapes_of(config, targets).items()
    }
    return Adapter(AdapterRecord("golden", 3, alpha, targets, "custom", "", "", trigger="in gold style"), pairs)


@torch.no_grad()
def our_logits(model: Networks, adapter: Adapter | None = None) -> Tensor:
    if adapter is not None:
        merge(model, [WeightedAdapter(adapter)])
    uvit = published.make_uvit()
    tokens = published.random_tokens(2, 8, uvit.config["vocab_size"])
    return model.uvit(tokens, *published.prompt_inputs(2, uvit))


@torch.no_grad()
def their_logits(model: Any) -> Tensor:
    uvit = published.make_uvit()
    tokens = published.random_tokens(2, 8, uvit.config["vocab_size"]).unflatten(1, (8, 8))
    return model(tokens, *published.prompt_inputs(2, uvit)).flatten(2).transpose(1, 2)


def assert_same(got: Tensor, expected: Tensor, plain: Tensor) -> None:
    # Ours is merged, theirs is added after each product: float32 rounding through the whole network.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)
    assert (got - plain).abs().max() > 0.1  # and the adapter does something


def wake(model: nn.Module) -> nn.Module:
    """peft's second matrices start at zero."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.eval()


def test_diffusers_loads_ours(base: Path, tmp_path: Path) -> None:
    model = ours(base)
    adapter, plain = adapter_for(model.config), our_logits(model)
    write_diffusers(adapter, model.config, tmp_path / "x.safetensors")
    uvit = theirs(base)
    state, alphas, metadata = AmusedLoraLoaderMixin.lora_state_dict(
        tmp_path / "x.safetensors", return_lora_metadata=True
    )
    AmusedLoraLoaderMixin.load_lora_into_transformer(state, alphas, uvit, metadata=metadata)
    assert_same(their_logits(uvit), our_logits(model, adapter), plain)
    back, unused = read_foreign(tmp_path / "x.safetensors", model.config)
    assert unused == [] and back.record.trigger == "in gold style" and back.record.targets == UVIT_TARGETS
    assert_same(our_logits(ours(base), back), our_logits(ours(base), adapter), plain)


def test_diffusers_loads_our_text_adapter(base: Path, tmp_path: Path) -> None:
    model = ours(base)
    adapter = adapter_for(model.config, ("text",))
    write_diffusers(adapter, model.config, tmp_path / "x.safetensors")
    text = published.make_text()
    ids = torch.randint(0, 97, (2, 11), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 98
    with torch.no_grad():
        plain = text(ids).text_embeds
        state, alphas, metadata = AmusedLoraLoaderMixin.lora_state_dict(
            tmp_path / "x.safetensors", return_lora_metadata=True
        )
        AmusedLoraLoaderMixin.load_lora_into_text_encoder(state, alphas, text, metadata=metadata)
        expected = text(ids).text_embeds
        merge(model, [WeightedAdapter(adapter)])
        assert_same(model.text(ids)[1], expected, plain)
    assert read_foreign(tmp_path / "x.safetensors", model.config)[0].pairs.keys() == adapter.pairs.keys()
    with pytest.raises(ValueError, match="touches the text tower too"):
        write_peft(adapter, model.config, tmp_path / "folder")


@pytest.mark.parametrize("folder", [False, True])
def test_we_load_theirs(folder: bool, base: Path, tmp_path: Path) -> None:
    """peft's own folder, and the file that the published training script writes."""
    uvit = theirs(base)
    plain = our_logits(ours(base))
    trained: Any = wake(get_peft_model(uvit, LoraConfig(**LORA)))  # type: ignore[arg-type]
    if folder:
        trained.save_pretrained(tmp_path / "x")
        adapter, unused = read_foreign(tmp_path / "x", ours(base).config)
        assert (adapter.record.rank, adapter.record.alpha) == (3, 5.0)
        expected = their_logits(trained)
    else:
        state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(trained).items()}
        AmusedLoraLoaderMixin.save_lora_weights(str(tmp_path), transformer_lora_layers=state)  # type: ignore[arg-type]
        (file,) = tmp_path.iterdir()
        adapter, unused = read_foreign(file, ours(base).config)
        again = theirs(base)  # the script forgets alpha; what its own loader makes of that is what counts
        AmusedLoraLoaderMixin.load_lora_into_transformer(AmusedLoraLoaderMixin.lora_state_dict(file)[0], None, again)
        expected = their_logits(again)
    assert unused == []
    assert adapter.record.targets == ("attention", "block_attention")  # what to_q, to_k, to_v name
    assert_same(our_logits(ours(base), adapter), expected, plain)
    kept = load_adapter(save_adapter(adapter, tmp_path / "ours.safetensors", np.float32))
    assert_same(our_logits(ours(base), kept), expected, plain)


@pytest.mark.parametrize("pattern", [{}, {"alpha_pattern": {"attn1.to_q": 7}, "rank_pattern": {"attn2.to_v": 2}}])
def test_peft_loads_ours_and_its_patterns_are_understood(
    pattern: Mapping[str, Any], base: Path, tmp_path: Path
) -> None:
    model = ours(base)
    plain = our_logits(model)
    if pattern:
        trained: Any = wake(get_peft_model(theirs(base), LoraConfig(**LORA, **pattern)))  # type: ignore[arg-type]
        trained.save_pretrained(tmp_path / "x")
        adapter, _ = read_foreign(tmp_path / "x", model.config)
        assert_same(our_logits(model, adapter), their_logits(trained), plain)
        return
    adapter = adapter_for(model.config)
    write_peft(adapter, model.config, tmp_path / "x")
    loaded = PeftModel.from_pretrained(theirs(base), tmp_path / "x").eval()
    assert_same(our_logits(model, adapter), their_logits(loaded), plain)
    back, unused = read_foreign(tmp_path / "x", model.config)
    assert unused == []
    assert (back.record.rank, back.record.alpha) == (3, 5.0)
    for module, pair in adapter.pairs.items():
        np.testing.assert_array_equal(
            np.hstack([m.ravel() for m in back.pairs[module]]), np.hstack([m.ravel() for m in pair])
        )


def test_old_names_and_alphas(base: Path, tmp_path: Path) -> None:
    """lora.down and lora.up with alpha beside them, as files of diffusers were before peft."""
    config = ours(base).config
    adapter = adapter_for(config, ("attention",))
    write_diffusers(adapter, config, tmp_path / "new.safetensors")
    arrays = open_tensors(tmp_path / "new.safetensors").read()
    old = {key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): value for key, value in arrays.items()}
    old |= {f"{key.rsplit('.', 2)[0]}.alpha": np.array(6.0, np.float32) for key in arrays}
    write_tensors(tmp_path / "old.safetensors", old, {})
    got, unused = read_foreign(tmp_path / "old.safetensors", config)
    assert unused == []
    assert (got.record.rank, got.record.alpha) == (3, 6.0)  # twice what is written, alpha / rank being 1 there


def test_keys_without_a_place_are_listed_and_wrong_ones_refused(base: Path, tmp_path: Path) -> None:
    config = ours(base).config
    adapter = adapter_for(config, ("attention",))
    file = tmp_path / "x.safetensors"
    write_diffusers(adapter, config, file)
    arrays = open_tensors(file).read()
    stray = {"transformer.nowhere.to_q.lora_A.weight": np.ones((3, 4), np.float32), "noise": np.ones(2, np.float32)}
    first = next(iter(arrays))
    write_tensors(file, {**{k: v for k, v in arrays.items() if k != first}, **stray}, {})
    got, unused = read_foreign(file, config)
    assert sorted(unused) == sorted([*stray, first.replace("lora_A", "lora_B")])  # half a pair is no use either
    assert len(got.pairs) == len(adapter.pairs) - 1

    write_tensors(file, stray, {})
    with pytest.raises(ValueError, match="holds no low-rank matrices for custom"):
        read_foreign(file, config)
    write_tensors(file, arrays, {"ss_base_model_version": "amused-256"})
    with pytest.raises(ValueError, match="made for amused-256, this model is custom"):
        read_foreign(file, config)
    write_tensors(file, {**arrays, f"{first[:-13]}lora_magnitude_vector": np.ones(3, np.float32)}, {})
    with pytest.raises(ValueError, match="is a DoRA adapter"):
        read_foreign(file, config)
    with pytest.raises(ValueError, match="has other shapes"):
        wide = {key: np.pad(value, ((0, 0), (0, 2))) if "lora_A" in key else value for key, value in arrays.items()}
        write_tensors(file, wide, {})
        check_adapter(read_foreign(file, config)[0], config)
    with pytest.raises(ValueError, match="is a pickle file"):
        read_foreign(tmp_path / "x.bin", config)
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json is missing"):
        read_foreign(tmp_path, config)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(ValueError, match='peft_type is "IA3", expected one of LORA; give a plain low-rank'):
        read_foreign(tmp_path, config)
    for write in (write_peft, write_diffusers):
        with pytest.raises(ValueError, match="changes the decoder, which diffusers' loaders leave alone"):
            write(adapter_for(config, ("decoder",)), config, tmp_path / "painter")
    with pytest.raises(ValueError, match="changes embeddings, which have no common form"):
        write_peft(adapter_for(config, ("embedding",)), config, tmp_path / "folder")
    with pytest.raises(ValueError, match="is for tiny, which diffusers' networks cannot be"):
        write_diffusers(Adapter(AdapterRecord("x", 1, 1, (), "tiny", "", ""), {}), PRESETS["tiny"], file)


@pytest.mark.slow
@torch.no_grad()
def test_amused_512_round_trips_at_full_size(tmp_path: Path) -> None:
    """Random values through both loaders; the change that each makes to every weight is compared with ours."""
    config = PRESETS["amused-512"]
    shapes = shapes_of(config, UVIT_TARGETS)
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(*(rng.standard_normal(size, np.float32) for size in ((8, inside), (outside, 8))))
        for module, (outside, inside) in shapes.items()
    }
    record = AdapterRecord("x", 8, 0.5, UVIT_TARGETS, "amused-512", "amused/amused-512", "")
    adapter = Adapter(record, pairs)
    size = save_adapter(adapter, tmp_path / "ours.safetensors").stat().st_size
    write_diffusers(adapter, config, tmp_path / "theirs.safetensors")
    write_peft(adapter, config, tmp_path / "peft")
    from amused_lite.adapters.convert import _table
    from amused_lite.models.checkpoint_config import published_configs

    values = {k: v for k, v in published_configs(config)["transformer/config.json"].items() if not k.startswith("_")}
    table = _table(config, shapes)
    for way in ("diffusers", "peft"):
        with torch.device("meta"):
            uvit: Any = UVit2DModel(**values)
        uvit.to_empty(device="cpu")  # the base's own values do not matter here
        if way == "diffusers":
            state = AmusedLoraLoaderMixin.lora_state_dict(tmp_path / "theirs.safetensors")[0]
            AmusedLoraLoaderMixin.load_lora_into_transformer(state, None, uvit)
            adapted = dict(uvit.named_modules())
        else:
            loaded = PeftModel.from_pretrained(uvit, tmp_path / "peft")
            adapted = dict(loaded.base_model.model.named_modules())
        largest = 0.0
        for module, (down, up) in pairs.items():
            layer = adapted[table[module].name.removesuffix(".weight")]
            (name,) = layer.lora_A
            delta = layer.get_delta_weight(name)
            expected = torch.from_numpy(record.scale * (up @ down))
            largest = max(largest, float((delta.flatten(1) - expected).abs().max() / expected.abs().max()))
        print(f"{way}: {len(pairs)} modules, largest relative difference {largest:.1e}; our file {size / 1e6:.1f} MB")
        assert largest < 1e-5

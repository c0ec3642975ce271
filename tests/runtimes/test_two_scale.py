"""Two-scale guidance: the formula of StyleDrop's PyTorch port on raw logits, and every command that takes it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_adapter_loading import adapter

from amused_lite.adapters.file import load_adapter, save_adapter
from amused_lite.adapters.lora import WeightedAdapter
from amused_lite.adapters.torch import merge
from amused_lite.cli import main
from amused_lite.conditioning import Conditioning, MicroConditioning, stack_pair
from amused_lite.files.png import read_recipe
from amused_lite.models.networks import Networks
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.runtimes.two_scale import TwoScale
from amused_lite.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(adapter(), tmp_path_factory.mktemp("adapter") / "gold.safetensors")


@pytest.fixture(scope="module")
def opened() -> tuple[Networks, Tokenizer]:
    runtime, tokenizer, _ = open_model("tiny", "torch", 1)
    assert isinstance(runtime, TorchRuntime)
    return runtime.networks().eval(), tokenizer


def half_masked(networks: Networks) -> np.ndarray:
    uvit = networks.config.uvit
    rng = np.random.default_rng(0)
    tokens = rng.integers(uvit.codebook_size, size=(1, uvit.num_tokens)).astype(np.int32)
    tokens[0, ::2] = uvit.mask_token_id
    return tokens


def conditioned(runtime: TorchRuntime | TwoScale, tokenizer: Tokenizer) -> Conditioning:
    micro = MicroConditioning(512, 512).array()
    rows = [runtime.encode_prompt(tokenizer.encode([text]), micro) for text in ("", "a red star in gold style")]
    return stack_pair(*rows)


@pytest.mark.parametrize(("style_scale", "guidance_scale"), [(2.0, 6.0), (0.0, 3.0), (1.5, 1.0)])
def test_the_published_formula(
    style_scale: float, guidance_scale: float, opened: tuple[Networks, Tokenizer], file: Path
) -> None:
    networks, tokenizer = opened
    runtime, *_ = open_model("tiny", "torch", 1, [str(file)], style_scale)
    assert isinstance(runtime, TwoScale)
    tokens = half_masked(networks)
    got = runtime.predict(tokens, conditioned(runtime, tokenizer), guidance_scale)

    @torch.inference_mode()
    def logits(text: str, networks: Networks = networks) -> torch.Tensor:
        states, pooled = networks.text(torch.from_numpy(tokenizer.encode([text])))
        micro = torch.from_numpy(MicroConditioning(512, 512).array())
        side = networks.uvit.token_side
        features = side.features(torch.from_numpy(tokens), networks.uvit.prompt_side(states, pooled, micro))
        return side.head(features)

    plain, negative = logits("a red star in gold style"), logits("")
    changed = copy.deepcopy(networks)
    merge(changed, [WeightedAdapter(load_adapter(file))], dtype=np.float16)  # as the bundle stores its weights
    styled = logits("a red star in gold style", changed)
    words = guidance_scale - 1
    expected = (styled + style_scale * (styled - plain) + words * (plain - negative)).log_softmax(-1).numpy()
    assert np.abs(expected - logits("a red star in gold style").log_softmax(-1).numpy()).max() > 1
    np.testing.assert_allclose(got, expected, atol=1e-3)  # of logits up to some 80


def test_a_model_beside_itself_guides_as_usual(opened: tuple[Networks, Tokenizer]) -> None:
    networks, tokenizer = opened
    base = TorchRuntime.from_networks(networks)
    both = TwoScale(base, base, 5.0)
    tokens = half_masked(networks)
    for scale in (3.0, 1.0):
        expected = base.predict(tokens, conditioned(base, tokenizer), scale)
        np.testing.assert_allclose(both.predict(tokens, conditioned(both, tokenizer), scale), expected, atol=1e-4)


def test_weight_zero_draws_the_base_s_picture(file: Path) -> None:
    amused = AmusedPipeline.open("tiny", adapters=[f"{file}:0"], style_scale=2.0, threads=1, keep_loaded=True)
    plain = AmusedPipeline.open("tiny", threads=1, keep_loaded=True)
    pictures = [one.generate("a red star", seed=3, steps=4) for one in (amused, plain)]
    np.testing.assert_array_equal(pictures[0].recipe.tokens, pictures[1].recipe.tokens)


def test_commands_take_it_and_the_picture_remembers(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    style = ["--adapter", str(file), "--style-scale", "1.5"]
    words = ["-s", "3", "--steps", "3", "-q", *style]
    assert main(["generate", "a red star in gold style", *words, "-o", str(tmp_path / "a.png")]) == 0
    recipe = read_recipe(tmp_path / "a.png")
    assert recipe.adapters[0].startswith("gold:1 ") and recipe.adapters[1:] == ("style scale 1.5",)
    assert main(["verify", str(tmp_path / "a.png"), *style]) == 0
    assert main(["verify", str(tmp_path / "a.png"), *style[:2]]) != 0
    assert "style scale 1.5" in capsys.readouterr().out
    edit = ["vary", str(tmp_path / "a.png"), *words, "-o", str(tmp_path / "b.png")]
    assert main(edit) == 0
    assert read_recipe(tmp_path / "b.png").adapters == recipe.adapters
    capsys.readouterr()
    for bad, message in ((["--style-scale", "2"], "add --adapter"), ([*style[:3], "-1"], "must be 0 to 20, got -1")):
        assert main(["generate", "a red star", *bad, "-o", str(tmp_path / "c.png")]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1

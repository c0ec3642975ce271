"""The draft decoder: it learns what the model's own decoder paints, resumes, and leaves everything else alone."""

import _thread
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from style_models import CONFIG, model, tokenizer

from amused_lite import cli
from amused_lite.adapters.lora import preset_of, shapes_of
from amused_lite.bundle import open_bundle
from amused_lite.config import PRESETS, ModelConfig, VQGANConfig
from amused_lite.export.bundle import unproven_manifest
from amused_lite.export.options import ExportOptions
from amused_lite.export.weights import open_source
from amused_lite.models.checkpoint_config import published_configs
from amused_lite.pipeline import AmusedPipeline
from amused_lite.reading import convert
from amused_lite.runtimes.base import ModelInfo
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.training import distill as module
from amused_lite.training.base_model import BaseModel, generated_examples
from amused_lite.training.data.quadrants import TokensAndPixels
from amused_lite.training.distill import DistillConfig, DistilledWeights, distill, fidelity, new_decoder

RECIPE = DistillConfig(widths=(8, 12), pictures=16, steps=80, batch=4, ema_decay=0.9, learning_rate=4e-3)


@pytest.fixture
def base() -> BaseModel:
    info = ModelInfo("small", "0" * 64)
    return BaseModel(model(), tokenizer(), info, "1" * 64)


def painted(base: BaseModel, count: int = 16) -> TokensAndPixels:
    """Random grids of large even patches, as the model's own decoder paints them."""
    rng = np.random.default_rng(0)
    grid = CONFIG.uvit.grid
    coarse = rng.integers(CONFIG.vqgan.codebook_size, size=(count, 2, 2))
    tokens = torch.from_numpy(coarse.repeat(grid // 2, 1).repeat(grid // 2, 2)).flatten(1)
    amused = base.amused()
    return TokensAndPixels(tokens, [np.array(amused.decode(row.int().numpy())) for row in tokens])


def test_it_comes_near_the_models_own_decoder(base: BaseModel, tmp_path: Path) -> None:
    shown = painted(base)
    before = fidelity(new_decoder(base.networks.vqgan, RECIPE.widths), shown, RECIPE)
    draft = distill(base, shown, RECIPE, tmp_path)
    assert draft is not None
    assert fidelity(draft, shown, RECIPE) > before + 6  # dB: half the error and more
    own = base.networks.vqgan
    assert draft.codebook is own.codebook and draft.encoder is own.encoder and draft.post_quant is own.post_quant
    pixels = torch.rand(1, 3, CONFIG.image_size, CONFIG.image_size)
    assert torch.equal(draft.encode_image(pixels), own.encode_image(pixels))


def test_a_stopped_teaching_goes_on_to_the_same_end(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, train_config = painted(base), replace(RECIPE, steps=12)
    whole = distill(base, shown, train_config, tmp_path / "whole")
    loss, steps = module._loss, []

    def interrupted(*values: object) -> torch.Tensor:
        steps.append(values[-1])
        if len(steps) == 5:
            _thread.interrupt_main()  # as Ctrl-C, but for the kernel, which would use the stack a C library left for it
        return loss(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_loss", interrupted)
    assert distill(base, shown, train_config, tmp_path / "parts") is None
    resumed = distill(base, shown, train_config, tmp_path / "parts")
    assert whole is not None and resumed is not None and steps == list(range(12))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    other = replace(train_config, widths=(8,), steps=1)  # another training beside it, in the same folder
    assert distill(base, shown, other, tmp_path / "parts") is not None


def test_own_pictures_go_on_where_they_were_stopped(base: BaseModel, tmp_path: Path) -> None:
    prompts, cache, totals = ["a red star", "a blue boat", "two cups"], tmp_path / "parts.safetensors", []

    def stopping(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        totals.append(total)
        yield from islice(items, 2)
        if total > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generated_examples(base, prompts, cache, stopping)
    resumed = generated_examples(base, prompts, cache, stopping)
    assert totals == [3, 1]
    assert torch.equal(resumed.tokens, generated_examples(base, prompts, tmp_path / "whole.safetensors").tokens)
    assert len(generated_examples(base, prompts[:1], cache).tokens) == 1  # other prompts begin anew


def test_a_draft_is_another_decoder_of_the_same_model(base: BaseModel) -> None:
    drafted = DistilledWeights(base.networks, new_decoder(base.networks.vqgan, (8, 12)))
    assert convert(asdict(drafted.config), ModelConfig, "config", "") == drafted.config != CONFIG
    assert drafted.part("uvit.token_side") is base.networks.part("uvit.token_side")
    tiny = replace(PRESETS["tiny"], vqgan=replace(PRESETS["tiny"].vqgan, draft=(32, 64)))
    assert preset_of(tiny) == "tiny"  # adapters of the U-ViT fit, those of the decoder have other shapes
    assert shapes_of(tiny, ["attention"]) == shapes_of(PRESETS["tiny"], ["attention"])
    assert shapes_of(tiny, ["decoder"]) != shapes_of(PRESETS["tiny"], ["decoder"])
    full = replace(PRESETS["amused-512"], vqgan=replace(PRESETS["amused-512"].vqgan, draft=(32, 64)))
    with pytest.raises(ValueError, match="has a draft decoder, which diffusers' aMUSEd does not have"):
        published_configs(full)
    with pytest.raises(ValueError, match="is a draft already"):
        new_decoder(new_decoder(base.networks.vqgan, (8,)), (8,))


@pytest.mark.parametrize("widths", [(32,), (16, 32), (8, 8, 8, 8, 8)])
def test_any_number_of_levels_paints_the_same_side(widths: tuple[int, ...]) -> None:
    config = VQGANConfig(channels=(8, 8, 8, 8, 8), norm_groups=4, codebook_size=8, latent_channels=4, draft=widths)
    vqgan = module.VQGAN(config)
    assert vqgan.decode_image(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="5 levels or fewer, got 6"):
        replace(config, draft=(4,) * 6)


def test_from_a_bundle_to_a_drafting_bundle(
    small_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same tokens, another picture; it says that it is a draft, and exports on from there."""
    source, out = small_bundle(), tmp_path / "draft"
    (tmp_path / "prompts.txt").write_text("a red star\n\na blue boat\n")
    words = ["distil", str(source), str(out), "--prompts", str(tmp_path / "prompts.txt"), "--pictures", "16"]
    assert cli.main([*words, "--steps", "3", "--widths", "8,12", "--threads", "1"]) == 0
    assert "dB from the model's own decoder on held-out pictures" in capsys.readouterr().out
    bundle = open_bundle(out)
    said = bundle.manifest.options["draft"]
    assert said["widths"] == [8, 12] and said["steps"] == 3 and said["pictures"] == 16 and said["psnr"] > 0
    assert bundle.manifest.name.endswith("(draft decoder)")
    models = [AmusedPipeline.open(folder, threads=1) for folder in (source, out)]
    tokens = [list(amused.steps(Task("a red star", options=GenerateOptions(seed=1))))[-1].tokens for amused in models]
    assert np.array_equal(*tokens)
    full, draft = (np.array(amused.decode(tokens[0][0])) for amused in models)
    assert full.shape == draft.shape and not np.array_equal(full, draft)
    again = open_source(out, tmp_path)
    assert again.draft == said and again.weights.config.vqgan.draft == (8, 12)
    assert unproven_manifest(again, {}, out, ExportOptions(), "", "").options["draft"] == said


WRONG = [
    (
        ["--widths", "a"],
        "--widths: are numbers with commas between them, such as 32,64: must be a whole number, got 'a'",
    ),
    (["--widths", "0"], "such as 32,64: must be 1 or more, got 0"),
    (["--pictures", "15"], "--pictures: must be 16 or more, got 15"),
    (["--prompts", "nowhere.txt"], "nowhere.txt"),
    (["--to", "paper"], "'paper' is unknown"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["distil", "tiny", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()

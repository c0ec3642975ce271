"""The decoder's adapter: every picture counts, guessed ones come in their share, and the U-ViT stays as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from style_models import CONFIG, RECIPE, model, record

from amused_lite.style.config import TRAIN_CONFIGS, StyleTrainConfig, train_config_of
from amused_lite.style.data import in_turn
from amused_lite.style.decoder import DecoderBatches, DecoderStep
from amused_lite.style.train import prepare, train_style
from amused_lite.training.data.quadrants import TokensAndPixels
from amused_lite.training.loop.fit import TrainingRun

DECODER = replace(RECIPE, targets=("decoder",), guessed_share=0.5)


def paired(count: int, seed: int) -> TokensAndPixels:
    rng = np.random.default_rng(seed)
    side = CONFIG.uvit.grid * CONFIG.vqgan.downsample_factor
    tokens = torch.from_numpy(rng.integers(CONFIG.vqgan.codebook_size, size=(count, CONFIG.uvit.num_tokens)))
    return TokensAndPixels(tokens, list(rng.integers(256, size=(count, side, side, 3), dtype=np.uint8)))


@pytest.mark.parametrize("pictures", [1, 3, 10])
def test_every_picture_contributes_a_gradient(pictures: int) -> None:
    train_config = replace(DECODER, batch=1, guessed_share=0.0)
    networks, real = model(), paired(pictures, 0)
    step, batches = DecoderStep(networks, train_config), DecoderBatches(train_config, real)
    attached = prepare(networks, record(train_config), train_config)
    moved = []
    for number in range(pictures):
        batch = batches.batch(number)
        whole = [set(tokens.tolist()) for tokens in real.tokens]
        moved.append(in_turn(pictures, 1, train_config.seed, number)[0])
        assert set(batch.tokens.flatten().tolist()) <= whole[moved[-1]]
        step(batch).backward()
        ups = [layer.up.grad for layer in attached.layers]
        assert all(up is not None and up.abs().max() > 0 for up in ups)
        attached.zero_grad()
    assert sorted(moved) == list(range(pictures))


def test_guessed_pictures_come_in_their_share_with_their_own_tokens() -> None:
    real, augmented = paired(2, 0), paired(5, 1)
    train_config = replace(DECODER, batch=200)
    batches = DecoderBatches(train_config, real, augmented)
    batch = batches.batch(0)
    known = [*zip(*real, strict=True), *zip(*augmented, strict=True)]
    side, pixels = CONFIG.uvit.grid, len(real.pictures[0])
    half, margin = side // 2, pixels // side
    rows = []
    for tokens, painted, (down, right) in zip(batch.tokens, batch.pixels, batch.corners.tolist(), strict=True):
        quadrants = [one.view(side, side)[half * down :, half * right :][:half, :half] for one, _ in known]
        row = next(k for k, quadrant in enumerate(quadrants) if torch.equal(tokens, quadrant))
        whole = known[row][1][pixels // 2 * down :, pixels // 2 * right :][: pixels // 2, : pixels // 2]
        shown = whole[margin * down :, margin * right :][: pixels // 2 - margin, : pixels // 2 - margin]
        np.testing.assert_array_equal((painted.permute(1, 2, 0) * 255).round().byte().numpy(), shown)
        rows.append(row)
    assert np.mean(np.array(rows) >= 2) == pytest.approx(0.5, abs=0.12)  # 3 standard errors
    assert set(rows) == set(range(7)) and len(batch.corners.unique(dim=0)) == 4
    again = batches.batch(0)
    assert torch.equal(again.tokens, batch.tokens) and torch.equal(again.pixels, batch.pixels)


def test_a_quarter_is_compared_with_its_own_place() -> None:
    """Decoded whole or as quadrants, pictures are the same inside the margins, but for what reaches farther."""
    networks = model()
    networks.vqgan.codebook.data.normal_(generator=torch.Generator().manual_seed(0))
    for block in networks.vqgan.decoder.modules():  # 1x1 in all but name, so that nothing reaches beyond a token
        if isinstance(block, torch.nn.Conv2d) and block.kernel_size == (3, 3):
            mask = torch.zeros(3, 3)
            mask[1, 1] = 1
            block.weight.data *= mask
    tokens = paired(1, 0).tokens
    with torch.no_grad():
        whole = networks.vqgan.decode_latents(networks.vqgan.codebook[tokens].unflatten(1, (CONFIG.uvit.grid, -1)))
    low, high = whole.min(), whole.max()
    picture = ((whole - low) / (high - low) * 255).round()[0].permute(1, 2, 0).byte().numpy()
    train_config = replace(DECODER, batch=16, guessed_share=0.0)
    batch = DecoderBatches(train_config, TokensAndPixels(tokens, [picture])).batch(0)
    same = batch._replace(pixels=batch.pixels * (high - low) + low)
    loss = DecoderStep(networks, train_config)(same).item()
    assert loss < 0.01 * (high - low).item()  # rounding to 255 levels
    assert DecoderStep(networks, train_config)(same._replace(corners=1 - same.corners)).item() > 10 * loss


def test_it_learns_and_touches_nothing_but_the_decoder(tmp_path: Path) -> None:
    networks = model()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    train_config = replace(DECODER, steps=40, learning_rate=1e-2, guessed_share=0.0)
    real = paired(2, 0)
    real = real._replace(pictures=[np.full_like(picture, 200) for picture in real.pictures])
    step, batches = DecoderStep(networks, train_config), DecoderBatches(train_config, real)
    attached = prepare(networks, record(train_config), train_config)
    first = step(batches.batch(0)).item()
    assert train_style(step, attached, batches, TrainingRun(tmp_path)) == "all 40 steps are done"
    assert step(batches.batch(0)).item() < 0.5 * first
    assert all(path.startswith("vqgan.decoder.") for path in attached.paths)
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())


def test_the_recipe_of_the_question() -> None:
    assert TRAIN_CONFIGS["tiny"].decoder and train_config_of("tiny") == TRAIN_CONFIGS["tiny"]
    tokens = train_config_of("tiny", ("attention", "head"))
    assert tokens.targets == ("attention", "head") and not tokens.decoder and tokens.guessed_share == 0
    assert train_config_of("amused-512", ("decoder",)).guessed_share > 0
    assert train_config_of("amused-512", ("text",)) == replace(TRAIN_CONFIGS["amused-512"], targets=("text",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ("decoder", "attention")}, "is learned alone"),
        ({"targets": ("decoder",), "kind": "bottleneck"}, "takes low_rank adapters"),
        ({"guessed_share": 0.5}, "guessed_share is for the target decoder"),
    ],
)
def test_what_does_not_go_together(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StyleTrainConfig(**changes)

"""A 256 model that has gained the layers of a 512 model draws what it drew, and diffusers loads it."""

from pathlib import Path

import libraries  # noqa: F401
import pytest
import small_published
import torch
from diffusers import UVit2DModel

from amused_lite import cli
from amused_lite.training.base_model import BaseModel
from amused_lite.training.grow import grown


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_published.save_small(tmp_path_factory.mktemp("small"))


@torch.inference_mode()
def test_first_outputs_are_those_of_the_small_model_four_times(small: Path) -> None:
    base = BaseModel.open(small, 1)
    before, after = base.networks, grown(base.networks)
    assert after.config.image_size == 2 * before.config.image_size
    text = before.text(torch.from_numpy(base.tokenizer.encode(["a red star"])).long())
    side, mask = before.config.uvit.grid, before.config.uvit.mask_token_id
    micro = torch.tensor([[64.0, 64, 0, 0, 6]])
    tokens = torch.randint(0, 64, (side, side), generator=torch.Generator().manual_seed(0))
    tokens[: side // 2] = mask
    fours = tokens.repeat_interleave(2, 0).repeat_interleave(2, 1)
    expected = before.uvit(tokens.flatten()[None], *text, micro).unflatten(1, (side, side))
    made = after.uvit(fours.flatten()[None], *text, micro).unflatten(1, (2 * side, 2 * side))
    for row in range(2):
        for column in range(2):
            cell = made[:, row::2, column::2]
            error = (cell - expected).pow(2).mean() / expected.var()
            print(f"unexplained variance {error:.4f}")
            assert error < 0.1  # tokens differ a little in size, which the new norm takes away
            assert (cell.argmax(-1) == expected.argmax(-1)).float().mean() > 0.8


def test_grown_from_the_command_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grown"
    assert cli.main(["grow", str(small), str(out)]) == 0, capsys.readouterr().err
    base = BaseModel.open(out, 1)
    assert base.networks.config.uvit.resample and base.networks.config.uvit.grid == 16
    theirs = UVit2DModel.from_pretrained(out / "transformer").eval()
    text = base.networks.text(torch.from_numpy(base.tokenizer.encode(["a red star"])).long())
    tokens, micro = torch.randint(0, 64, (1, 256)), torch.tensor([[16.0, 16, 0, 0, 6]])
    with torch.inference_mode():
        ours = base.networks.uvit(tokens, *text, micro)
        other = theirs(tokens.unflatten(1, (16, 16)), text[0], text[1], micro).flatten(2).transpose(1, 2)
    assert (ours - other).abs().max() < 1e-4
    assert cli.main(["grow", str(out), str(tmp_path / "twice")]) == 2
    assert "halves its grid already; only models such as amused/amused-256 grow" in capsys.readouterr().err

"""A model's VQ-GAN on somebody's own pictures: what learns and what stays, judged, stopped, and read by diffusers."""

import _thread
import tarfile
from pathlib import Path
from typing import Any

import libraries  # noqa: F401
import numpy as np
import published
import pytest
import small_published
import torch
from diffusers import VQModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from amused_lite import cli
from amused_lite.training.base_model import BaseModel
from amused_lite.training.data.pictures import Folder, Tars
from amused_lite.training.pixels.adversarial import AdversarialLoss, PerceptualError
from amused_lite.training.pixels.own import OwnPictures, PixelTraining, quality, settings, train


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model for pictures of 32 px."""
    return small_published.save_small(tmp_path_factory.mktemp("small"), uvit=published.make_uvit(sample_size=16))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight smooth pictures without captions, and one that is cut off."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def parts(vqgan: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vqgan.state_dict().items()}


def test_the_decoder_learns_and_the_codes_stay(
    small: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["vqgan", str(small), str(pictures), str(out), "--steps", "10", "--threads", "1"]
    assert cli.main(words) == 0, capsys.readouterr().err
    said, warned = capsys.readouterr()
    assert warned.count("cut.png): unreadable, left out") == 1 and f'generate "..." -m {out}' in said
    before, after = (parts(BaseModel.open(model, 1).networks.vqgan) for model in (small, out))
    changed = {name.partition(".")[0] for name, value in before.items() if not value.equal(after[name])}
    assert changed == {"post_quant", "decoder"}
    tokens = torch.randint(0, 64, (1, 256), generator=torch.Generator().manual_seed(0))
    theirs: Any = VQModel.from_pretrained(out / "vqvae").eval()
    with torch.inference_mode():
        expected = theirs.decode(tokens, force_not_quantize=True, shape=(1, 16, 16, 6)).sample.clamp(0, 1)
        made = BaseModel.open(out, 1).networks.vqgan.decode_image(tokens)
    assert (made - expected).abs().max() < 1e-4


def test_a_new_one_learns_its_pictures_and_a_stopped_training_is_the_same(
    small: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnPictures(Folder(pictures), 32)

    def trained(work: Path) -> BaseModel | None:
        base = BaseModel.open(small, 1)
        config = settings(base, "new", steps=36, batch=4, learning_rate=6e-3)
        return train(PixelTraining(base, own, "new", config), work)

    whole = trained(tmp_path / "whole")
    draw, seen = OwnPictures.__call__, []

    def interrupted(self: OwnPictures, *values: Any) -> np.ndarray:
        seen.append(values)
        if len(seen) == 4 * 24:  # the discriminator has begun at 18
            _thread.interrupt_main()
        return draw(self, *values)

    monkeypatch.setattr(OwnPictures, "__call__", interrupted)
    assert trained(tmp_path / "parts") is None
    resumed = trained(tmp_path / "parts")
    assert whole is not None and resumed is not None
    for name, value in whole.networks.vqgan.state_dict().items():
        assert torch.equal(value, resumed.networks.vqgan.state_dict()[name]), name
    likeness, codes = quality(whole.networks.vqgan, own)
    shown = [own(0, index) / 255 for index in range(9)]
    plain = np.mean([-10 * np.log10(picture.var((0, 1)).mean()) for picture in shown])  # the mean colour of each
    print(f"{likeness:.1f} dB, mean colours {plain:.1f} dB, {codes} of 64 codes")
    assert likeness > plain + 2 and codes > 16


def test_the_discriminator_pulls_as_hard_as_the_error() -> None:
    torch.manual_seed(0)
    last, wanted = nn.Conv2d(16, 3, 3, padding=1), torch.rand(2, 3, 64, 64)
    made = last(torch.randn(2, 16, 64, 64))
    judge = AdversarialLoss(last.weight, 1, 1e-3)
    error = (made - wanted).abs().mean()
    assert judge(made, wanted, error, 0) is error and not judge.learn(made.detach(), wanted, 0)
    (pull,) = torch.autograd.grad(error, last.weight, retain_graph=True)
    (both,) = torch.autograd.grad(judge(made, wanted, error, 1), last.weight, retain_graph=True)
    assert (both - pull).norm() / pull.norm() == pytest.approx(0.8, rel=0.02)
    hinge = [judge.learn(made.detach(), wanted, number)["discriminator"] for number in range(1, 30)]
    print(hinge[0], hinge[-1])
    assert hinge[0] == pytest.approx(2, abs=0.3) and hinge[-1] < 0.8 * hinge[0]


@pytest.mark.slow
def test_features_of_vgg_16_are_compared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width, weights = 3, {}
    for count, wide in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            conv = nn.Conv2d(width, wide, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            weights |= {f"features.{len(layers)}.{name}": value for name, value in conv.state_dict().items()}
            layers += [conv, nn.ReLU()]
            width = wide
        layers.append(nn.MaxPool2d(2))
    save_file(weights, tmp_path / "vgg.safetensors")
    error = PerceptualError(tmp_path / "vgg.safetensors")
    made, wanted = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    scale = [torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    a, b, expected = (made - scale[0]) / scale[1], (wanted - scale[0]) / scale[1], torch.zeros(())
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.MaxPool2d):
                unit = [x / x.square().sum(1, keepdim=True).sqrt() for x in (a, b)]
                expected = expected + (unit[0] - unit[1]).square().sum(1).mean()
            a, b = layer(a), layer(b)
        assert error(made, made) == 0
        assert error(made, wanted).item() == pytest.approx(expected.item(), rel=1e-3)
    weights["features.0.weight"] = torch.zeros(8, 3, 3, 3)
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="has other sizes than VGG-16"):
        PerceptualError(tmp_path / "other.safetensors")


def test_pictures_in_tar_files_are_found_by_number(pictures: Path, tmp_path: Path) -> None:
    folder = Folder(pictures)
    tars = [str(tmp_path / name) for name in ("a.tar", "b.tar")]
    for name, half in zip(tars, (folder.files[:5], folder.files[5:]), strict=True):
        with tarfile.open(name, "w") as tar:
            tar.add(pictures / half[0], "x.txt")
            for file in half:
                tar.add(pictures / file, file)
    source = Tars(tars, "tars")
    assert len(source) == len(folder) == 9
    for number in range(9):
        assert source.picture(number).getvalue() == folder.picture(number).read_bytes()
    drawn = [[OwnPictures(one, 32)(3, index) for index in range(9)] for one in (folder, source)]
    assert np.array_equal(drawn[0], drawn[1]) and len({picture.tobytes() for picture in drawn[0][:8]}) >= 7
    Path(tars[1]).write_bytes(Path(tars[1]).read_bytes()[:1024])
    assert len(Tars(tars, "tars")) == 5
    with pytest.raises(ValueError, match="can be read from its start only"):
        len(Tars(["pipe:cat a.tar"], "tars"))


def test_what_cannot_be_trained_on_is_said_in_a_line(
    small: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.png").write_bytes(b"nothing")
    for source, rest, expected in (
        (pictures, ("--crop", "64"), "--crop 64 does not fit the model; give a multiple of 2 from 32 up to 32"),
        (bad, (), "can be used; their short sides need 16 px"),
        (tmp_path, ("--pictures", "3"), "--pictures is for the worlds"),
    ):
        assert cli.main(["vqgan", str(small), str(source), str(tmp_path / "out"), *rest, "--threads", "1"]) == 2
        assert expected in capsys.readouterr().err and not (tmp_path / "out").exists()

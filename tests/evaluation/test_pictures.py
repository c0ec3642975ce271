"""Scores of folders of pictures, by torch-fidelity's and open_clip's networks with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.linalg import sqrtm

from amused_lite import cli
from amused_lite.evaluation.pictures import distance, features_of, fit_of, open_inception
from amused_lite.models.torchvision_shim import ensure_torchvision

ensure_torchvision()


def folder_of(folder: Path, seed: int, count: int = 4) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"number {number}")
    return folder


def test_frechet_and_kernel_distances_are_those_of_the_papers() -> None:
    pytest.importorskip("torch_fidelity")
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 5)), rng.normal(0.5, 2.0, size=(50, 5))
    found = distance(torch.from_numpy(one), torch.from_numpy(other))
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    moved = ((one.mean(0) - other.mean(0)) ** 2).sum()
    frechet = moved + np.trace(sum(covariances) - 2 * np.real(sqrtm(covariances[0] @ covariances[1])))
    assert found.fid == pytest.approx(frechet, rel=1e-6) and (found.count, found.reference) == (60, 50)
    assert found.kid > distance(torch.from_numpy(one[:30]), torch.from_numpy(one[30:])).kid


@pytest.mark.slow  # the square root of a covariance of 2048 features
def test_fid_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    kind = module.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:  # its network without its download
        patch.setattr(module, "load_state_dict_from_url", lambda *words, **more: {})
        patch.setattr(kind, "load_state_dict", lambda self, state: None)
        network = kind("inception", ["2048"])
    weights = tmp_path / "inception.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    one, other = folder_of(tmp_path / "one", 1), folder_of(tmp_path / "other", 2)
    expected = network(torch.from_numpy(np.array(Image.open(one / "0.png"))).permute(2, 0, 1)[None])[0]
    assert features_of(one, open_inception(weights))[:1].equal(expected)
    words = ["score", str(one), str(other), "--reference", str(one), "--inception", str(weights), "--threads", "1"]
    assert cli.main([*words, "--json"]) == 0
    same, far = (json.loads(line)["distance"] for line in capsys.readouterr().out.splitlines())
    assert abs(same["fid"]) < 1e-3 * far["fid"] and (far["count"], far["reference"]) == (4, 4)
    assert far["to"] == str(one) and "299 px" in far["resize"]
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="are not torch-fidelity's weights of Inception"):
        open_inception(tmp_path / "other.safetensors")


class Length:
    """A ranker of captions: their length."""

    def scores(self, prompt: str, images: list[Image.Image]) -> list[float]:
        return [float(len(prompt))] * len(images)


def test_pictures_without_captions_have_no_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "one", 1, 3)
    (folder / "0.txt").write_text("0")
    (folder / "1.txt").unlink()
    assert fit_of(folder, Length()) == (4.5, pytest.approx(3.5 / 2**0.5), 2)
    for text in folder.glob("*.txt"):
        text.unlink()
    with pytest.raises(ValueError, match=r"no picture of .* has a caption"):
        fit_of(folder, Length())
    wrong = {
        (): "nothing to measure by; give --ranker",
        ("--reference", str(folder)): "FID and KID need both --reference FOLDER and --inception FILE",
        ("--ranker", "ViT-B-32:nowhere.safetensors"): "nowhere.safetensors is missing",
    }
    for rest, message in wrong.items():
        assert cli.main(["score", str(folder), *rest]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1

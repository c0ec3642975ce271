"""Scores of folders of pictures: how well they fit their captions, and how near they are to other pictures.

Pictures and captions are read as `tokenize` reads them. FID (Heusel et al. 2017) and KID (Binkowski et al. 2018) are
torch-fidelity's; its weights are a file here, since nothing is downloaded unasked.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from amused_lite.analysis.ranking import Ranker
from amused_lite.files.images import open_picture
from amused_lite.files.safetensors import open_tensors
from amused_lite.models.torchvision_shim import ensure_torchvision
from amused_lite.system.extras import require_extra
from amused_lite.training.data.pictures import Folder

RESIZE = "299 px, bilinear as TensorFlow 1 has it"  # torch-fidelity's
_SUBSET = 1000  # pictures of each of KID's 100 draws, or all where there are fewer


class Fit(NamedTuple):
    """Mean cosine of picture and caption."""

    mean: float
    error: float  # standard error
    count: int


class Distance(NamedTuple):
    """Of two sets of pictures in Inception's 2048 features."""

    fid: float
    kid: float
    kid_deviation: float  # over the draws
    count: int
    reference: int  # pictures


def fit_of(folder: Path, ranker: Ranker) -> Fit:
    """How well pictures fit their captions.

    Raises:
        FileNotFoundError: there is no picture.
        ValueError: a picture cannot be read, or none has a caption.
    """
    scores = [ranker.scores(text, [image])[0] for text, image in _pictures(folder) if text]
    if not scores:
        raise ValueError(f"no picture of {folder} has a caption; write a.txt beside a.png, or a metadata.jsonl")
    return Fit(float(np.mean(scores)), float(np.std(scores) / len(scores) ** 0.5), len(scores))


def features_of(folder: Path, inception: Any) -> Tensor:
    """Inception's (P, 2048) features of all pictures.

    Raises:
        FileNotFoundError, ValueError: as `fit_of`; or there is but one picture.
    """
    with torch.inference_mode():
        rows = [
            inception(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0] for _, image in _pictures(folder)
        ]
    if len(rows) < 2:
        raise ValueError(f"{folder} has one picture; a distance needs two or more, and means little below 10,000")
    return torch.cat(rows)


def distance(one: Tensor, other: Tensor) -> Distance:
    """FID and KID of two sets of features."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(other), False)
    subset = min(_SUBSET, len(one), len(other))
    found |= kid_features_to_metric(one, other, kid_subset_size=subset, verbose=False)
    fid = found["frechet_inception_distance"]
    kid = found["kernel_inception_distance_mean"]
    return Distance(fid, kid, found["kernel_inception_distance_std"], len(one), len(other))


def open_inception(weights: Path) -> Any:
    """torch-fidelity's Inception, from its own weights as a safetensors file.

    Raises:
        ValueError: they are another network's, or no safetensors.
        MissingExtraError: torch-fidelity is not installed.
    """
    require_extra("train", "FID", "torch_fidelity")
    ensure_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if weights.suffix != ".safetensors":
        raise ValueError(f"{weights} is no safetensors file; other formats can run code when read (docs/training)")
    tensors = {name: torch.from_numpy(value.copy()) for name, value in open_tensors(weights).read().items()}
    with tempfile.TemporaryDirectory() as scratch:  # the library opens files of its own kind only: one that we wrote
        torch.save(tensors, Path(scratch) / "inception.pth")
        try:
            return FeatureExtractorInceptionV3("inception", ["2048"], str(Path(scratch) / "inception.pth"))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{weights} are not torch-fidelity's weights of Inception ({reason})") from error


def _pictures(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Captions, "" where there is none, and pictures in RGB."""
    source = Folder(folder)
    items = (item for piece in range(source.pieces) for item in source.items(piece))
    for item in tqdm(items, folder.name, len(source.files), leave=False, disable=None):
        assert isinstance(item.picture, Path)
        yield item.facts.text.strip(), open_picture(item.picture).image.convert("RGB")

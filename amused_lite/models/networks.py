"""The networks of a model together, and their weights under our own names in one safetensors file.

    text.*               the text tower
    uvit.prompt_side.*   what runs once per prompt
    uvit.token_side.*    what runs at every step
    vqgan.*              pictures to tokens and back
    ranker.*             pictures to the text tower's vectors, where there is one

Each part loads alone, so that running one part does not need the memory of the whole model. Knows no foreign names.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from amused_lite.config import ModelConfig
from amused_lite.models.clip_image import CLIPImage
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.uvit import PromptSide, TokenSide, UViT
from amused_lite.models.vqgan import VQGAN

PARTS = ("text", "uvit.prompt_side", "uvit.token_side", "vqgan", "ranker")


class Networks(nn.Module):
    """Text tower, U-ViT and VQ-GAN of one model, and its ranker where it has one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.text = CLIPText(config.text)
        self.uvit = UViT(config.uvit)
        self.vqgan = VQGAN(config.vqgan)
        self.ranker = CLIPImage(config.text.projection_width) if config.ranker else None

    def part(self, name: str) -> Any:
        """One of `PARTS`, not copied: networks in memory are `Weights` too."""
        return self.get_submodule(name)


class Weights(Protocol):
    """Where a model's weights come from: a bundle's file, or a published folder."""

    config: ModelConfig

    def part(self, name: str) -> Any:
        """One of `PARTS` as a float32 module in evaluation mode."""
        ...


def empty_part(config: ModelConfig, name: str) -> nn.Module:
    """One of `PARTS` without memory behind its weights."""
    with torch.device("meta"):
        match name:
            case "text":
                return CLIPText(config.text)
            case "uvit.prompt_side":
                return PromptSide(config.uvit)
            case "uvit.token_side":
                return TokenSide(config.uvit)
            case "vqgan":
                return VQGAN(config.vqgan)
            case "ranker":
                return CLIPImage(config.text.projection_width)
    raise ValueError(f"no part {name!r} in a model; expected one of {', '.join(PARTS)}")


def load_networks(weights: Weights) -> Networks:
    """Every part of a model, as training, adapters and export want it."""
    with torch.device("meta"):
        networks = Networks(weights.config)
    networks.text = weights.part("text")
    networks.uvit.prompt_side = weights.part("uvit.prompt_side")
    networks.uvit.token_side = weights.part("uvit.token_side")
    networks.vqgan = weights.part("vqgan")
    if weights.config.ranker:
        networks.ranker = weights.part("ranker")
    return networks.eval()


class SavedWeights:
    """A safetensors file with all parts under our names, such as a bundle's."""

    def __init__(self, path: Path, config: ModelConfig) -> None:
        self.path = path
        self.config = config

    def part(self, name: str) -> Any:
        """One of `PARTS` as a float32 module in evaluation mode.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: it is no safetensors file, or its weights are not those of this model.
        """
        module = empty_part(self.config, name)
        expected = {f"{name}.{key}": tuple(value.shape) for key, value in module.state_dict().items()}
        shapes = tensor_shapes(self.path)
        found = {key: shape for key, shape in shapes.items() if key.startswith(f"{name}.")}
        strangers = {key: shape for key, shape in shapes.items() if not key.startswith(tuple(f"{p}." for p in PARTS))}
        check_shapes(expected, found | strangers, str(self.path))
        return fill(module, {key.removeprefix(f"{name}."): value for key, value in read_tensors(self.path, expected)})


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Give an empty module its weights as float32, without a copy where they are float32 already."""
    module.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, assign=True)
    return module.eval()


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file; reads its header only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not safetensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; download or export the model again")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors ({error}); download or export it again") from error


def read_tensors(path: Path, names: Iterable[str]) -> Iterable[tuple[str, Tensor]]:
    """The named tensors of a safetensors file, mapped and not copied: pages are read when they are touched."""
    with safe_open(path, framework="pt") as file:
        for name in names:
            yield name, file.get_tensor(name)


def check_shapes(
    expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], source: str, remedy: str = ""
) -> None:
    """Compare names and shapes of weights.

    Raises:
        ValueError: naming the first few missing, unexpected and misshapen weights, and how many there are.
    """
    both = [name for name in expected if name in found]
    groups = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "misshapen": [
            f"{name} (got {tuple(found[name])}, expected {tuple(expected[name])})"
            for name in both
            if tuple(found[name]) != tuple(expected[name])
        ],
    }
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for kind, names in groups.items()
        if names
    ]
    if problems:
        remedy = remedy or "take weights and configuration from the same model"
        raise ValueError(f"{source} does not fit its configuration: {'; '.join(problems)}; {remedy}")

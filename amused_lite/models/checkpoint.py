"""Published folders in diffusers' layout to our networks, and back. Everything odd about foreign weights ends here.

    transformer/  vqvae/    config.json and diffusion_pytorch_model*.safetensors
    text_encoder/           config.json and model*.safetensors
    tokenizer/  scheduler/  model_index.json

Weights are safetensors, whole or in shards, plain or a variant such as fp16; pickle files are refused unopened. Names
are in `checkpoint_names`, configurations in `checkpoint_config`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta, Struct
from safetensors.torch import save_file
from torch import Tensor

from amused_lite.config import ModelConfig, TextConfig
from amused_lite.files.safetensors import open_tensors
from amused_lite.models import checkpoint_config
from amused_lite.models.checkpoint_names import IGNORED, Published, from_open_clip, published_names
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.networks import (
    PARTS,
    Networks,
    check_shapes,
    empty_part,
    fill,
    read_tensors,
    tensor_shapes,
)
from amused_lite.reading import parse_object, read_json, read_text

_STEMS = {
    "transformer": "diffusion_pytorch_model",
    "vqvae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
_PUBLISHED = tuple(part for part in PARTS if part != "ranker")  # which is this project's own
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_DOWNLOAD = "download the whole model again, with every *.json, *.txt and *.safetensors file"


class _Index(Struct):
    """What is read of the list of shards."""

    weight_map: Annotated[dict[str, Annotated[str, Meta(max_length=255)]], Meta(min_length=1, max_length=100_000)]


class PublishedWeights:
    """A published folder, opened: its configuration is read and checked, its weights are read part by part."""

    def __init__(self, folder: str | Path, variant: str | None = None, transformer: Path | None = None) -> None:
        """Read the folder's configurations.

        Args:
            folder: in diffusers' layout.
            variant: of the weights' files; without one, fp16 files serve where there are no plain ones.
            transformer: a folder or a safetensors file that stands in for the folder's own transformer.

        Raises:
            FileNotFoundError: the folder or one of its configurations is missing.
            ValueError: a configuration is not one that our networks can have.
        """
        self.folder = Path(folder)
        self.variant = variant
        self._transformer = transformer
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is not a folder; give a folder with transformer/ and vqvae/ inside")
        text = checkpoint_config.read_text(*self._json("text_encoder/config.json"))
        where = transformer / "config.json" if transformer and transformer.is_dir() else None
        uvit = checkpoint_config.read_uvit(*self._json("transformer/config.json", where))
        vqgan = checkpoint_config.read_vqgan(*self._json("vqvae/config.json"))
        scheduler, where = self._json("scheduler/scheduler_config.json")
        checkpoint_config.check_scheduler(scheduler, uvit, where)
        self.config: ModelConfig = checkpoint_config.join(text, uvit, vqgan)
        self._files: dict[str, dict[str, Path]] = {}

    def part(self, name: str) -> Any:
        """One of `networks.PARTS` as a float32 module in evaluation mode.

        Raises:
            FileNotFoundError: a weight file is missing.
            ValueError: weights are missing, unexpected, misshapen or damaged, or there are only pickle files.
        """
        module = empty_part(self.config, name)
        names = self._names(name)
        files = self._weights(next(iter(names.values())).source)
        found = dict(_read({there.name: files[there.name] for there in names.values()}))
        shapes = {ours: value.shape for ours, value in module.state_dict().items()}
        return fill(module, {ours: found[there.name].reshape(shapes[ours]) for ours, there in names.items()})

    def tensors(self, name: str) -> Iterator[tuple[str, np.ndarray]]:
        """The weights of one of `networks.PARTS` in the order of their names, as they are stored; bfloat16 as float32.

        One is in memory at a time and no file stays mapped.

        Raises:
            FileNotFoundError, ValueError: see `part`.
        """
        names = self._names(name)
        files = self._weights(next(iter(names.values())).source)
        shapes = {ours: value.shape for ours, value in empty_part(self.config, name).state_dict().items()}
        opened = {path: open_tensors(path) for path in set(files.values())}
        for ours, there in sorted(names.items()):
            array = opened[files[there.name]].read([there.name])[there.name]
            yield ours, array.reshape(tuple(shapes[ours]))

    def files(self) -> list[Path]:
        """All weight files, checked by name and shape."""
        return sorted({path for source in _STEMS for path in self._weights(source).values()})

    def _names(self, part: str) -> dict[str, Published]:
        shapes = {name: tuple(value.shape) for name, value in empty_part(self.config, part).state_dict().items()}
        return published_names(self.config, part, shapes)

    def _weights(self, source: str) -> dict[str, Path]:
        """Published name -> file, once names and shapes of the whole source are known to be right."""
        if source not in self._files:
            folder, paths = self.folder / source, []
            if source == "transformer" and self._transformer:
                folder = self._transformer
                paths = [folder] if folder.is_file() else []
            paths = paths or _weight_files(folder, _STEMS[source], self.variant)
            found, files = {}, {}
            for path in paths:
                for name, shape in tensor_shapes(path).items():
                    found[name], files[name] = shape, path
            published = [there for part in _PUBLISHED for there in self._names(part).values() if there.source == source]
            expected = {there.name: there.shape for there in published}
            check_shapes(expected, {n: s for n, s in found.items() if n not in IGNORED}, str(folder), _DOWNLOAD)
            self._files[source] = files
        return self._files[source]

    def _json(self, name: str, where: Path | None = None) -> tuple[dict[str, Any], str]:
        path = where or self.folder / name
        return _read_json(path), str(path)


def _read_json(path: Path) -> dict[str, Any]:
    return parse_object(read_text(path, _DOWNLOAD), str(path), _DOWNLOAD)


def _read(paths: Mapping[str, Path]) -> Iterable[tuple[str, Tensor]]:
    for path in dict.fromkeys(paths.values()):
        yield from read_tensors(path, [name for name, where in paths.items() if where == path])


def _weight_files(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """The safetensors files of one part: one file, or the shards that an index names."""
    for choice in (variant,) if variant else (None, "fp16"):
        dot = f".{choice}" if choice else ""
        whole = folder / f"{stem}{dot}.safetensors"
        if whole.is_file():
            return [whole]
        # diffusers and transformers have written a variant's index under both names.
        for index in (f"{stem}.safetensors.index{dot}.json", f"{stem}{dot}.safetensors.index.json"):
            if (folder / index).is_file():
                return _shards(folder / index)
    wanted = f"{stem}{f'.{variant}' if variant else ''}.safetensors"
    present = sorted(path.name for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    if pickles := [name for name in present if name.endswith(_PICKLES)]:
        remedy = "save it with safe_serialization=True, or download the safetensors files"
        raise ValueError(f"{folder} holds its weights as {pickles[0]}, which can run code when read; {remedy}")
    raise FileNotFoundError(f"{folder} has no {wanted}, only {', '.join(present) or 'nothing'}; {_DOWNLOAD}")


def _shards(index: Path) -> list[Path]:
    names = sorted(set(read_json(index, _Index, _DOWNLOAD, closed=False).weight_map.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index} names {name!r}, expected a .safetensors file beside it; {_DOWNLOAD}")
    return [index.parent / name for name in names]


def save_diffusers(networks: Networks, folder: str | Path, tokenizer: str | Path) -> None:
    """Write a folder that diffusers' AmusedPipeline loads, in the networks' own dtype.

    Args:
        networks: all parts, with weights.
        folder: made if needed; files of the same names are replaced.
        tokenizer: a `tokenizer.json`, or a published tokenizer folder to copy.

    Raises:
        ValueError: the model has something that diffusers' networks do not have.
        FileNotFoundError: there is no such tokenizer.
    """
    folder, tokenizer = Path(folder), Path(tokenizer)
    configs = checkpoint_config.published_configs(networks.config)
    for source in _STEMS:
        (folder / source).mkdir(parents=True, exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    _save_tokenizer(tokenizer, folder / "tokenizer", networks.config.text)
    tensors: dict[str, dict[str, Tensor]] = {source: {} for source in _STEMS}
    for part in _PUBLISHED:
        state = networks.get_submodule(part).state_dict()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        for ours, there in published_names(networks.config, part, shapes).items():
            tensors[there.source][there.name] = state[ours].detach().reshape(there.shape).contiguous()
    for source, stem in _STEMS.items():
        save_file(tensors[source], folder / source / f"{stem}.safetensors", metadata={"format": "pt"})
    for name, values in configs.items():  # model_index.json comes last: until then nobody takes the folder for whole
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _save_tokenizer(source: Path, folder: Path, config: TextConfig) -> None:
    """As transformers' CLIPTokenizer reads it: vocab.json and merges.txt."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is missing; give the model's tokenizer.json or its tokenizer folder")
    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        for path in sorted(source.glob("*")):
            if path.suffix in (".json", ".txt") and path.resolve() != (folder / path.name).resolve():
                shutil.copyfile(path, folder / path.name)
        return
    model = _read_json(source).get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise ValueError(f"{source} holds no BPE tokenizer; give the tokenizer.json of an aMUSEd model")
    words = {index: word for word, index in model["vocab"].items()}
    start, end = words[config.start_token_id], words[config.end_token_id]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    files = {
        "vocab.json": model["vocab"],
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            **special,
            "model_max_length": config.context_length,
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
        },
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


def text_from_open_clip(tensors: Mapping[str, Tensor], config: TextConfig, source: str = "open_clip model") -> CLIPText:
    """The text tower from an open_clip model's `state_dict`.

    Raises:
        ValueError: it has another shape than `config`.
    """
    with torch.device("meta"):
        module = CLIPText(config)
    ours = from_open_clip(tensors, config.layers)
    blocks = {name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}
    if len(blocks) != config.layers:
        raise ValueError(f"{source} has {len(blocks)} text layers, expected {config.layers}; give its own shape")
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    check_shapes(expected, {name: tuple(value.shape) for name, value in ours.items()}, source)
    fill(module, ours)
    return module

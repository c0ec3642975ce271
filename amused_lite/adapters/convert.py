"""Adapters of peft and diffusers to this project's format, and back. `models.checkpoint_names` has the table of names.

    peft       a folder: adapter_config.json, adapter_model.safetensors with base_model.model.<module>.lora_A.weight
    diffusers  one file: transformer.<module>.lora_A.weight and text_encoder.<module>... (AmusedLoraLoaderMixin)

Both mean W + alpha / rank * B @ A, as we do.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from amused_lite.adapters.lora import (
    TARGETS,
    Adapter,
    AdapterRecord,
    Alpha,
    Pair,
    Rank,
    preset_of,
    shapes_of,
    target_shapes,
)
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.files.safetensors import TensorFile, open_tensors, write_tensors
from amused_lite.models.checkpoint_names import Published, published_names
from amused_lite.models.networks import PARTS
from amused_lite.reading import convert, parse_object, read_text

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_DIFFUSERS_METADATA = "lora_adapter_metadata"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_PEFT_PREFIX = "base_model.model."
_SOURCES = ("transformer", "text_encoder")
_SIDES = {
    "lora_A": "down",
    "lora_B": "up",
    **{f"{old}{side}": side for old in ("lora.", "lora_", "lora_linear_layer.") for side in ("down", "up")},
}
_KEY = re.compile(rf"(?P<module>.+?)\.(?P<side>{'|'.join(map(re.escape, _SIDES))})(?:\.default)?\.weight")

_REMEDY = "get the adapter again"
Pattern = Annotated[str, Meta(min_length=1, max_length=200)]  # of module names, a regular expression
_Patterns = Annotated[dict[Pattern, Alpha], Meta(max_length=4096)]


class _Settings(Struct):
    """What is read of a peft configuration, in a file of its own or in a header."""

    peft_type: Literal["LORA"] = "LORA"
    base_model_name_or_path: Annotated[str, Meta(max_length=1000)] | None = None
    r: Rank | None = None
    lora_alpha: Alpha | None = None
    alpha_pattern: _Patterns | None = None
    rank_pattern: Annotated[dict[Pattern, Rank], Meta(max_length=4096)] | None = None
    use_dora: bool | None = None
    use_rslora: bool | None = None

    def __post_init__(self) -> None:
        for pattern in self.alpha_pattern or ():
            _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    """Raise ValueError for a pattern that is none, or that can take for ever: at most two repetitions, none nested."""
    plain = re.sub(r"\\[.dw]", "d", pattern)
    repeated = sum(plain.count(sign) for sign in "*+")
    strange = not re.fullmatch(r"[\w.\-|()^$\[\]*+]+", plain) or re.search(r"\)[*+]", plain)
    if strange or repeated > 2 or plain.count("(") > 2:
        said = "expected a module's name or a pattern with two repetitions or fewer, such as layers.[0-9]+.query"
        raise ValueError(f"alpha_pattern has {pattern[:40]!r}, {said}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"alpha_pattern has {pattern[:40]!r}, which is no pattern: {error}") from error


def _table(config: ModelConfig, modules: Mapping[str, tuple[int, int]]) -> dict[str, Published]:
    """Our module -> its weight in the published files."""
    table = {}
    for part in PARTS:
        inner = {
            f"{module.removeprefix(f'{part}.')}.weight": shape
            for module, shape in modules.items()
            if module.startswith(f"{part}.")
        }
        if not inner:
            continue
        for name, there in published_names(config, part, inner).items():
            table[f"{part}.{name.removesuffix('.weight')}"] = there
    return table


def read_foreign(path: str | Path, config: ModelConfig) -> tuple[Adapter, list[str]]:
    """An adapter of peft or diffusers for a model of this configuration, and the keys that found no place in it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is a pickle, no low-rank adapter, made for another base, or does not fit at all.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise ValueError(f"{path} is a pickle file, which can run code when read; get the .safetensors file instead")
    if path.is_dir():
        settings, path = {"transformer": _peft_settings(path / PEFT_CONFIG)}, path / PEFT_WEIGHTS
        file = open_tensors(path)
    else:
        file = open_tensors(path)
        settings = _diffusers_settings(file)
    said = settings.get("transformer", _Settings())
    if said.use_dora or any("lora_magnitude_vector" in key for key in file.entries):
        raise ValueError(f"{path} is a DoRA adapter, which is not supported; train a plain low-rank one")
    known = shapes_of(config, TARGETS)
    ours = {
        there.name.removesuffix(".weight"): (module, there.source) for module, there in _table(config, known).items()
    }
    found, alphas, unused = _sort_keys(file, ours)
    if not found:
        raise ValueError(f"{path} holds no low-rank matrices for {preset_of(config)}; is it for another model?")
    _check_base(path, said, file, config)
    matrices = file.read(key for pair in found.values() for key in pair.values())
    raw = {
        module: Pair(*(_flat(file, pair[side], matrices[pair[side]]) for side in Pair._fields))
        for module, pair in found.items()
        if len(pair) == 2
    }
    _check_ranks(file, raw)
    if not raw:
        raise ValueError(f"{path} holds halves of low-rank pairs only; {_REMEDY}")
    unused += [key for pair in found.values() if len(pair) == 1 for key in pair.values()]
    theirs = {module: (name, settings.get(source, _Settings())) for name, (module, source) in ours.items()}
    scales = {
        module: alphas.get(module, _alpha(*theirs[module], len(pair.down))) / len(pair.down)
        for module, pair in raw.items()
    }
    pairs, rank, alpha = _one_scale(raw, scales)
    targets = tuple(target for target in TARGETS if target_shapes(config, target).keys() & pairs.keys())
    name = file.metadata.get("ss_output_name") or (path.parent.name if path.name == PEFT_WEIGHTS else path.stem)
    record = {
        "name": name,
        "rank": rank,
        "alpha": alpha,
        "targets": targets,
        "preset": preset_of(config),
        "base_model": said.base_model_name_or_path or "",
        "base_hash": "",
        "trigger": file.metadata.get("modelspec.trigger_phrase", ""),
        "licence": file.metadata.get("modelspec.license", ""),
    }
    called = {"name": "ss_output_name", "trigger": "modelspec.trigger_phrase", "licence": "modelspec.license"}
    return Adapter(convert(record, AdapterRecord, str(path), _REMEDY, names=called), pairs), unused


def _sort_keys(
    file: TensorFile, ours: Mapping[str, tuple[str, str]]
) -> tuple[dict[str, dict[str, str]], dict[str, float], list[str]]:
    """Our module -> side -> key; our module -> alpha, where the file has one; and the keys of neither."""
    found: dict[str, dict[str, str]] = {}
    alphas: dict[str, float] = {}
    unused = []
    for key in file.entries:
        plain = key.removeprefix(_PEFT_PREFIX)
        source = next((name for name in _SOURCES if plain.startswith(f"{name}.")), "")
        plain = plain.removeprefix(f"{source}.")
        match = _KEY.fullmatch(plain)
        theirs = match["module"] if match else plain.removesuffix(".alpha")
        module, there = ours.get(theirs) or ours.get(f"text_model.{theirs}") or ("", "")
        if not module or source not in ("", there):
            unused.append(key)
        elif match:
            found.setdefault(module, {})[_SIDES[match["side"]]] = key
        elif plain.endswith(".alpha"):
            alphas[module] = _one_number(file, key)
        else:
            unused.append(key)
    return found, alphas, unused


def _one_number(file: TensorFile, key: str) -> float:
    numbers = file.read([key])[key]
    if numbers.size != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{file.path}: {key[:60]} is {numbers.shape}, expected one finite number; {_REMEDY}")
    return float(numbers.item())


def _flat(file: TensorFile, key: str, matrix: np.ndarray) -> np.ndarray:
    """A matrix (out, in); a published linear layer may be a 1x1 convolution."""
    if matrix.ndim not in (2, 4) or math.prod(matrix.shape[2:]) != 1 or not matrix.size:
        raise ValueError(f"{file.path}: {key[:60]} has shape {matrix.shape}, expected a matrix; {_REMEDY}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{file.path}: {key[:60]} holds values that are not finite; {_REMEDY}")
    return matrix.reshape(matrix.shape[:2]).astype(np.float32)


def _check_ranks(file: TensorFile, pairs: Mapping[str, Pair]) -> None:
    for module, (down, up) in pairs.items():
        if down.shape[0] != up.shape[1]:
            raise ValueError(f"{file.path}: {module} has ranks {down.shape[0]} and {up.shape[1]}; {_REMEDY}")


def _alpha(name: str, settings: _Settings, rank: int) -> float:
    """A module's alpha: that of the first pattern it fits, the file's, or its rank where nothing is said."""
    patterns = (settings.alpha_pattern or {}).items()
    fitting = (value for pattern, value in patterns if re.fullmatch(rf"(.*\.)?({pattern})", name))
    alpha = next(fitting, rank if settings.lora_alpha is None else settings.lora_alpha)
    return alpha * math.sqrt(rank) if settings.use_rslora else alpha


def _one_scale(raw: Mapping[str, Pair], scales: Mapping[str, float]) -> tuple[dict[str, Pair], int, float]:
    """Pairs with one rank and alpha for all: scales that differ go into the second matrices."""
    rank = max(len(pair.down) for pair in raw.values())
    if len(set(scales.values())) == 1:
        return dict(raw), rank, rank * next(iter(scales.values()))
    return (
        {module: Pair(down, up * np.float32(scales[module])) for module, (down, up) in raw.items()},
        rank,
        float(rank),
    )


def _peft_settings(path: Path) -> _Settings:
    remedy = f"give a peft folder with {PEFT_CONFIG} and {PEFT_WEIGHTS}"
    values = {"peft_type": None} | parse_object(read_text(path, remedy), str(path), _REMEDY)
    return convert(values, _Settings, str(path), "give a plain low-rank adapter", closed=False)


def _diffusers_settings(file: TensorFile) -> dict[str, _Settings]:
    """Source -> settings, from the header, where newer versions write them as source.name -> value."""
    where = f"{file.path}: {_DIFFUSERS_METADATA}"
    settings: dict[str, dict[str, Any]] = {}
    for key, value in parse_object(file.metadata.get(_DIFFUSERS_METADATA, "{}"), where, _REMEDY).items():
        source, _, name = key.partition(".")
        settings.setdefault(source, {})[name] = value
    return convert(settings, dict[str, _Settings], where, _REMEDY, closed=False)


def _check_base(path: Path, settings: _Settings, file: TensorFile, config: ModelConfig) -> None:
    said = f"{settings.base_model_name_or_path} {file.metadata.get('ss_base_model_version')}"
    other = [name for name in PRESETS if name in said]
    if other and preset_of(config) not in other:
        raise ValueError(f"{path} was made for {other[0]}, this model is {preset_of(config)}; use its own base model")


def _published_arrays(adapter: Adapter, config: ModelConfig, bake: bool) -> dict[str, dict[str, np.ndarray]]:
    """Source -> key without a prefix -> matrix; `bake` puts the scale into the second matrices."""
    record = adapter.record
    if record.kind != "low_rank":
        raise ValueError(f"adapter {record.name!r} is a {record.kind}, which peft and diffusers do not have")
    if record.preset == "tiny" or config.uvit.learned_positions:
        raise ValueError(f"adapter {record.name!r} is for {record.preset}, which diffusers' networks cannot be")
    if any(module.startswith("vqgan.") for module in adapter.pairs):
        raise ValueError(f"adapter {record.name!r} changes the decoder, which diffusers' loaders leave alone")
    if "embedding" in record.targets:
        raise ValueError(f"adapter {record.name!r} changes embeddings, which have no common form; learn without them")
    table = _table(config, {module: (len(pair.up), pair.down.shape[1]) for module, pair in adapter.pairs.items()})
    arrays: dict[str, dict[str, np.ndarray]] = {source: {} for source in _SOURCES}
    for module, (down, up) in adapter.pairs.items():
        there = table[module]
        tail = (1,) * (len(there.shape) - 2)
        scale = np.float32(record.scale if bake else 1.0)
        theirs = there.name.removesuffix(".weight")
        arrays[there.source][f"{theirs}.lora_A.weight"] = down.reshape(*down.shape, *tail)
        arrays[there.source][f"{theirs}.lora_B.weight"] = (up * scale).reshape(*up.shape, *tail)
    return arrays


def write_diffusers(adapter: Adapter, config: ModelConfig, path: str | Path) -> None:
    """One file for AmusedLoraLoaderMixin, float32; older versions take the rank for alpha, so the scale is baked in.

    Raises:
        ValueError: diffusers has no such adapter.
        OSError: it cannot be written.
    """
    arrays = _published_arrays(adapter, config, bake=True)
    named = {f"{source}.{key}": value for source, group in arrays.items() for key, value in group.items()}
    record = adapter.record
    facts = {"format": "pt", "ss_output_name": record.name, "ss_base_model_version": record.preset}
    facts |= {"modelspec.trigger_phrase": record.trigger, "modelspec.license": record.licence}
    write_tensors(path, named, {key: value for key, value in facts.items() if value})


def write_peft(adapter: Adapter, config: ModelConfig, folder: str | Path) -> None:
    """A folder for peft's `PeftModel.from_pretrained` on diffusers' UVit2DModel, float32.

    Raises:
        ValueError: peft has no such adapter, or it touches the text tower, which is another model over there.
        OSError: it cannot be written.
    """
    arrays = _published_arrays(adapter, config, bake=False)
    if arrays["text_encoder"]:
        raise ValueError(f"adapter {adapter.record.name!r} touches the text tower too; a peft folder holds one network")
    record, folder = adapter.record, Path(folder)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": record.base_model or f"amused/{record.preset}",
        "r": record.rank,
        "lora_alpha": record.alpha,
        "target_modules": sorted({key.rsplit(".", 2)[0] for key in arrays["transformer"]}),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
    }
    named = {f"{_PEFT_PREFIX}{key}": value for key, value in arrays["transformer"].items()}
    write_tensors(folder / PEFT_WEIGHTS, named, {"format": "pt", "modelspec.trigger_phrase": record.trigger})
    (folder / PEFT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

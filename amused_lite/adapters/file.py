"""Adapter files: one safetensors file each, whose header says what it is. Knows no torch and no foreign names.

    <module>.down (rank, in)   <module>.up (out, rank)      float16 unless asked otherwise
    amused_lite                the record as JSON with a version
    modelspec.*, ss_*          the same facts where other programs look for them

Files of peft and diffusers are read by `adapters.convert`.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair
from amused_lite.files.safetensors import TensorFile, open_tensors, write_tensors
from amused_lite.reading import check_version, convert, parse_object

FORMAT_VERSION = 1
KEY = "amused_lite"
_REMEDY = "get the file again"


class ForeignAdapterError(ValueError):
    """The file holds an adapter in another program's form, or none."""


def save_adapter(adapter: Adapter, path: str | Path, dtype: Any = np.float16) -> Path:
    """Write an adapter; the file appears under its name only when it is complete.

    Raises:
        ValueError: a value is not finite in `dtype`.
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    arrays = {}
    for module, pair in adapter.pairs.items():
        for side, matrix in pair._asdict().items():
            with np.errstate(over="ignore"):
                arrays[f"{module}.{side}"] = matrix.astype(dtype)
            if not np.isfinite(arrays[f"{module}.{side}"]).all():
                kind = np.dtype(dtype).name
                raise ValueError(f"{module}.{side} holds values that are not finite as {kind}; train with a lower rate")
    write_tensors(path, arrays, _metadata(adapter.record))
    return path


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter that `save_adapter` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ForeignAdapterError: it is a safetensors file of another program.
        ValueError: it is damaged, of a newer version, or its arrays contradict its record.
    """
    path = Path(path)
    file = open_tensors(path)
    record = _record(file)
    arrays = file.read()
    pairs: dict[str, Pair] = {}
    for name in arrays:
        module, _, side = name.rpartition(".")
        other = f"{module}.{'up' if side == 'down' else 'down'}"
        if side not in Pair._fields or other not in arrays:
            raise ValueError(f"{path}: array {name!r} has no partner; {_REMEDY}")
        down, up = (arrays[f"{module}.{field}"].astype(np.float32) for field in Pair._fields)
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise ValueError(f"{path}: {module} has shapes {down.shape} and {up.shape}, which do not meet; {_REMEDY}")
        if not (np.isfinite(down).all() and np.isfinite(up).all()):
            raise ValueError(f"{path}: {module} holds values that are not finite; {_REMEDY}")
        pairs[module] = Pair(down, up)
    if not pairs:
        raise ValueError(f"{path} holds no matrices; {_REMEDY}")
    with path.open("rb") as opened:
        return Adapter(record, pairs, hashlib.file_digest(opened, "sha256").hexdigest())


def load_record(path: str | Path) -> AdapterRecord:
    """What an adapter says of itself, from the head of its file alone.

    Raises:
        FileNotFoundError, ForeignAdapterError, ValueError: see `load_adapter`.
    """
    return _record(open_tensors(Path(path)))


def _metadata(record: AdapterRecord) -> dict[str, str]:
    facts = {
        "format": "pt",
        KEY: json.dumps({"format_version": FORMAT_VERSION, **asdict(record)}, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{record.preset}/{record.kind}",
        "modelspec.title": record.name,
        "modelspec.license": record.licence,
        "modelspec.trigger_phrase": record.trigger,
        "modelspec.thumbnail": f"data:image/png;base64,{record.thumbnail}" if record.thumbnail else "",
        "ss_network_dim": str(record.rank),
        "ss_network_alpha": str(record.alpha),
        "ss_base_model_version": record.preset,
        "ss_output_name": record.name,
    }
    return {name: text for name, text in facts.items() if text}


def _record(file: TensorFile) -> AdapterRecord:
    if KEY not in file.metadata:
        said = f"{file.path} is no adapter of amused-lite; convert it with: amused-lite style convert"
        raise ForeignAdapterError(said)
    where = f"{file.path}: its header's {KEY}"
    values = parse_object(file.metadata[KEY], where, _REMEDY)
    check_version(values, "format_version", FORMAT_VERSION, where, _REMEDY)
    del values["format_version"]
    return convert(values, AdapterRecord, where, _REMEDY)

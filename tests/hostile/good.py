"""One whole file of every kind, to be made wrong in one place."""

import json
import os
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from amused_lite.adapters.file import FORMAT_VERSION, KEY
from amused_lite.adapters.lora import AdapterRecord
from amused_lite.bundle import MANIFEST
from amused_lite.files.png import SCHEMA, Edit, Recipe
from amused_lite.runtimes.open import BUNDLED, find_model

BUNDLE = find_model(BUNDLED)
RECORD = AdapterRecord("a", 2, 1.0, ("attention",), "tiny", "tiny", "0" * 64, recipe={"steps": 3})
PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "amused/amused-512",
    "r": 2,
    "lora_alpha": 2,
    "alpha_pattern": {"to_q": 1.0},
    "rank_pattern": {"to_q": 2},
    "use_dora": False,
    "use_rslora": False,
}

PLAN = {"base": "0" * 64, "style": "x", "pictures": ["0" * 64], "captions": ["a"], "recipe": {}, "prior": ["b"]}


def recipe() -> dict[str, Any]:
    """A recipe as its JSON has it."""
    tokens = np.arange(16, dtype=np.int32)
    made = Recipe(
        **{"prompt": "a star", "negative_prompt": "", "picture": 0, "steps": 4, "guidance_scale": 3.0, "seed": 7},
        **{"token_temperature": 1.0, "top_k": 5, "top_p": 0.9, "micro_conditioning": (64.0, 64.0, 0.0, 0.0, 6.0)},
        **{"width": 64, "height": 64, "model": "tiny", "model_hash": "ab" * 32, "runtime": "onnx"},
        **{"codebook_size": 1024, "tokens": tokens},
        edit=Edit("vary", {"strength": 0.5, "box": [1, 2]}, tokens),
        adapters=("a:1 0123456789",),
    )
    return json.loads(made.to_json())


def manifest() -> dict[str, Any]:
    """The bundled model's."""
    return json.loads((BUNDLE / MANIFEST).read_text())


def record() -> dict[str, Any]:
    """An adapter's, as its header has it."""
    return {"format_version": FORMAT_VERSION, **json.loads(json.dumps(asdict(RECORD)))}


def write_bundle(folder: Path, values: Any) -> None:
    """The bundled model under another manifest."""
    folder.mkdir()
    for path in BUNDLE.iterdir():
        if path.is_file() and path.name != MANIFEST:
            os.symlink(path, folder / path.name)
    (folder / MANIFEST).write_text(as_text(values))


def write_tensors(path: Path, header: Any, data: bytes) -> None:
    """A safetensors file whose header may be anything."""
    text = as_text(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def header(**metadata: str) -> dict[str, Any]:
    """Of two arrays that make a pair."""
    down = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    up = {"dtype": "F32", "shape": [3, 2], "data_offsets": [24, 48]}
    return {"__metadata__": metadata, "x.down": down, "x.up": up}


def write_adapter(path: Path, values: Any) -> None:
    """An adapter whose record may be anything."""
    write_tensors(path, header(**{KEY: as_text(values)}), bytes(48))


def write_png(path: Path, values: Any) -> None:
    """A picture whose recipe may be anything."""
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt(KEY, as_text(values))
    Image.new("RGB", (64, 64)).save(path, pnginfo=texts)


def as_text(values: Any) -> str:
    """JSON, or the text itself."""
    return values if isinstance(values, str) else json.dumps(values)


assert SCHEMA == recipe()["schema"]

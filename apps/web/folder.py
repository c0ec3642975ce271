"""Write the page: its own files, and a bundle's graphs and weights in parts that a browser downloads and keeps.

model.json says what the page needs to know of the model, and the size and sha256 of every part. Parts are named by
their content, so that no cache holds an old one.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from amused_lite import __version__
from amused_lite.bundle import MODULES, QUANTIZED, RANKER_MODULES, TOKENIZER, WEIGHTS, Bundle
from amused_lite.files.atomic import staging
from amused_lite.files.png import SCHEMA, provenance
from amused_lite.files.safetensors import open_tensors
from amused_lite.sampling.settings import SETTINGS, GenerateOptions

from .words import vocabulary

STATIC = Path(__file__).parent / "static"
ENGINE = STATIC / "onnxruntime" / "ort-wasm-simd-threaded.wasm.gz"
CONTENTS = "model.json"
RUNTIME = "onnx-web"  # what recipes name
USED = ("encode_prompt", "unmask", "decode_image")
LARGEST = 300 * 10**6  # bytes of a model: a tab on a phone has about 1.5 GB, and weights take several times their size
_PART = 8 * 2**20  # bytes; some hosts take no file above 25 MiB, and a broken download costs one part
_SOURCES = {"noise.wat"}  # of the page's files, those that no browser reads
_WORKER = "service-worker.js"


def check_bundle(bundle: Bundle) -> None:
    """Raise ValueError where a browser cannot run this bundle."""
    manifest = bundle.manifest
    if manifest.target != "onnx":
        raise ValueError(f"{bundle.folder} was exported for {manifest.target}; export the model with --to onnx")
    size = sum(length for _, _, length in _pieces(bundle))
    if size > LARGEST:
        most = f"at most {LARGEST / 1e6:.0f} MB fit a browser's tab"
        raise ValueError(f"{bundle.folder} needs {size / 1e6:.0f} MB of weights and graphs, {most}; quantize it first")


def check_out(out: Path) -> None:
    """Raise ValueError when something is in the place of the page that is none."""
    if out.exists() and not (out.is_dir() and ((out / CONTENTS).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out} exists and is no page of amused-lite; give a new folder")


def write_page(bundle: Bundle, out: Path) -> dict[str, int]:
    """Write the folder, in place of a page that is there; returns the bytes of the "page" and of the "model".

    Raises:
        ValueError: a browser cannot run this bundle, or `out` holds something else.
        OSError: the folder cannot be written, or the disk is full.
    """
    check_bundle(bundle)
    check_out(out)
    with staging(out) as folder:
        shutil.copytree(STATIC, folder, dirs_exist_ok=True, ignore=_is_not_served)
        parts = _write_parts(bundle, folder)
        contents = page_contents(bundle) | parts
        (folder / CONTENTS).write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")
        model = sum(part["size"] for part in parts["files"])
        return {"page": _write_worker(folder), "model": model}


def _is_not_served(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _SOURCES or name.endswith((".gz", ".md")) or name == "__pycache__"}


def page_contents(bundle: Bundle) -> dict[str, Any]:
    """What model.json says of the model, besides its files."""
    manifest, config = bundle.manifest, bundle.config
    settings = GenerateOptions().complete(config)
    values = {name: getattr(settings, name) for name, setting in SETTINGS.items() if setting.since == 1}
    return {
        "version": __version__,
        "recipe_schema": SCHEMA,
        "runtime": RUNTIME,
        "name": manifest.name,
        "model_hash": manifest.model_hash,
        "licence": manifest.weights_licence,
        "image_size": manifest.image_size,
        "mask_token_id": config.uvit.mask_token_id,
        "config": {"text": asdict(config.text), "uvit": asdict(config.uvit)},
        "settings": values | {"seed": 0, "micro_conditioning": astuple(settings.micro_conditioning)},
        "xmp": {"trained": provenance(composite=False), "composite": provenance(composite=True)},
        **vocabulary(manifest.preset),
    }


def _pieces(bundle: Bundle) -> Iterator[tuple[Path, int, int]]:
    """What the page needs of the bundle's files: path, first byte, length."""
    files = bundle.manifest.files
    for name in (TOKENIZER, *(f"{module}.onnx" for module in USED)):
        yield bundle.path(name), 0, files[name].size
    for name in (WEIGHTS, QUANTIZED):
        if name in files:
            yield from ((bundle.path(name), first, last - first) for first, last in _used_weights(bundle.path(name)))


def _used_weights(path: Path) -> list[tuple[int, int]]:
    """First and last byte of each run of weights that the page's modules read; the header is read by none."""
    used = tuple(prefix for module in USED for prefix in MODULES[module])
    others = MODULES | RANKER_MODULES
    unused = tuple(prefix for module in others if module not in USED for prefix in others[module])
    runs: list[tuple[int, int]] = []
    for name, entry in sorted(open_tensors(path).entries.items(), key=lambda item: item[1].offset):
        if name.startswith(unused) and not name.startswith(used):
            continue
        first, last = entry.offset, entry.offset + entry.size
        if runs and first - runs[-1][1] < 4096:
            runs[-1] = runs[-1][0], last
        else:
            runs.append((first, last))
    return runs


def _write_parts(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """The model's files below `folder`; returns what model.json says of them."""
    (folder / "model").mkdir()
    files: list[dict[str, Any]] = []
    lengths: dict[str, int] = {}

    def add(name: str, data: bytes, **said: Any) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"model/{sha256[:16]}.bin"
        (folder / path).write_bytes(data)
        files.append({"name": name, "path": path, "size": len(data), "sha256": sha256, **said})

    add("onnxruntime.wasm", ENGINE.read_bytes(), gzip=True)
    add("noise.wasm", (STATIC / "drawing" / "noise.wasm").read_bytes())
    add("colours.rgb", bundle.colours().tobytes())
    for path, first, length in _pieces(bundle):
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(first)
            if length == size <= _PART:
                add(path.name, gzip.compress(file.read(), mtime=0), gzip=True)
                continue
            lengths[path.name] = size
            for offset in range(first, first + length, _PART):
                add(path.name, file.read(min(_PART, first + length - offset)), offset=offset)
    return {"files": files, "lengths": lengths}


def _write_worker(folder: Path) -> int:
    """Tell the service worker which files make the page, and what to call this state of them; returns their bytes."""
    shell = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "model")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in shell)).hexdigest()
    names = [path.relative_to(folder).as_posix() for path in shell if path.name != _WORKER]
    script = folder / _WORKER
    told = f'const BUILD = "{digest[:16]}";\nconst SHELL = {json.dumps(["./", *names])};\n\n'
    script.write_text(told + script.read_text(encoding="utf-8"), encoding="utf-8")
    return sum(path.stat().st_size for path in shell)

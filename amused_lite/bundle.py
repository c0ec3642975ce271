"""The bundle: a folder with a model's exported modules, and the manifest that says what is in it. Knows no engine.

    manifest.json        this contract, with the size and sha256 of every other file
    tokenizer.json       the prompt tokenizer
    colours.npy          (K, 3) uint8, the mean colour of each codebook entry, for previews

and the four modules, encode_prompt, unmask, decode_image and encode_image, as the target has them:

    onnx                 *.onnx and weights.safetensors, the one copy of the weights; the graphs name slices of it
    openvino             *.xml with *.bin beside it
    coreml               *.mlpackage, each a folder
    executorch           *.pte
    torch                quantized.safetensors alone, as bitsandbytes reads it

Quantized bundles say what was done to them under `options["quantization"]`.

Nothing is trusted before its hash was compared, nothing is unpickled and nothing outside the folder is read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from amused_lite.config import ModelConfig
from amused_lite.reading import check_version, convert, parse_object, read_text
from amused_lite.system import paths

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
COLOURS = "colours.npy"
WEIGHTS = "weights.safetensors"
QUANTIZED = "quantized.safetensors"  # in its place, in bundles for onnx and torch that `quantize` made
# Module -> how the names of its weights begin. The codebook belongs to both halves of the VQ-GAN.
MODULES = {
    "encode_prompt": ("text.", "uvit.prompt_side."),
    "unmask": ("uvit.token_side.",),
    "decode_image": ("vqgan.codebook", "vqgan.post_quant.", "vqgan.decoder."),
    "encode_image": ("vqgan.encoder.", "vqgan.pre_quant.", "vqgan.codebook"),
}
RANKER_MODULES = {"embed_text": ("text.",), "embed_image": ("ranker.",)}  # of models with a ranker
TARGETS = ("onnx", "openvino", "coreml", "executorch")
Target = Annotated[str, Meta(pattern=f"^({'|'.join(TARGETS)}|torch)$")]  # what export writes, and what `quantize` does

_REMEDY = "copy or download the bundle again"
_REMEMBER_ABOVE = 256 * 2**20  # bytes; smaller bundles are hashed at every opening, which takes a tenth of a second

Word = Annotated[str, Meta(max_length=100)]
Name = Annotated[str, Meta(max_length=1000)]
_Shape = Annotated[list[Annotated[int, Meta(ge=1, le=2**32)] | Word], Meta(max_length=8)]  # a word: a free axis
ModuleInputs = Annotated[dict[Word, tuple[Word, _Shape]], Meta(max_length=100)]  # input -> (dtype, shape)


@dataclass(frozen=True)
class FileRecord:
    """One file of a bundle."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0, le=2**48)]  # bytes


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself. `write_manifest` fills in `files`."""

    name: Name
    preset: Word
    config: ModelConfig
    image_size: int  # side in pixels
    precision: Annotated[dict[Word, Word], Meta(max_length=100)]  # module -> how its weights are stored: "float16"
    inputs: Annotated[dict[Word, ModuleInputs], Meta(max_length=100)]  # of each module
    target: Target = "onnx"  # the format of the modules
    options: dict[str, Any] = field(default_factory=dict)  # what the export was asked for: opset, ...
    files: Annotated[dict[Name, FileRecord], Meta(max_length=10_000)] = field(default_factory=dict)
    parity: Annotated[dict[Word, float], Meta(max_length=10_000)] = field(default_factory=dict)  # of the export
    adapter: Name | None = None  # name of the adapter that was merged in
    weights_licence: Name = ""
    guidance: Literal["pair"] = "pair"  # the unmask module takes (negative, prompt) rows together
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in self.files:
            if not _is_inside(name):
                raise ValueError(f"files has {name[:40]!r}, expected a plain path inside the folder")
        if self.config.image_size != self.image_size:
            raise ValueError(f"image_size is {self.image_size}, its own config gives {self.config.image_size}")

    @property
    def model_hash(self) -> str:
        """Hex sha256 that stands for the weights: of the weights file, or of all modules where there is none."""
        if WEIGHTS in self.files:
            return self.files[WEIGHTS].sha256
        listing = "".join(f"{name} {record.sha256}\n" for name, record in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A checked bundle folder."""

    folder: Path
    manifest: Manifest

    @property
    def config(self) -> ModelConfig:
        """The model's."""
        return self.manifest.config

    def path(self, name: str) -> Path:
        """A file of the bundle.

        Raises:
            FileNotFoundError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            has = ", ".join(sorted(self.manifest.files))
            raise FileNotFoundError(f"bundle {self.folder} has no {name}, only {has}; use a bundle exported with it")
        return self.folder / name

    def colours(self) -> np.ndarray:
        """(K, 3) uint8: the mean colour of every codebook entry."""
        path, expected = self.path(COLOURS), (self.config.uvit.codebook_size, 3)
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)  # a header that lies costs no memory
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no colour table ({error}); export the bundle again") from error
        if table.shape != expected or table.dtype != np.uint8:
            got = f"{table.dtype} {table.shape}"
            raise ValueError(f"{path}: got {got}, expected uint8 {expected}; export the bundle again")
        return np.array(table)


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file below `folder` but the manifest."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: _record(folder / name) for name in names if name != MANIFEST}


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Record size and hash of every file below `folder` and write `manifest.json`, last and in one piece."""
    manifest = replace(manifest, files=record_files(folder))
    partial = folder / f".{MANIFEST}.part"
    partial.write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / MANIFEST)
    return manifest


def open_bundle(path: str | Path, afresh: bool = False) -> Bundle:
    """Read and check a bundle folder; `afresh`: hash large files even where the same ones were found right before.

    Raises:
        FileNotFoundError: the folder, its manifest or a file that the manifest lists is missing.
        ValueError: the manifest cannot be read or contradicts itself, or a file has another size or hash.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    _verify(folder, manifest.files, afresh)
    return Bundle(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """What a bundle says about itself, whether or not its files are right.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read or contradicts itself.
    """
    where = folder / MANIFEST
    if not os.path.lexists(where):
        raise FileNotFoundError(f"{folder} is not a bundle: it has no {MANIFEST}; give a bundle folder")
    values = parse_object(read_text(where, _REMEDY), str(where), _REMEDY)
    check_version(values, "format_version", FORMAT_VERSION, str(where), _REMEDY)
    values.pop("defaults", None)  # the first version wrote them, and nothing read them
    return convert(values, Manifest, str(where), _REMEDY)


def check_module(bundle: Bundle, module: str) -> None:
    """Raise ValueError when a bundle was made without a module, which only `encode_image` may be left out of."""
    if bundle.manifest.precision and module not in bundle.manifest.precision:
        has = ", ".join(bundle.manifest.precision)
        remedy = "to edit pictures, use a bundle that was quantized without --no-encoder"
        raise ValueError(f"{bundle.folder} was made without {module}, it has {has}; {remedy}")


Specs = Mapping[str, tuple[str, tuple[Any, ...]]]  # input name -> (dtype, shape)


def check_inputs(manifest: Manifest, module: str, found: Specs, source: str) -> None:
    """Compare a loaded module's inputs with what the manifest says.

    Raises:
        ValueError: names, dtypes, ranks or fixed lengths differ.
    """
    expected = {name: (dtype, tuple(shape)) for name, (dtype, shape) in manifest.inputs.get(module, {}).items()}
    if list(found) != list(expected):
        raise ValueError(f"{source}: got inputs {list(found)}, the manifest says {list(expected)}; {_REMEDY}")
    for name, (dtype, shape) in expected.items():
        got_dtype, got_shape = found[name]
        same_shape = len(shape) == len(got_shape) and all(
            a == b or (isinstance(a, str) and not isinstance(b, int)) for a, b in zip(shape, got_shape, strict=True)
        )
        if got_dtype != dtype or not same_shape:
            got = f"{got_dtype} {list(got_shape)}"
            raise ValueError(f"{source}: input {name} is {got}, the manifest says {dtype} {list(shape)}; {_REMEDY}")


def _is_inside(name: str) -> bool:
    """Whether a relative path stays below its folder on every system; backslashes and drives are Windows' own."""
    parts = name.split("/")
    return not set(parts) & {"", ".", ".."} and not set(name) & {"\\", ":"}


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _verify(folder: Path, files: Mapping[str, FileRecord], afresh: bool) -> None:
    """Compare sizes first, since that costs nothing, then hashes."""
    states = []
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing although the manifest lists it; {_REMEDY}")
        state = path.stat()
        if state.st_size != record.size:
            raise ValueError(f"{path} has {state.st_size} bytes, the manifest says {record.size}; {_REMEDY}")
        states.append([str(path.resolve()), state.st_size, state.st_mtime_ns, record.sha256])
    total = sum(record.size for record in files.values())
    stamp = _stamp(states) if total > _REMEMBER_ABOVE else None
    if stamp is not None and stamp.exists() and not afresh:
        return
    for name, record in files.items():
        sha256 = _record(folder / name).sha256
        if sha256 != record.sha256:
            short = f"{sha256[:12]}..., the manifest says {str(record.sha256)[:12]}..."
            raise ValueError(f"{folder / name} is damaged or was changed: sha256 {short}; {_REMEDY}")
    if stamp is not None:
        try:
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
        except OSError:
            return  # a read-only home costs the next opening some seconds, nothing else


def _stamp(states: list[list[Any]]) -> Path:
    """An empty file whose name says that exactly these files, sizes and times were hashed and found right."""
    return paths.cache("verified", hashlib.sha256(json.dumps(states).encode()).hexdigest())

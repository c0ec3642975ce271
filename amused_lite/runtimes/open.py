"""From what a user calls a model to a runtime that runs it. Engines are imported when chosen, and not before."""

import hashlib
import re
from pathlib import Path

from amused_lite.bundle import MANIFEST, TOKENIZER, open_bundle
from amused_lite.config import ModelConfig
from amused_lite.extras import require_extra
from amused_lite.runtimes.base import ModelInfo, Runtime
from amused_lite.tokenizer import Tokenizer

BUNDLED = "tiny"
RUNTIMES = ("auto", "onnx", "torch")
_DIFFUSERS_INDEX = "model_index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def open_model(
    model: str | Path = BUNDLED, runtime: str = "auto", threads: int | None = None
) -> tuple[Runtime, Tokenizer, ModelInfo]:
    """Find a model, check it and choose an engine for it. Its weights are read at the first use.

    Args:
        model: "tiny" (the model inside this package), a bundle folder, a folder in diffusers' layout, or a hub id
            such as `amused/amused-512`, which is downloaded once.
        runtime: "onnx" (bundles), "torch" (bundles and diffusers folders; the `torch` extra) or "auto".
        threads: processor threads; None leaves the choice to the engine.

    Raises:
        FileNotFoundError: nothing of that name is there.
        ValueError: the model is damaged, or this runtime cannot run it.
        MissingExtraError: it needs an optional part of the installation.
        ConnectionError: it is not on this machine and the hub cannot be reached.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime {runtime!r} is unknown; choose one of {', '.join(RUNTIMES)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}; leave it out to use all")
    if _is_hub_id(model):
        require_extra("torch", "a model from the hub", "torch", "safetensors")  # before gigabytes are downloaded
    folder = find_model(model)
    if (folder / MANIFEST).is_file():
        return _open_bundle(folder, runtime, threads)
    if (folder / _DIFFUSERS_INDEX).is_file():
        return _open_diffusers(folder, str(model), runtime, threads)
    expected = f"a {MANIFEST} (bundle) or a {_DIFFUSERS_INDEX} (diffusers folder)"
    raise FileNotFoundError(f"{folder} is no model: it has neither {expected}; give the folder that holds one")


def find_model(model: str | Path) -> Path:
    """The folder of a model, downloaded when it is a hub id.

    Raises:
        FileNotFoundError, ValueError, ConnectionError: see `open_model`.
    """
    if model == BUNDLED:
        folder = Path(__file__).parent.parent / "bundled"
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(f"the bundled model is missing from {folder}; install amused-lite again")
        return folder
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.suffix in _PICKLES:
        raise ValueError(f"{path} is a pickle file, which can run code when read; give a folder with safetensors files")
    if path.exists():
        raise ValueError(f"{path} is a file; give the folder that holds the model")
    if _is_hub_id(model):
        from amused_lite.runtimes.hub import download

        return download(str(model))
    known = f'"{BUNDLED}", a bundle folder, a diffusers folder or a hub id such as amused/amused-512'
    raise FileNotFoundError(f"model {str(model)!r} not found; give {known}")


def _is_hub_id(model: str | Path) -> bool:
    return isinstance(model, str) and bool(_HUB_ID.fullmatch(model)) and not Path(model).exists()


def _open_bundle(folder: Path, runtime: str, threads: int | None) -> tuple[Runtime, Tokenizer, ModelInfo]:
    if runtime == "torch":
        require_extra("torch", "the torch runtime", "torch", "safetensors")
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    tokenizer = _tokenizer(bundle.config, bundle.path(TOKENIZER))
    info = ModelInfo(manifest.name, manifest.model_hash, manifest.weights_licence)
    if runtime == "torch":
        from amused_lite.runtimes.torch_runtime import TorchRuntime

        return TorchRuntime.from_bundle(bundle, threads), tokenizer, info
    from amused_lite.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(bundle, threads), tokenizer, info


def _open_diffusers(folder: Path, name: str, runtime: str, threads: int | None) -> tuple[Runtime, Tokenizer, ModelInfo]:
    if runtime == "onnx":
        raise ValueError(f"{folder} is a diffusers folder, which ONNX Runtime cannot run; use the torch runtime")
    require_extra("torch", "a diffusers folder", "torch", "safetensors")
    from amused_lite.runtimes.torch_runtime import TorchRuntime

    engine = TorchRuntime.from_folder(folder, threads)
    text = engine.config.text
    tokenizer = Tokenizer.from_vocab_and_merges(
        folder / "tokenizer" / "vocab.json",
        folder / "tokenizer" / "merges.txt",
        text.context_length,
        text.start_token_id,
        text.end_token_id,
    )
    return engine, tokenizer, ModelInfo(name, _fingerprint(folder))


def _tokenizer(config: ModelConfig, path: Path) -> Tokenizer:
    text = config.text
    return Tokenizer.from_file(path, text.context_length, text.start_token_id, text.end_token_id)


def _fingerprint(folder: Path) -> str:
    """sha256 over name, size and both ends of every weights file: whole files of gigabytes would cost many seconds."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
            file.seek(max(0, size - 2**20))
            digest.update(file.read())
    return digest.hexdigest()

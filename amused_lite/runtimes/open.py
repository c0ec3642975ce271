"""From what a user calls a model to a runtime that runs it. Engines are imported when chosen, and not before."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from amused_lite.adapters.loading import AdapterSpec, LoadedAdapters, hash_of_bundle, open_adapters, stored_dtype
from amused_lite.adapters.lora import WeightedAdapter
from amused_lite.bundle import MANIFEST, QUANTIZED, TOKENIZER, WEIGHTS, Bundle, open_bundle
from amused_lite.config import ModelConfig
from amused_lite.installed import find_installed, fingerprint, note_use
from amused_lite.runtimes.base import ModelInfo, Runtime
from amused_lite.runtimes.devices import PUBLISHED, check_device, choose_device
from amused_lite.runtimes.two_scale import TwoScale, check_style_scale
from amused_lite.system.extras import require_extra
from amused_lite.system.paths import as_path
from amused_lite.tokenizer import Tokenizer
from amused_lite.vocabulary import Vocabulary

BUNDLED = "tiny"
RUNTIMES = ("auto", "onnx", "openvino", "coreml", "executorch", "torch")
_PRECISIONS = {"torch": ("bfloat16", "auto"), "openvino": ("bfloat16", "float16", "auto")}  # besides float32
_LIBRARIES = {"openvino": ("openvino",), "executorch": ("executorch", "torch"), "coreml": ("coremltools",)}
_DIFFUSERS_INDEX = "model_index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def open_model(
    model: str | Path = BUNDLED,
    runtime: str = "auto",
    threads: int | None = None,
    adapters: Sequence[AdapterSpec] = (),
    style_scale: float | None = None,
    device: str = "auto",
) -> tuple[Runtime, Tokenizer, ModelInfo]:
    """Find a model, check it and choose an engine for it. Its weights are read at the first use.

    Args:
        model: "tiny" (the model inside this package), a bundle folder, a folder in diffusers' layout, or a hub id
            such as `amused/amused-512`, which is downloaded once.
        runtime: "auto", or one of `RUNTIMES`: the target that a bundle was exported for, or "torch" for whatever holds
            plain weights: ONNX bundles and diffusers folders. After a colon may stand what it shall compute in, as in
            "torch:bfloat16" or "openvino:auto", which takes what is fastest here; float32 otherwise.
        threads: processor threads; None leaves the choice to the engine.
        adapters: styles to merge in, "FILE" or "FILE:WEIGHT"; see `loading.open_adapters`.
        style_scale: turns on two-scale guidance, which opens the model a second time without the adapters; see
            `two_scale`.
        device: one of `devices.DEVICES`; "cuda" and "mps" mean the torch runtime where none is named.

    Raises:
        FileNotFoundError: nothing of that name is there.
        ValueError: the model is damaged, this runtime cannot run it, there is no such device, or an adapter does not
            fit.
        MissingExtraError: it needs an optional part of the installation.
        ConnectionError: it is not on this machine and the hub cannot be reached.
    """
    check_runtime(runtime)
    if threads is not None and not 1 <= threads <= 1024:
        raise ValueError(f"threads must be 1 to 1024, got {threads}; leave it out to use all")
    if style_scale is not None:
        return _open_twice(model, runtime, threads, adapters, style_scale, device)
    check_device(device)
    if device in PUBLISHED and runtime.partition(":")[0] == "auto":
        runtime = runtime.replace("auto", "torch", 1)
    if prepared := find_prepared(model, runtime):
        note_use(prepared)
        return _open_bundle(prepared, runtime, threads, adapters, device)
    if is_hub_id(model):
        require_extra("torch", "a model from the hub", "torch", "safetensors")  # before gigabytes are downloaded
    folder = find_model(model)
    if (folder / MANIFEST).is_file():
        return _open_bundle(folder, runtime, threads, adapters, device)
    if (folder / _DIFFUSERS_INDEX).is_file():
        return _open_diffusers(folder, str(model), runtime, threads, adapters, device)
    expected = f"a {MANIFEST} (bundle) or a {_DIFFUSERS_INDEX} (diffusers folder)"
    raise FileNotFoundError(f"{folder} is no model: it has neither {expected}; give the folder that holds one")


def find_prepared(model: str | Path, runtime: str = "auto") -> Path | None:
    """The bundle that `pull` made of a hub id or a folder, where this runtime runs it."""
    engine = runtime.partition(":")[0]
    found = find_installed(model, engine) if model != BUNDLED and engine != "torch" else None
    return found.folder if found else None


def _open_twice(
    model: str | Path,
    runtime: str,
    threads: int | None,
    adapters: Sequence[AdapterSpec],
    style_scale: float,
    device: str,
) -> tuple[Runtime, Tokenizer, ModelInfo]:
    check_style_scale(style_scale)
    if not adapters:
        raise ValueError("a style scale says how an adapter guides; add --adapter FILE, or leave it out")
    styled, tokenizer, info = open_model(model, runtime, threads, adapters, device=device)
    base = open_model(model, runtime, threads, device=device)[0]
    return TwoScale(base, styled, style_scale), tokenizer, replace(info, style_scale=style_scale)


def runtimes_of(model: str | Path) -> tuple[str, ...]:
    """The runtimes that can run a model, as far as that can be said without downloading it.

    Raises:
        FileNotFoundError, ValueError: see `open_model`.
    """
    prepared = find_prepared(model)
    if prepared is None and is_hub_id(model):
        return ("torch",)
    folder = prepared or find_model(model)
    if not (folder / MANIFEST).is_file():
        return ("torch",)
    manifest = open_bundle(folder).manifest
    return tuple(dict.fromkeys((manifest.target, *(["torch"] if WEIGHTS in manifest.files else []))))


def check_runtime(runtime: str) -> None:
    """Raise ValueError unless this is the name of a runtime, with a precision after a colon where one is meant."""
    engine, _, precision = runtime.partition(":")
    if engine not in RUNTIMES or runtime.endswith(":"):
        raise ValueError(f"runtime {runtime!r} is unknown; choose one of {', '.join(RUNTIMES)}")
    if precision:
        _precision(engine, precision)


def _precision(engine: str, precision: str) -> str:
    """What an engine shall compute in, checked."""
    choices = ("float32", *_PRECISIONS.get(engine, ()))
    if engine == "auto":
        choices = ("float32", *dict.fromkeys(name for names in _PRECISIONS.values() for name in names))
    if precision not in ("", *choices):
        raise ValueError(f"{engine} cannot be asked to compute in {precision!r}; choose one of {', '.join(choices)}")
    return precision or "float32"


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
    path = as_path(model)
    if path.is_dir():
        return path
    if path.suffix in _PICKLES:
        raise ValueError(f"{path} is a pickle file, which can run code when read; give a folder with safetensors files")
    if path.exists():
        raise ValueError(f"{path} is a file; give the folder that holds the model")
    if is_hub_id(model):
        from amused_lite.runtimes.hub import download

        return download(str(model))
    known = f'"{BUNDLED}", a bundle folder, a diffusers folder or a hub id such as amused/amused-512'
    raise FileNotFoundError(f"model {str(model)!r} not found; give {known}")


def is_hub_id(model: str | Path) -> bool:
    """Whether this can only be a model on the hub."""
    return isinstance(model, str) and bool(_HUB_ID.fullmatch(model)) and not Path(model).exists()


def _open_bundle(
    folder: Path, runtime: str, threads: int | None, adapters: Sequence[AdapterSpec], device: str
) -> tuple[Runtime, Tokenizer, ModelInfo]:
    if runtime.partition(":")[0] == "torch":
        require_extra("torch", "the torch runtime", "torch", "safetensors")
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    tokenizer = _tokenizer(bundle.config, bundle.path(TOKENIZER))
    chosen, remarks = (
        open_adapters(adapters, bundle.config, hash_of_bundle(bundle)) if adapters else LoadedAdapters((), ())
    )
    info = ModelInfo(
        manifest.name, manifest.model_hash, manifest.weights_licence, chosen, remarks, Vocabulary.of(folder)
    )
    return open_engine(bundle, runtime, threads, chosen, device), tokenizer, info


def open_engine(
    bundle: Bundle,
    runtime: str = "auto",
    threads: int | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    device: str = "auto",
) -> Runtime:
    """The engine for a bundle; "auto" takes that of the bundle's target.

    Raises:
        ValueError: this bundle has no modules for this runtime, or no device of this kind, or it cannot take adapters.
        MissingExtraError: the engine is not installed.
    """
    target = bundle.manifest.target
    runtime, _, asked = runtime.partition(":")
    precision = _precision(target if runtime == "auto" else runtime, asked)
    if target == "torch" and runtime in ("auto", "torch"):
        return _open_rounded(bundle, threads, precision, adapters, device)
    if runtime == "torch":
        if WEIGHTS not in bundle.manifest.files:
            remedy = "leave --runtime out, or open the model it was made from"
            raise ValueError(f"{bundle.folder} holds modules for {target} and no weights for torch; {remedy}")
        from amused_lite.runtimes.torch import TorchRuntime

        engine = TorchRuntime.from_bundle(bundle, threads, choose_device("torch", device)[1], precision)
        return engine.adapt(adapters, stored_dtype(bundle, adapters))
    if runtime not in ("auto", target):
        remedy = f"leave --runtime out, or export the model with --to {runtime}"
        raise ValueError(f"{bundle.folder} was exported for {target}, which {runtime} cannot run; {remedy}")
    if target == "onnx":
        from amused_lite.runtimes.onnx import OnnxRuntime

        cpu = choose_device("onnx", "cpu")[1]  # behind the chosen one, for operations that it lacks
        providers = list(dict.fromkeys([choose_device("onnx", device)[1], cpu]))
        return OnnxRuntime(bundle, threads, providers, adapters)
    if adapters and target != "openvino":
        remedy = "export the model with --adapter, or use an ONNX bundle"
        raise ValueError(f"{bundle.folder} was exported for {target}, which takes no adapters later; {remedy}")
    require_extra(target, f"a bundle for {target}", *_LIBRARIES[target])
    chosen = choose_device(target, device)[1]
    match target:
        case "openvino":
            from amused_lite.runtimes.openvino import OpenVINORuntime

            return OpenVINORuntime(bundle, threads, precision, device=chosen, adapters=adapters)
        case "executorch":
            from amused_lite.runtimes.executorch import ExecuTorchRuntime

            return ExecuTorchRuntime(bundle, threads)
    from amused_lite.runtimes.coreml import CoreMLRuntime

    return CoreMLRuntime(bundle, threads, chosen or None)


def _open_rounded(
    bundle: Bundle, threads: int | None, precision: str, adapters: Sequence[WeightedAdapter], device: str
) -> Runtime:
    """A bundle that `quantize` made for torch."""
    require_extra("quantize", "a bundle with bitsandbytes' weights", "torch", "safetensors", "bitsandbytes")
    if precision == "bfloat16":
        raise ValueError(f"{bundle.folder} has 8- or 4-bit weights, which are computed in float32; use --runtime torch")
    from amused_lite.runtimes.bitsandbytes import LowBitWeights
    from amused_lite.runtimes.torch import TorchRuntime

    weights = LowBitWeights(bundle.path(QUANTIZED), bundle.config, adapters)
    return TorchRuntime(weights, threads, choose_device("bitsandbytes", device)[1])


def _open_diffusers(
    folder: Path, name: str, runtime: str, threads: int | None, adapters: Sequence[AdapterSpec], device: str
) -> tuple[Runtime, Tokenizer, ModelInfo]:
    runtime, _, asked = runtime.partition(":")
    if runtime not in ("auto", "torch"):
        engine = "ONNX Runtime" if runtime == "onnx" else runtime
        raise ValueError(f"{folder} is a diffusers folder, which {engine} cannot run; use the torch runtime")
    require_extra("torch", "a diffusers folder", "torch", "safetensors")
    from amused_lite.runtimes.torch import TorchRuntime

    place = choose_device("torch", device)[1]
    engine = TorchRuntime.from_folder(folder, threads, place, precision=_precision("torch", asked))
    chosen, remarks = open_adapters(adapters, engine.config, engine.base_hash()) if adapters else LoadedAdapters((), ())
    engine.adapt(chosen)
    text = engine.config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    tokenizer = Tokenizer.from_folder(folder / "tokenizer", *ids)
    return engine, tokenizer, ModelInfo(name, fingerprint(folder), adapters=chosen, remarks=remarks)


def _tokenizer(config: ModelConfig, path: Path) -> Tokenizer:
    text = config.text
    return Tokenizer.from_file(path, text.context_length, text.start_token_id, text.end_token_id)

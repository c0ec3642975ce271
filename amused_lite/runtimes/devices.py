"""Devices by the words that a user has for them, and as each engine calls them."""

from collections.abc import Callable

DEVICES = ("auto", "cpu", "cuda", "mps", "gpu", "npu")
PUBLISHED = ("cuda", "mps")  # of torch, which runs published weights there as they are
# The word -> the engine's own names, of which the first that is there is taken. bitsandbytes: torch with its weights.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "torch": {"cpu": ("cpu",), "cuda": ("cuda",), "mps": ("mps",)},
    "bitsandbytes": {"cpu": ("cpu",), "cuda": ("cuda",)},
    "openvino": {"cpu": ("CPU",), "gpu": ("GPU",), "npu": ("NPU",)},
    "onnx": {
        "cpu": ("CPUExecutionProvider",),
        "cuda": ("CUDAExecutionProvider",),
        "gpu": ("DmlExecutionProvider", "CoreMLExecutionProvider"),
    },
    "coreml": {"cpu": ("cpu_only",), "gpu": ("cpu_and_gpu",), "npu": ("cpu_and_ne",)},
    "executorch": {"cpu": ("cpu",)},
}


def check_device(device: str) -> None:
    """Raise ValueError unless this is a word for a device."""
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}")


def choose_device(engine: str, device: str = "auto") -> tuple[str, str]:
    """The word for the device that an engine shall compute on, and the engine's own name for it.

    "auto" is CUDA for torch, where there is one, and the processor otherwise; for Core ML ("auto", ""), which leaves
    it to the bundle's advice. Metal is used when it is asked for: it was measured nowhere yet.

    Args:
        engine: one of "torch", "bitsandbytes", "openvino", "onnx", "coreml", "executorch".
        device: one of `DEVICES`.

    Raises:
        ValueError: the engine or this machine has no such device; the message names those that are there.
    """
    check_device(device)
    if device == "auto" and engine == "coreml":
        return "auto", ""
    names, there = _NAMES[engine], _THERE.get(engine, lambda: ())()
    found = {word: name for word in names if (name := next((n for n in names[word] if _is_there(n, there)), ""))}
    found |= {"cpu": names["cpu"][0]}
    if device == "auto":
        device = "cuda" if engine in ("torch", "bitsandbytes") and "cuda" in found else "cpu"
    if device not in found:
        problem = f"{engine} cannot compute on {device!r}"
        raise ValueError(f"{problem} {'here' if device in names else 'anywhere'}; it has {', '.join(found)} here")
    return device, found[device]


def _is_there(name: str, there: tuple[str, ...]) -> bool:
    return any(item.partition(".")[0] == name for item in there)  # OpenVINO numbers several: GPU.0, GPU.1


def _torch() -> tuple[str, ...]:
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return tuple(name for name in has if has[name])


def _openvino() -> tuple[str, ...]:
    from amused_lite.runtimes.openvino import import_openvino

    return tuple(import_openvino().Core().available_devices)


def _onnx() -> tuple[str, ...]:
    from amused_lite.runtimes.onnx import onnxruntime

    return tuple(onnxruntime.get_available_providers())


_THERE: dict[str, Callable[[], tuple[str, ...]]] = {
    "torch": _torch,
    "bitsandbytes": _torch,
    "openvino": _openvino,
    "onnx": _onnx,
    "coreml": lambda: ("cpu_and_gpu", "cpu_and_ne"),  # Core ML takes what the Mac has
}

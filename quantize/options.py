"""What quantizing may be asked for, checked before any work. Knows no torch and no format's library."""

from dataclasses import dataclass
from typing import Any

from amused_lite.system.extras import require_extra

# target -> bits -> methods, the default first
METHODS: dict[str, dict[int, tuple[str, ...]]] = {
    "onnx": {8: ("weights", "dynamic"), 4: ("weights",)},
    "openvino": {8: ("weights", "full"), 4: ("weights",)},
    "coreml": {8: ("linear", "palette"), 6: ("palette",), 4: ("palette",)},
    "torch": {8: ("int8",), 4: ("nf4",)},
}
# Share of a picture's tokens, over all steps, that must be drawn as the float bundle draws them, teacher-forced. What
# each method reached, and how its worst step did, is in docs/quantization.md.
BOUNDS = {8: 0.95, 6: 0.85, 4: 0.7}
_PACKAGES = {
    "onnx": ("onnx",),
    "openvino": ("openvino",),
    "coreml": ("coremltools", "torch"),
    "torch": ("torch", "safetensors", "bitsandbytes"),
}
_OF_METHOD = {"full": ("nncf",), "palette": ("sklearn",)}


@dataclass(frozen=True)
class QuantizeOptions:
    """What is asked for.

    Raises:
        ValueError: the target offers no such bits or method, or a number is out of range.
    """

    target: str
    bits: int = 8
    method: str = ""  # one of `METHODS`; the target's own default when empty
    encoder: bool = True  # keep `encode_image`, which editing needs and drawing does not
    prompts: int = 4  # of calibration and report
    keep: tuple[str, ...] = ()  # names of weights, with * and ?, that stay float16 beyond the scheme's own
    force: bool = False  # keep a result whose agreement is below its bound

    def __post_init__(self) -> None:
        if self.target not in METHODS:
            known = ", ".join(METHODS)
            raise ValueError(f"{self.target} bundles cannot be quantized; choose --to one of {known}")
        offered = METHODS[self.target]
        if self.bits not in offered:
            choice = " or ".join(str(bits) for bits in offered)
            places = [target for target, methods in METHODS.items() if self.bits in methods]
            elsewhere = f"; {self.bits} bits are for {', '.join(places)}" if places else ""
            raise ValueError(f"{self.target} has no {self.bits} bits; choose {choice}{elsewhere}")
        if not self.method:
            object.__setattr__(self, "method", offered[self.bits][0])
        if self.method not in offered[self.bits]:
            choice = " or ".join(offered[self.bits])
            raise ValueError(f"{self.target} has no method {self.method!r} in {self.bits} bits; choose {choice}")
        if not 1 <= self.prompts <= 64:
            raise ValueError(f"prompts must be 1 to 64, got {self.prompts}")

    @property
    def bound(self) -> float:
        """The least agreement that passes."""
        return BOUNDS[self.bits]

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        return {"bits": self.bits, "method": self.method, "kept_by_request": list(self.keep)}


def require_method(options: QuantizeOptions) -> None:
    """Raise MissingExtraError unless everything is installed that this needs."""
    packages = (*_PACKAGES[options.target], *_OF_METHOD.get(options.method, ()))
    require_extra("quantize", f"quantizing for {options.target}", *packages)

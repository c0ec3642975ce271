"""What this machine computes 8-bit products well in. Knows no engine."""

import platform
from pathlib import Path
from typing import NamedTuple

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply unsigned by signed bytes without saturating, as Linux names them.
_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")


class Choice(NamedTuple):
    """How weights are stored and multiplied."""

    method: str  # of `quantize.options.METHODS["onnx"]`; "" for float16
    reason: str


def choose(bits: int) -> Choice:
    """The method for this many bits on this machine, and why."""
    if bits == 16:
        return Choice("", "weights as published, products in float32")
    if bits == 4:
        return Choice("weights", "the smallest; less exact than 8 bits")
    if found := _dot_product():
        return Choice("dynamic", f"the fastest on a processor with {found}, without calibration")
    return Choice("weights", "this processor shows no 8-bit dot products (VNNI, AMX, i8mm), so products stay float")


def _dot_product() -> str:
    """The best of `_DOT_PRODUCTS` that the processor has; "" where it has none or the system does not tell."""
    if platform.machine() in ("arm64", "aarch64") and not _CPUINFO.is_file():
        return "i8mm"  # every Mac since the M2; the M1 has the plain dot product, which serves as well
    if not _CPUINFO.is_file():
        return ""
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    return next((name for name in _DOT_PRODUCTS if name in flags), "")

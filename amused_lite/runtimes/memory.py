"""Less memory, for a whole process: what is freed, or can be read again, goes back to the system."""

import ctypes
import sys
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
_LARGE = 64 * 1024  # bytes; arrays above have pages of their own, which go when they do
_MADV_PAGEOUT = 21  # of Linux since 5.4; what was written to is kept, so that it cannot lose anything
_MAPS = Path("/proc/self/maps")
_state = {"spare": False}


def spare_memory() -> None:
    """From now on engines keep no arenas, and freed arrays go back to the system.

    For the process, since its allocator is one. Full size in 8 bits, ONNX Runtime: 701 MiB in place of 831 in the
    unmask steps, and 141 in place of 561 between them and decoding.
    """
    _state["spare"] = True
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGE)


def sparing() -> bool:
    """Whether `spare_memory` was asked for."""
    return _state["spare"]


def let_go(file: Path) -> None:
    """Give the pages of a mapped file back to the system, which has them at hand when they are read again.

    Linux counts them as the process's own until then: a third of a GiB of text tower while pictures are decoded.
    """
    if sys.platform != "linux" or not _MAPS.exists():
        return
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None:
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    name = str(file.resolve())
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.endswith(name):
            first, last = (int(number, 16) for number in line.split(maxsplit=1)[0].split("-"))
            madvise(first, last - first, _MADV_PAGEOUT)  # an older system says no, and keeps them

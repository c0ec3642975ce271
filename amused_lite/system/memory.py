"""Peak memory of the process, and ways to lower it: freed and file-backed pages go back to the system."""

import ctypes
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_LARGE, _HUGE, _WHOLE_STEP = 64 * 1024, 24 * 2**20, 256 * 2**20  # bytes
_MADV_PAGEOUT = 21  # of Linux since 5.4; what was written to is kept, so that it cannot lose anything
_MAPS = Path("/proc/self/maps")
_state = {"spare": False}


def use_low_memory() -> None:
    """From now on freed arrays of large models go back to the system at once, in the unmask steps too.

    For the process, since its allocator is one. Steps take twice as long, because fresh pages must be cleared.
    """
    _state["spare"] = True


def low_memory() -> bool:
    """Whether `use_low_memory` was asked for."""
    return _state["spare"]


def allocate_for(steps: bool) -> None:
    """Arrays of what follows have pages of their own, which go when they do; in unmask `steps` only huge ones, unless
    memory is to be spared. What lies free is given back now."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc
        library.mallopt(_M_MMAP_THRESHOLD, _HUGE if steps and not low_memory() else _LARGE)
        library.malloc_trim(0)


def keep_freed() -> None:
    """From now on freed arrays are kept for the next ones, which need no cleared pages then (docs/log.md).

    For training and encoding, where every step has the same arrays as the one before.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):  # glibc
        library.mallopt(_M_TRIM_THRESHOLD, _WHOLE_STEP)
        library.mallopt(_M_MMAP_THRESHOLD, _WHOLE_STEP)


def peak_memory() -> int | None:
    """Bytes: the most this process ever had in memory, files that were mapped included, by the system's own count.

    None where the system keeps none, as Windows.
    """
    # psutil, besides being no part of the core, knows the peak on Windows alone.
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with that of the process that started this one
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if line is not None:
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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

"""What libraries do to signals, undone."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))  # Linux's stack_t


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """Give the calling thread the stack for signals again that it had before; does nothing but on Linux.

    OpenVINO (2026.4) sets one of its own for each model it compiles for a processor. When models go in the order in
    which they came, the last leaves the freed stack of the first behind: the next Ctrl-C is a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before, library = _SignalStack(), ctypes.CDLL(None)
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)

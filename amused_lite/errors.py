"""What a user can cause becomes one line on stderr and an exit code, never a traceback."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from amused_lite.extras import MissingExtraError

BAD_INPUT = 2


def fail(message: str) -> int:
    """Print one line on stderr; returns the exit code of bad input."""
    line = " ".join(message.split())  # always one line, whatever a library put into its message
    print(f"amused-lite: error: {line}", file=sys.stderr)
    return BAD_INPUT


class _Signals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into an exception, so that half-written files are removed on the way out.

    Remembers them as well: in the middle of loading a library the exception can come out as an ImportError.
    """

    def __init__(self) -> None:
        self.caught = 0
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has none
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and shells' background jobs stay deaf to them
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> NoReturn:
        self.caught = number
        raise KeyboardInterrupt


def guard(work: Callable[[], int]) -> int:
    """Do something and return its exit code; what a user can cause becomes one line, and never a traceback."""
    signals = _Signals()
    try:
        return work()
    except BaseException as error:
        if not signals.caught:
            if isinstance(error, OSError):
                _drop_output()
            if isinstance(error, BrokenPipeError):
                return BAD_INPUT
            if isinstance(error, _USER_CAUSED) or _too_large(error):
                return fail(_describe(error))
            raise
    if signals.caught == signal.SIGINT:
        print("amused-lite: interrupted", file=sys.stderr)
    return 128 + signals.caught  # as shells report it


_USER_CAUSED = (ValueError, OSError, MissingExtraError, MemoryError)


def _too_large(error: BaseException) -> bool:
    """Whether torch, which may not even be installed, could not get the memory it asked for."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _drop_output() -> None:
    """Forget output that cannot be written, or Python complains once more when it flushes stdout at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError) or _too_large(error):
        return "not enough memory; close other programs or use a smaller model"
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}" if error.filename else ""
        return f"{error.strerror}:{place}" if place else error.strerror
    return str(error) or type(error).__name__

"""What a user can cause becomes one line on stderr and an exit code, never a traceback."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from amused_lite.console.terminal import LONGEST, plain_streams, printable, shortened
from amused_lite.system.extras import MissingExtraError

BAD_INPUT = 2


def fail(message: str) -> int:
    start = "amused-lite: error: "
    line = printable(" ".join(message.split()))  # always one line, whatever a library put into its message
    print(start + shortened(line, LONGEST - len(start)), file=sys.stderr)
    return BAD_INPUT


class _Signals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into an exception, so that half-written files are removed on the way out.

    Remembers them as well: in the middle of loading a library the exception can come out as an ImportError.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._when = 0.0
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has none
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and shells' background jobs stay deaf to them
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:
            self.caught, self._when = number, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._when > _PATIENCE:  # before, what was begun is being removed
            os._exit(128 + self.caught)


def guard(work: Callable[[], int]) -> int:
    """Do something and return its exit code; what a user can cause becomes one line, and never a traceback."""
    signals = _Signals()
    with plain_streams():
        try:
            return _flushed(work)
        except BaseException as error:
            if not signals.caught:
                if isinstance(error, OSError):
                    _drop_output()
                if isinstance(error, BrokenPipeError):
                    return BAD_INPUT
                if isinstance(error, _USER_CAUSED) or _too_large(error):
                    return fail(_describe(error))
                raise
        # Python remembers that Ctrl-C left an exec of text, as dataclasses are made by, and would end `python -m` by
        # the signal whatever the exit code; any other text that runs makes it forget.
        eval("None")
        if signals.caught == signal.SIGINT:
            print("amused-lite: interrupted", file=sys.stderr)
        return 128 + signals.caught  # as shells report it


def _flushed(work: Callable[[], int]) -> int:
    """Do something, and find out here and not at the interpreter's end that its output cannot be written."""
    try:
        code = work()
    except SystemExit as end:  # of argparse, behind a help text or an error
        code = end.code if isinstance(end.code, int) else BAD_INPUT if end.code else 0
    sys.stdout.flush()
    return code


_PATIENCE = 3.0  # s in which further signals are not heard
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
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the name is too long for this file system: {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        advice = "; check the name" if isinstance(error, FileNotFoundError | NotADirectoryError) else ""
        return f"{error.strerror}: {error.filename}{advice}" if error.filename else error.strerror
    return str(error) or type(error).__name__

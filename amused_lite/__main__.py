"""`python -m amused_lite`, and the `amused-lite` command itself."""

import os
import signal
import sys
from types import FrameType
from typing import Any


def main() -> int:
    """Run the command; Ctrl-C and SIGTERM are heard before anything else is imported, and not while Python ends."""
    _listen(_end)
    from amused_lite.cli import main as run

    try:
        return run()
    finally:
        _listen(signal.SIG_IGN)  # the exit code is settled; any other handler is taken off before libraries unload
        _drop_unwritten()


def _listen(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup and shells' background jobs stay deaf to them
            signal.signal(number, handler)


def _drop_unwritten() -> None:
    """Forget what a full or closed stream could not take: Python would try again at its end, and exit with 120."""
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:
            pass  # closed


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing is begun yet."""
    if number == signal.SIGINT:
        try:
            os.write(2, b"amused-lite: interrupted\n")
        except OSError:
            pass  # nobody listens
    os._exit(128 + number)  # as shells report it


if __name__ == "__main__":
    sys.exit(main())

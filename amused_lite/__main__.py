"""`python -m amused_lite`, and the `amused-lite` command itself."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command; Ctrl-C and SIGTERM are heard before anything else is imported, and after all is done."""
    _hear()
    from amused_lite.cli import main as run

    try:
        return run()
    finally:
        _hear()


def _hear() -> None:
    """End at once on a signal: nothing is begun yet, or everything is tidied up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        try:
            os.write(2, b"amused-lite: interrupted\n")
        except OSError:
            pass  # nobody listens
    os._exit(128 + number)  # as shells report it


if __name__ == "__main__":
    sys.exit(main())

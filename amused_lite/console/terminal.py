"""What reaches a terminal: text that cannot steer it, in lines that can be read, and no crash where nobody listens."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

LONGEST = 299  # characters of an error
_WORD = 100  # characters of a word in it: a path, usually
_TICK = 0.5  # s between two looks at the clock in a bar
_PROGRESS = re.compile(r"[\r\n]*(\x1b\[A)*\r?")  # what tqdm moves the cursor with, before or without text


def printable(text: str) -> str:
    """Text out of a file or a name, safe for a terminal: what could steer it comes escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shortened(line: str, most: int = LONGEST) -> str:
    """A line of at most `most` characters: long words lose their middle, then the line does."""
    if len(line) <= most:
        return line
    words = (word if len(word) <= _WORD else f"{word[:30]}...{word[-60:]}" for word in line.split(" "))
    line = " ".join(words)
    return line if len(line) <= most else f"{line[: most // 2]}...{line[-(most // 2 - 3) :]}"


def size_text(size: int) -> str:
    """Bytes for people: "942 MB", "1.76 GB", "12 GB"."""
    if size < 1e9:
        return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


class _PlainStream:
    """A stream whose text goes through `printable`, line by line."""

    def __init__(self, stream: TextIO, forgiving: bool) -> None:
        """forgiving: what cannot be written is dropped, for a stream that only carries remarks."""
        self._stream, self._forgiving = stream, forgiving
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an emoji on a terminal that knows none

    def write(self, text: str) -> int:
        try:
            self._stream.write(_kept(text))
        except OSError:
            if not self._forgiving:
                raise
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            if not self._forgiving:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _kept(text: str) -> str:
    if text.isprintable():
        return text
    moves = _PROGRESS.match(text)
    start = moves.end() if moves else 0
    return text[:start] + "\n".join("\t".join(map(printable, line.split("\t"))) for line in text[start:].split("\n"))


@contextmanager
def plain_streams() -> Iterator[None]:
    """Meanwhile stdout and stderr are safe to print anything to; what was closed swallows it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the number, so that no file of ours does and is printed into
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (stream or nowhere for stream in before)
        sys.stdout, sys.stderr = _PlainStream(out, forgiving=False), _PlainStream(err, forgiving=True)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@contextmanager
def ticking(bar: "tqdm") -> Iterator[None]:
    """Meanwhile the clock of a bar goes on, while a long step says nothing."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(_TICK):
            bar.refresh()

    clock = threading.Thread(target=tick, daemon=True)
    if not bar.disable:
        clock.start()
    try:
        yield
    finally:
        over.set()
        if clock.is_alive():
            clock.join()

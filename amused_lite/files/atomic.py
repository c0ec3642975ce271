"""Files that appear under their name when they are complete, and over another file only where that is said.

Knows no format.
"""

import errno
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a write for which there is no room


def write_new(target: Path, data: bytes | memoryview) -> Path:
    """Write a file and return where: a name that is taken gets a number (`cat.png`, `cat-2.png`, ...).

    A full disk or an interruption leaves nothing behind. Missing folders are made.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    with unfinished(target) as partial:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return name_finished(partial, target)


def replace_text(target: Path, text: str) -> None:
    """Write a text file, in place of one that is there; a full disk or an interruption leaves that one.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    with unfinished(target) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A name beside `target`, with its suffix, to write to and then to `name_finished`; what is left there goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".amused-{os.getpid()}-{secrets.token_hex(4)}.part{target.suffix}"
    try:
        yield partial
    except OSError as error:
        if error.filename is not None and Path(error.filename) == partial:
            error.filename = str(target)  # the name that was asked for; nobody knows the other
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """An empty folder that becomes `out` when the work ends well, and goes when it does not."""
    place = out.absolute()
    partial, retired = (place.parent / f".{place.name}.{end}" for end in ("part", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if place.exists():
            shutil.rmtree(retired, ignore_errors=True)
            place.rename(retired)
        partial.rename(place)
    finally:
        if retired.exists() and not place.exists():  # stopped between the two
            retired.rename(place)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def name_finished(partial: Path, target: Path) -> Path:
    """Give a finished file its name, or the first numbered one that is free; returns it."""
    for number in itertools.count(1):
        candidate = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
        if _claim(partial, candidate):
            return candidate
    raise AssertionError("unreachable")


def _claim(partial: Path, target: Path) -> bool:
    """Give the finished file its name unless that is taken; a hard link makes test and rename one act."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():  # a file system without hard links: two programs at once could still collide here
            return False
        partial.rename(target)
    return True


def slug(text: str, otherwise: str = "picture") -> str:
    """A file name, without a suffix, that says what `text` does."""
    words = re.sub(r"[^\w]+", "-", text.lower()).strip("-_")
    return words.encode()[:60].decode(errors="ignore").rstrip("-_") or otherwise

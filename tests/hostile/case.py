"""One bad input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """Something wrong, and what is said of it."""

    name: str
    words: Sequence[str]  # of the command line
    prepare: Prepare  # makes the files, in the folder where the command runs
    says: tuple[str, ...]  # file and field
    prints: str = ""  # on stdout, before it is found out


def nothing(folder: Path) -> None:
    """No files."""


def picture(folder: Path) -> None:
    """Nothing but a small `a.png`."""
    Image.new("RGB", (64, 64)).save(folder / "a.png")

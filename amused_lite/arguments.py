"""Types and checks of command-line arguments that every command may use. Importing it costs nothing but argparse."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def check_other_folder(out: Path, model: Path) -> None:
    """Raise ValueError when what is to be made would take the place of the model it is made from."""
    if out.exists() and model.samefile(out):
        raise ValueError(f"{out} is the model itself; give another folder")


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {value}")
        return value

    return parse

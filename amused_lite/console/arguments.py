"""Types and checks of command-line arguments that every command may use. Importing it costs nothing but argparse."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from amused_lite.system.paths import as_path


def check_other_folder(out: Path, model: Path) -> None:
    """Raise ValueError when what is to be made would take the place of the model it is made from."""
    if out.exists() and model.samefile(out):
        raise ValueError(f"{out} is the model itself; give another folder")


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """An argparse type: a whole number in a range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text[:40]!r}") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {value}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {text[:40]}")
        return value

    return parse


def check_folder(out: Path) -> None:
    """Raise ValueError when a folder cannot be made at a place, or not written to. Makes nothing.

    Raises:
        OSError: the place cannot even be looked at.
    """
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"{out} cannot be made: {existing} is a file; choose another place")
    if not os.access(existing, os.W_OK):
        raise ValueError(f"{out} cannot be made: {existing} may not be written; choose another place")


def number(least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number in a range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a number, got {text[:40]!r}") from error
        if not least <= value <= most:  # written so that NaN fails
            raise argparse.ArgumentTypeError(f"must be {least:g} to {most:g}, got {value:g}")
        return value

    return parse


def named(text: str) -> str:
    """An argparse type: a name that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a name, or leave the option out")
    return text


def path(text: str) -> Path:
    """An argparse type: a path, which need not be there."""
    try:
        return as_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


threads = whole(1, 1024)  # an argparse type; larger pools are refused by the engines, in words of their own


def present(text: str) -> Path:
    """An argparse type: the path of something to read; found out before anything is imported for it."""
    found = path(text)
    try:
        is_there = found.exists()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[:100]} cannot be read: {error.strerror}") from error
    if not is_there:
        raise argparse.ArgumentTypeError(f"{found} is missing; give a file or folder that is there")
    return found

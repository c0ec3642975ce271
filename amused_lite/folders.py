"""Where this program keeps files of a person's own, as their system has it; XDG's variables count on Linux."""

from pathlib import Path

from platformdirs import PlatformDirs

_FOLDERS = PlatformDirs("amused-lite", appauthor=False)


def cache(*parts: str) -> Path:
    """What can be made again: a path below the cache folder, which may not exist yet."""
    return _FOLDERS.user_cache_path.joinpath(*parts)


def data(*parts: str) -> Path:
    """What cannot: a path below the data folder, which may not exist yet."""
    return _FOLDERS.user_data_path.joinpath(*parts)

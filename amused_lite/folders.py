"""Where this program keeps files of a person's own, as their system has it; XDG's variables count on Linux.

AMUSED_LITE_HOME moves what cannot be made again, and the prepared models.
"""

import os
from pathlib import Path

from platformdirs import PlatformDirs

_FOLDERS = PlatformDirs("amused-lite", appauthor=False)


def cache(*parts: str) -> Path:
    """What can be made again: a path below the cache folder, which may not exist yet."""
    return _FOLDERS.user_cache_path.joinpath(*parts)


def data(*parts: str) -> Path:
    """What cannot: a path below the data folder, which may not exist yet."""
    home = os.environ.get("AMUSED_LITE_HOME")
    return (Path(home).expanduser() if home else _FOLDERS.user_data_path).joinpath(*parts)

"""Paths: from the words for a place, and where this program keeps files of a person's own. Opens nothing.

Those lie where their system has them; XDG's variables count on Linux. AMUSED_LITE_HOME moves what cannot be made again,
and the prepared models.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platformdirs import PlatformDirs


def as_path(text: str | Path) -> Path:
    """A path with `~` and `~user` filled in.

    Raises:
        ValueError: it is empty, or there is no such user.
    """
    if not str(text):
        raise ValueError("the path is empty; give the name of a file or a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = str(text).partition("/")[0]
        raise ValueError(f"{text}: there is no home folder for {user}; write ./{text} if that is its name") from error


def cache(*parts: str) -> Path:
    """What can be made again: a path below the cache folder, which may not exist yet."""
    return _folders().user_cache_path.joinpath(*parts)


def data(*parts: str) -> Path:
    """What cannot: a path below the data folder, which may not exist yet."""
    home = os.environ.get("AMUSED_LITE_HOME")
    return (as_path(home) if home else _folders().user_data_path).joinpath(*parts)


def _folders() -> "PlatformDirs":
    from platformdirs import PlatformDirs  # 8 ms, which most commands need not spend

    return PlatformDirs("amused-lite", appauthor=False)

"""From the words for a place to a path. Opens nothing."""

from pathlib import Path


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

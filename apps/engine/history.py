"""A gallery on disk: a folder of ordinary PNG files, each with its recipe inside, and an index for searching them.

    history = History(folder)            # nothing is written before the first picture
    history.add(picture)                 # where it went
    history.search("balloon tiny")       # entries with all these words, the latest first
    history.recipe(name), history.open(name), history.path(name)
    gone = history.delete(name)                          # history.put_back(gone) undoes it
    history.archive("balloon")                           # a ZIP file of them, in pieces

The pictures are what counts. The index only repeats what is in them: it is made anew from the files when it is missing,
damaged or does not fit, so pictures may be put into the folder, renamed or taken out by hand.
"""

import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from amused_lite.files.atomic import replace_text, slug, write_new
from amused_lite.files.images import SourceImage, open_picture
from amused_lite.files.png import Recipe, encode_png, read_recipe
from amused_lite.pipeline import Picture
from amused_lite.reading import convert, read_small
from amused_lite.system import paths

INDEX = "index.jsonl"
_NAME = re.compile(r"[^\W_][\w.-]{0,150}\.png", re.IGNORECASE)
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\.", re.IGNORECASE)  # names that Windows keeps for itself
_SCHEMA = 1
_LARGEST_INDEX = 2**28  # bytes; of a larger one the pictures say the same
_MOST_ARCHIVED, _MOST_ARCHIVED_BYTES = 1000, 2**30  # pictures of one archive


@dataclass(frozen=True)
class HistoryEntry:
    """A picture of the gallery; everything but the first three fields is out of its recipe."""

    name: str  # of its file
    created: float  # seconds since 1970: the file's time
    size: int  # bytes
    prompt: str = ""
    negative_prompt: str = ""
    operation: str = "generate"
    seed: int = 0
    image_index: int = 0
    steps: int = 0
    width: int = 0
    height: int = 0
    model: str = ""
    adapters: tuple[str, ...] = ()

    def has(self, words: list[str]) -> bool:
        """Whether each of these lower-case words is somewhere in it."""
        said = " ".join((self.prompt, self.negative_prompt, self.operation, self.model, *self.adapters, str(self.seed)))
        said = f"{said} {datetime.fromtimestamp(self.created):%Y-%m-%d}".lower()
        return all(word in said for word in words)


@dataclass(frozen=True)
class Deleted:
    """A picture that is no longer on the disk."""

    name: str
    created: float  # seconds since 1970
    data: bytes = field(repr=False)  # of its file


def default_folder() -> Path:
    """Where a person's gallery lies unless they say otherwise."""
    return paths.data("history")


class History:
    """See the module. Every method may be called from any thread."""

    def __init__(self, folder: str | Path) -> None:
        """Reads the index and compares it with the folder; nothing is written before the first picture.

        Raises:
            OSError: `folder` is a file, or may not be read.
        """
        self.folder = paths.as_path(folder)
        self._lock = threading.RLock()
        self._entries: dict[str, HistoryEntry] = {}
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(20, "the history needs a folder, and this is a file", str(self.folder))
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, picture: Picture) -> Path:
        """Keep a picture, and return where.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        recipe = picture.recipe
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{slug(recipe.prompt)}-{recipe.seed}.png"
        with self._lock:
            path = write_new(self.folder / name, encode_png(picture.image, recipe))
            entry = _entry(path, recipe)
            self._entries[path.name] = entry
            index = self.folder / INDEX
            if index.is_symlink() or not index.is_file():  # whoever made the folder may have put anything there
                self._write_index()
            else:
                with index.open("a", encoding="utf-8") as file:
                    file.write(_line(entry))
        return path

    def search(self, words: str = "", limit: int | None = None, start: int = 0) -> list[HistoryEntry]:
        """Entries with all these words anywhere in prompts, operation, model, styles, seed or day, latest first."""
        wanted = words.lower().split()
        with self._lock:
            found = [entry for entry in self._entries.values() if entry.has(wanted)]
        found.sort(key=lambda entry: (entry.created, entry.name), reverse=True)
        return found[start : None if limit is None else start + limit]

    def path(self, name: str) -> Path:
        """The file of a picture.

        Raises:
            FileNotFoundError: there is none of this name, whatever else the name says.
        """
        with self._lock:
            path = self.folder / name
            if name not in self._entries or not _is_plain(name) or path.is_symlink() or not path.is_file():
                raise FileNotFoundError(f"the history holds no picture {name[:80]!r}")
        return path

    def open(self, name: str) -> SourceImage:
        """A picture with its recipe, ready to be edited.

        Raises:
            FileNotFoundError, ValueError: it is gone or damaged.
        """
        return open_picture(self.path(name))

    def recipe(self, name: str) -> Recipe:
        """All settings of a picture.

        Raises:
            FileNotFoundError, ValueError: it is gone, damaged or without a recipe.
        """
        return read_recipe(self.path(name))

    def delete(self, name: str) -> Deleted:
        """Remove a picture from the disk, and return what `put_back` needs.

        Raises:
            FileNotFoundError: there is none of this name.
            OSError: it may not be removed.
        """
        with self._lock:
            path = self.path(name)
            deleted = Deleted(name, path.stat().st_mtime, path.read_bytes())
            path.unlink()
            del self._entries[name]
            self._write_index()
        return deleted

    def put_back(self, deleted: Deleted) -> Path:
        """Undo `delete`: the same file in its old place among the others; returns where, if the name is taken by now.

        Raises:
            ValueError: it is no picture of this program, under a name of its gallery.
            OSError: the folder cannot be written, or the disk is full.
        """
        if not _is_plain(deleted.name):
            raise ValueError(f"{deleted.name[:80]!r} is no name of a picture; open the history again")
        source = open_picture(BytesIO(deleted.data))
        if source.recipe is None:
            raise ValueError("this picture holds no recipe, so it is none of the history")
        with self._lock:
            path = write_new(self.folder / deleted.name, deleted.data)
            os.utime(path, (deleted.created, deleted.created))
            self._entries[path.name] = _entry(path, source.recipe)
            self._write_index()
        return path

    def archived(self, words: str = "") -> list[HistoryEntry]:
        """What `archive` holds: as many as it may of those that `search` finds, the latest first."""
        entries, left = [], _MOST_ARCHIVED_BYTES
        for entry in self.search(words, _MOST_ARCHIVED):
            left -= entry.size
            if left < 0:
                break
            entries.append(entry)
        return entries

    def archive(self, words: str = "") -> Iterator[bytes]:
        """A ZIP file of the pictures as they are, in pieces of a picture each. A picture that is gone is left out."""
        pieces = _Pieces()
        with zipfile.ZipFile(pieces, "w") as file:  # type: ignore[arg-type]  # it asks for no more than is there
            for entry in self.archived(words):
                with suppress(OSError):
                    file.write(self.path(entry.name), entry.name)
                yield pieces.take()
        yield pieces.take()

    def refresh(self) -> int:
        """Compare with the folder and read what is new in it; returns how many files were read."""
        with self._lock:
            known = _read_index(self.folder / INDEX)
            self._entries, read = {}, 0
            for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
                if not _is_plain(path.name) or path.is_symlink() or not path.is_file():
                    continue
                entry, state = known.get(path.name), path.stat()
                if entry is None or (entry.created, entry.size) != (round(state.st_mtime, 3), state.st_size):
                    entry, read = _read_entry(path), read + 1
                if entry is not None:
                    self._entries[path.name] = entry
            if set(known) != set(self._entries) and self.folder.is_dir():
                self._write_index()
            return read

    def _write_index(self) -> None:
        """The whole index, in one piece; a folder that may not be written costs the next start some time, no more."""
        with suppress(OSError):
            replace_text(self.folder / INDEX, "".join(map(_line, self._entries.values())))


class _Pieces:
    """A file that only grows at its end, and is taken away meanwhile."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def _is_plain(name: str) -> bool:
    """Whether a name is one file in the folder itself on every system, and a picture's."""
    return bool(_NAME.fullmatch(name)) and not _DEVICES.match(name) and ".." not in name


def _entry(path: Path, recipe: Recipe) -> HistoryEntry:
    state = path.stat()
    values: dict[str, Any] = {
        name: getattr(recipe, name) for name in HistoryEntry.__dataclass_fields__ if hasattr(recipe, name)
    }
    values["operation"] = recipe.edit.operation if recipe.edit is not None else "generate"
    return HistoryEntry(path.name, round(state.st_mtime, 3), state.st_size, **values)


def _read_entry(path: Path) -> HistoryEntry | None:
    """A file's entry; None for a picture that is not ours."""
    try:
        return _entry(path, read_recipe(path))
    except (ValueError, OSError):
        return None


def _line(entry: HistoryEntry) -> str:
    return json.dumps({"schema": _SCHEMA, **asdict(entry)}, ensure_ascii=False) + "\n"


def _read_index(path: Path) -> dict[str, HistoryEntry]:
    """What can be read of it: whatever is wrong with a line, its picture says the same."""
    entries = {}
    names = {item.name for item in fields(HistoryEntry)}
    try:
        lines = read_small(path, "", _LARGEST_INDEX).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return {}
    for line in lines:
        try:
            values = json.loads(line)
            if values.pop("schema") != _SCHEMA or set(values) != names:
                continue
            entry = convert(values, HistoryEntry, str(path), "")
            entry.has([])
            entries[entry.name] = entry
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError):
            continue
    return entries

"""What visitors hand to the page, and what the editor shows them: in memory, under random names.

gradio's components speak of files by their paths. Here such a path is a key and nothing more: the folder it begins with
does not exist, nothing is ever opened there, and whatever is no key leads nowhere. `gate` holds clients to that.
"""

import mimetypes
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "application/octet-stream"  # the kind of whatever a client sent
_MOST_BYTES = 256 * 2**20  # of all that is kept; the oldest go first


@dataclass(frozen=True)
class Upload:
    """The bytes of a file, and what a browser is told about them."""

    data: bytes
    kind: str = UNKNOWN  # a media type


class Uploads:
    """Every method may be called from any thread."""

    def __init__(self, folder: Path, most_bytes: int = _MOST_BYTES) -> None:
        """`folder` is where keys pretend to lie; it need not exist, and stays as it is."""
        self.folder = folder.resolve()
        self._most, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, data: bytes, kind: str = UNKNOWN) -> str:
        """Remember a file for a while, and return its key."""
        ending = mimetypes.guess_extension(kind) if kind != UNKNOWN else None  # gradio's editor goes by it
        key = str(self.folder / f"{secrets.token_urlsafe(24)}{ending or ''}")
        with self._lock:
            self._kept[key] = Upload(data, kind)
            self._bytes += len(data)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return key

    def open(self, key: object) -> Upload:
        """What `keep` took under this very key.

        Raises:
            ValueError: there is nothing under it, or no longer.
        """
        with self._lock:
            upload = self._kept.get(key) if isinstance(key, str) else None
        if upload is None:
            raise ValueError("this file is not in memory, or no longer; choose it again")
        return upload

"""What was asked for, on disk, so that a restart loses nothing: jobs that are not over, and which pictures others gave.

    journal = Journal(history)                   # in a folder of the history; nothing is written before the first job
    journal.keep(job)                            # from now on until it is forgotten
    for job in journal.read(): engine.take_up(job)

One file for each job, and the picture and mask it starts from as long as it is not over. What a job gave lies in the
history; a picture that was deleted there is missing here as well.
"""

import re
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout
from PIL import Image

from amused_lite.editing.operations import as_source
from amused_lite.files.atomic import replace_text, write_new
from amused_lite.files.png import encode_png
from amused_lite.pipeline import Picture
from amused_lite.reading import read_json

from .history import History
from .jobs import DONE, OVER, QUEUED, STOPPING, Job, JobResult, picture_bytes
from .request import Request

_MOST = 64  # jobs that are over; the oldest are forgotten when the program starts
_ID = re.compile(r"[\w-]{16}", re.ASCII)
_PICTURES = ("source", "mask")
_SAID = [one.name for one in fields(Request) if one.name not in (*_PICTURES, "trace", "keep", "size")]


@dataclass(frozen=True)
class JournalEntry:
    """A job as its file has it."""

    owner: tuple[str, str]
    asked: float  # seconds since 1970
    request: dict[str, Any]  # fields of `Request`, without pictures
    state: str = QUEUED  # or how it ended
    seconds: float = 0.0  # that it took
    pictures: tuple[str, ...] = ()  # names in the history


class Journal:
    """Every method may be called from any thread. Of two programs with one history, the first keeps a journal."""

    def __init__(self, history: History) -> None:
        self.folder = history.folder / "journal"
        self._history = history
        self._lock = threading.RLock()
        self._kept: dict[str, JournalEntry] = {}
        self._own: bool | None = None
        self._file_lock = FileLock(self.folder / ".lock", timeout=0)

    @property
    def own(self) -> bool:
        """Whether this program may write it."""
        with self._lock:
            if self._own is None:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._file_lock.acquire()
                    self._own = True
                except (Timeout, OSError) as error:
                    self._own = False
                    why = "another program keeps it" if isinstance(error, Timeout) else error.strerror or error
                    print(f"amused-lite: note: a restart will not find drawings again: {why}", file=sys.stderr)
            return self._own

    def keep(self, job: Job, request: Request) -> None:
        """Write down a job and how it goes on; a full disk costs the restart, not the picture.

        Args:
            job: of an owner, who is two words.
            request: what was submitted; the job itself forgets its pictures when it is over.
        """
        owner, asked = _owner(job), time.time() - (time.monotonic() - job.asked)
        entry = JournalEntry(owner, asked, {name: getattr(job.request, name) for name in _SAID})
        with self._lock:
            if not self.own:
                return
            try:
                for name in _PICTURES:
                    if (given := getattr(request, name)) is not None:
                        write_new(self._picture(job.id, name), _encoded(given))
                self._write(job.id, entry)
            except OSError as error:
                self._remove(job.id)
                job.remark(f"a restart would not find this drawing again: {error.strerror or error}")
                return
        job.subscribe(partial(self._follow, job))
        self._follow(job)  # it may be over by now

    def forget(self, id: str) -> None:
        """Remove all that is written about a job."""
        with self._lock:
            if self._kept.pop(id, None) is not None:
                self._remove(id)

    def close(self) -> None:
        """Leave it to whoever comes next."""
        self._file_lock.release()

    def read(self) -> list[Job]:
        """The jobs of earlier runs, those asked for first in front; what was not over begins its picture anew."""
        if not self.folder.is_dir() or not self.own:
            return []
        entries: dict[str, JournalEntry] = {}
        for path in self.folder.glob("*.json"):
            with suppress(ValueError, OSError):
                if _ID.fullmatch(path.stem):
                    entries[path.stem] = read_json(path, JournalEntry, "remove it")
        jobs, over = [], 0
        for id, entry in sorted(entries.items(), key=lambda item: item[1].asked, reverse=True):
            over += entry.state != QUEUED
            job = self._job(id, entry) if over <= _MOST or entry.state == QUEUED else None
            if job is None:
                self._remove(id)
                continue
            self._kept[id] = entry
            jobs.insert(0, job)
            if not job.over:
                job.subscribe(partial(self._follow, job))
        return jobs

    def _job(self, id: str, entry: JournalEntry) -> Job | None:
        """The job again; None where nothing is left of it, or it cannot be done any more."""
        results = []
        for name in entry.pictures:
            with suppress(OSError, ValueError):
                source, saved = self._history.open(name), self._history.path(name)
                if source.recipe is not None:
                    results.append(JobResult(Picture(source.image, source.recipe), saved))
        over = entry.state in OVER
        if not (results if over else entry.state == QUEUED):
            return None
        said: dict[str, Any] = dict(entry.request)
        try:
            said["adapters"] = tuple((name, weight) for name, weight in said.get("adapters", ()))
            said |= {"source": b""} if over else {name: self._given(id, name) for name in _PICTURES}
            request = Request(**said)
        except (TypeError, ValueError, OSError):
            return None
        job = Job(request.without_pictures() if over else request, entry.owner[0], owner=entry.owner, id=id)
        job.asked = time.monotonic() - (time.time() - entry.asked)
        job.results = tuple(results)
        done = len(results)
        job.update(finished=done, share=1.0 if over else done / request.count)
        if over:
            job.update(state=entry.state, seconds=entry.seconds)
        return job

    def _given(self, id: str, name: str) -> Any:
        path = self._picture(id, name)
        if not path.is_file():
            return None
        return path.read_bytes() if name == "mask" else path

    def _follow(self, job: Job) -> None:
        """Write down what has changed for good."""
        with self._lock:
            now = job.peek()  # once: the engine may end it meanwhile, and is then the last to come here
            entry = self._kept.get(job.id)
            if entry is None or now.error == STOPPING:  # which goes on after the restart
                return
            if not job.keep:
                self.forget(job.id)
                return
            pictures = tuple(result.saved.name for result in job.results if result.saved is not None)
            over = now.state in OVER
            state = now.state if over else QUEUED
            if (pictures, state) == (entry.pictures, entry.state):
                return
            if state not in (DONE, QUEUED) and not pictures:
                self.forget(job.id)
                return
            with suppress(OSError):
                self._write(job.id, replace(entry, pictures=pictures, state=state, seconds=now.seconds))
                if over:
                    self._remove(job.id, *_PICTURES)

    def _write(self, id: str, entry: JournalEntry) -> None:
        replace_text(self.folder / f"{id}.json", msgspec.json.encode(asdict(entry)).decode())
        self._kept[id] = entry

    def _picture(self, id: str, name: str) -> Path:
        return self.folder / f"{id}.{name}.png"

    def _remove(self, id: str, *names: str) -> None:
        for path in [self._picture(id, name) for name in _PICTURES] + ([] if names else [self.folder / f"{id}.json"]):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _owner(job: Job) -> tuple[str, str]:
    assert isinstance(job.owner, tuple)
    kind, name = job.owner
    return str(kind), str(name)


def _encoded(given: Any) -> bytes:
    """A picture file."""
    if isinstance(given, bytes | Path):
        return given if isinstance(given, bytes) else given.read_bytes()
    if isinstance(given, Image.Image):
        return picture_bytes(given, "png")
    source = as_source(given)
    return bytes(encode_png(source.image, source.recipe))

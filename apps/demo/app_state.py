"""State that the tabs share: the engine, pictures by key, styles, installed runtimes. Knows no gradio.

A picture has a key: "JOB/INDEX" for one that the engine remembers, "history:NAME" for one of the gallery, and
"upload:FILE" for one that a visitor opened.
"""

import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from amused_lite.console.terminal import printable
from amused_lite.files.images import SourceImage, open_picture
from amused_lite.runtimes.open import BUNDLED, find_model, runtimes_of
from amused_lite.system.paths import as_path
from amused_lite.vocabulary import Vocabulary

from ..engine.engine import Engine
from ..engine.history import History
from ..engine.jobs import Job, JobResult
from ..engine.journal import Journal
from ..engine.request import Request
from . import sentence
from .picture_filter import FilterFlag, PictureFilter
from .uploads import Uploads

_HISTORY, _UPLOAD = "history:", "upload:"
_MODULES = {  # what each runtime needs
    "onnx": "onnxruntime",
    "torch": "torch",
    "openvino": "openvino",
    "executorch": "executorch",
    "coreml": "coremltools",
}
_MOST_FLAGGED = 4096
_VISITOR = re.compile(r"[\w-]{22,64}", re.ASCII)
_PRIVATE_LEASE = 60.0  # s that a drawing goes on whose page shows no more sign of life, where no other page can find it


@dataclass(eq=False)
class AppState:
    """What all tabs share; one for the whole page. Every method may be called from any thread."""

    engine: Engine
    styles: Path  # where trained styles go
    filter: PictureFilter | None = None
    threads: int | None = None  # of trainings
    flagged: dict[str, FilterFlag | None] = field(default_factory=dict)  # by key, why the filter blurs a picture
    example: Job | None = None  # what a visitor sees who has drawn nothing yet
    children: list[subprocess.Popen[str]] = field(default_factory=list)  # trainings, which end with the page
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="amused-lite-page-")))
    uploads: Uploads = field(init=False)
    journal: Journal | None = field(init=False)  # of what a restart shall find again

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.scratch / "uploads")
        self.journal = Journal(self.history) if self.history is not None else None

    def close(self) -> None:
        """End trainings, and remove what they left behind."""
        for child in self.children:
            child.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.journal is not None:
            self.journal.close()

    def take_up(self) -> None:
        """Go on where an earlier run ended: its drawings are remembered, and those that it did not finish are drawn."""
        for job in self.journal.read() if self.journal is not None else ():
            try:
                self.engine.take_up(job)
            except ValueError as error:  # which may be offered the next time
                print(f"amused-lite: note: a drawing waits for another start: {printable(str(error))}", file=sys.stderr)

    def offer_styles(self) -> None:
        """Offer the styles that were trained before."""
        for path in sorted(self.styles.glob("*.safetensors")) if self.styles.is_dir() else ():
            if path.stem not in self.engine.model_cache.adapters:
                try:
                    self.engine.model_cache.offer_adapter(path)
                except ValueError as error:
                    print(f"amused-lite: note: this style is not offered: {printable(str(error))}", file=sys.stderr)

    def draw_example(self) -> None:
        """Draw what the page opens with; it is nobody's, and kept nowhere."""
        request = Request(prompt=sentence.EXAMPLE, seed=sentence.EXAMPLE_SEED, keep=False)
        self.example = self.engine.submit(request, "page")

    def remembered_example(self) -> Job | None:
        """The example, unless so much was drawn since that the engine forgot it."""
        try:
            return self.example and self.engine.job(self.example.id)
        except KeyError:
            return None

    def submit(self, request: Request, visitor: str = "") -> Job:
        """Queue what a visitor asks for. It goes on when the page is closed, unless it is not kept: then nobody would
        find it again.

        Raises:
            ValueError, QueueFullError, ClosingError: see `Engine.submit`.
        """
        if self.example is not None:
            self.engine.cancel(self.example)
        if visitor and request.keep and self.journal is not None:
            job = self.engine.submit(request, "page", owner=("page", visitor))
            self.journal.keep(job, request)
            return job
        return self.engine.submit(request, "page", _PRIVATE_LEASE)

    def jobs(self, visitor: str, mine: list[str]) -> list[Job]:
        """A visitor's, and those of one page that are not kept, in the order in which they were asked for."""
        found = {job.id: job for job in (self.engine.jobs(("page", visitor)) if visitor else ())}
        for id in mine:
            with suppress(KeyError):  # forgotten since
                found.setdefault(id, self.engine.job(id))
        return sorted(found.values(), key=lambda job: job.asked)

    def vocabulary(self, model: str) -> Vocabulary | None:
        """The words of an offered model that knows few. Nothing is downloaded for it."""
        place = self.engine.model_cache.models.get(model, BUNDLED)
        folder = find_model(place) if place == BUNDLED else as_path(place)
        return Vocabulary.of(folder) if folder.is_dir() else None

    @property
    def history(self) -> History | None:
        return self.engine.history

    def result(self, key: str) -> JobResult:
        """A picture that the engine remembers.

        Raises:
            ValueError: it was forgotten since.
        """
        id, _, index = key.partition("/")
        try:
            return self.engine.job(id).results[int(index)]
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                "this picture is no longer in memory; open it from the history, or draw it again"
            ) from None

    def source(self, key: str) -> SourceImage:
        """A picture with its recipe, for edits.

        Raises:
            ValueError: it was forgotten, deleted or damaged.
        """
        if key.startswith(_HISTORY):
            if self.history is None:
                raise ValueError("there is no history in this session")
            try:
                return self.history.open(key.removeprefix(_HISTORY))
            except OSError as error:
                raise ValueError(str(error)) from error
        if key.startswith(_UPLOAD):
            return open_picture(BytesIO(self.uploads.open(key.removeprefix(_UPLOAD)).data))
        picture = self.result(key).picture
        return SourceImage(picture.image, picture.recipe)

    def uploaded(self, file: Any) -> bytes:
        """What a visitor uploaded, by what gradio's components say of it.

        Raises:
            ValueError: it was forgotten, or never uploaded.
        """
        return self.uploads.open(file.get("path") if isinstance(file, dict) else None).data

    def judge(self, keys: list[str]) -> None:
        """Have the filter, where there is one, look at pictures that the engine remembers."""
        if self.filter is None:
            return
        fresh = [key for key in keys if key not in self.flagged]
        for key, verdict in zip(fresh, self.filter.judge([self.source(key).image for key in fresh]), strict=True):
            self.flagged[key] = verdict
        while len(self.flagged) > _MOST_FLAGGED:
            self.flagged.pop(next(iter(self.flagged)))


def history_key(name: str) -> str:
    """The key of a picture in the gallery."""
    return _HISTORY + name


def upload_key(file: str) -> str:
    """The key of a picture that was opened, by what `Uploads` calls it."""
    return _UPLOAD + file


def job_of(key: str) -> str:
    """The job that a picture came from, if it came from one."""
    return "" if key.startswith((_HISTORY, _UPLOAD)) else key.partition("/")[0]


def runtime_choices(model: str | Path) -> list[tuple[str, str]]:
    """Choices as (what to show, name): automatic, and every engine that can run this model and is here."""
    here = [name for name in runtimes_of(model) if find_spec(_MODULES[name]) is not None]
    return [("Automatic", "auto"), *((name, name) for name in here)]


def visitor_key(given: object) -> str:
    """The secret name under which a browser finds its pictures again; a new one where it brings none."""
    return given if isinstance(given, str) and _VISITOR.fullmatch(given) else secrets.token_urlsafe(24)


def page_url(key: str) -> str:
    """Where the browser finds a picture, from the page on: a proxy may have put it below a path."""
    if key.startswith(_UPLOAD):
        return f"gradio_api/file={quote(key.removeprefix(_UPLOAD))}"
    return f"history/{key.removeprefix(_HISTORY)}" if key.startswith(_HISTORY) else f"pictures/{key}.png"

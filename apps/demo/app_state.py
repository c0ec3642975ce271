"""State that the tabs share: the engine, pictures by key, styles, installed runtimes. Knows no gradio.

A picture has a key: "JOB/INDEX" for one that the engine remembers, "history:NAME" for one of the gallery.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amused_lite.console.terminal import printable
from amused_lite.files.images import SourceImage
from amused_lite.runtimes.open import BUNDLED

from ..engine.engine import Engine
from ..engine.history import History
from ..engine.jobs import JobResult
from .picture_filter import FilterFlag, PictureFilter
from .uploads import Uploads

_HISTORY = "history:"
_ENGINES = {  # what each runtime needs, and the extra that brings it
    "onnx": ("onnxruntime", ""),
    "torch": ("torch", "torch"),
    "openvino": ("openvino", "openvino"),
    "executorch": ("executorch", "executorch"),
    "coreml": ("coremltools", "coreml"),
}
_TINY_PRESETS = {"Flat": ", flat style", "Cartoon": ", cartoon style", "Paper cut-out": ", paper cut-out"}
_PRESETS = {
    "Photograph": ", photograph, natural light",
    "Watercolour": ", watercolour painting",
    "Oil painting": ", oil painting",
    "Pencil": ", pencil drawing",
    "Poster": ", flat poster art",
}
_MOST_FLAGGED = 4096


@dataclass(eq=False)
class AppState:
    """What all tabs share; one for the whole page. Every method may be called from any thread."""

    engine: Engine
    styles: Path  # where trained styles go
    filter: PictureFilter | None = None
    threads: int | None = None  # of trainings
    flagged: dict[str, FilterFlag] = field(default_factory=dict)  # pictures that the filter blurs, by key
    children: list[subprocess.Popen[str]] = field(default_factory=list)  # trainings, which end with the page
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="amused-lite-page-")))
    uploads: Uploads = field(init=False)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.scratch / "uploads")

    def close(self) -> None:
        """End trainings, and remove what they left behind."""
        for child in self.children:
            child.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def offer_styles(self) -> None:
        """Offer the styles that were trained before."""
        for path in sorted(self.styles.glob("*.safetensors")) if self.styles.is_dir() else ():
            if path.stem not in self.engine.model_cache.adapters:
                try:
                    self.engine.model_cache.offer_adapter(path)
                except ValueError as error:
                    print(f"amused-lite: note: this style is not offered: {printable(str(error))}", file=sys.stderr)

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
            if verdict is not None:
                self.flagged[key] = verdict
        while len(self.flagged) > _MOST_FLAGGED:
            self.flagged.pop(next(iter(self.flagged)))


def history_key(name: str) -> str:
    """The key of a picture in the gallery."""
    return _HISTORY + name


def installed_runtimes() -> list[tuple[str, str]]:
    """Choices as (what to show, name): automatic, and every engine that is here."""
    here = [name for name, (module, _) in _ENGINES.items() if find_spec(module) is not None]
    return [("Automatic", "auto"), *((name, name) for name in here)]


def missing_runtimes() -> str:
    """A line about engines that could be installed, or ""."""
    missing = [extra for module, extra in _ENGINES.values() if find_spec(module) is None]
    return (
        f"Not installed: {', '.join(missing)}. Each comes as an extra, such as amused-lite[{missing[0]}]."
        if missing
        else ""
    )


def presets(model: str) -> dict[str, str]:
    """Drawing styles by name, each a phrase that goes behind the prompt."""
    return _TINY_PRESETS if model == BUNDLED else _PRESETS


def page_url(key: str) -> str:
    """Where the browser finds a picture, from the page on: a proxy may have put it below a path."""
    return f"history/{key.removeprefix(_HISTORY)}" if key.startswith(_HISTORY) else f"pictures/{key}.png"

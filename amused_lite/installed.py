"""The models that `pull` prepared for this machine: bundles below the data folder, found by what they were made from.

    models/NAME--BITS-TARGET/     a bundle whose manifest says under `options["source"]` what it was made from
    models/.preparing/...         the same on its way, with what is finished of it (see `prepare.stages`)

Knows no engine and no network.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from amused_lite.bundle import MANIFEST, Manifest, Word, open_bundle, read_manifest
from amused_lite.reading import convert
from amused_lite.system import paths

_USED = ".used"  # empty, in a bundle's folder: its time is that of the last use
_SOURCE = "source"


class Source(Struct):
    """What a prepared model was made from."""

    model: Annotated[str, Meta(max_length=4096)]  # hub id, or the path of a folder
    commit: Annotated[str, Meta(max_length=300)]  # of the hub, or the fingerprint of a folder's weights
    files: Annotated[dict[str, str], Meta(max_length=10_000)]  # name -> sha256, of the hub's large files
    versions: Annotated[dict[Word, Word], Meta(max_length=100)]  # of what prepared it


class InstalledModel(NamedTuple):
    """A prepared model."""

    folder: Path
    manifest: Manifest
    source: Source

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(record.size for record in self.manifest.files.values())

    @property
    def scheme(self) -> str:
        """Such as "8 bits, onnx"."""
        bits = self.manifest.options.get("quantization", {}).get("bits", 16)
        return f"{bits} bits, {self.manifest.target}"

    @property
    def last_use(self) -> float:
        """Seconds since the epoch."""
        used = self.folder / _USED
        return (used if used.exists() else self.folder / MANIFEST).stat().st_mtime


def models_folder() -> Path:
    """Where prepared models lie; may not exist yet."""
    return paths.data("models")


def place_of(model: str, bits: int, target: str) -> Path:
    """Where a model of this kind goes; one of the same model, bits and target is replaced."""
    name = model.replace("/", "--") if not os.path.isabs(model) else f"{Path(model).name}-{_short(model)}"
    return models_folder() / f"{name}--{bits}-{target}"


def work_folder(place: Path) -> Path:
    """Where a model for this place is prepared, on the same disk."""
    return place.parent / ".preparing" / place.name


def installed_models() -> list[InstalledModel]:
    """All that are complete, the latest used first. A folder that is none of ours is passed over."""
    if not models_folder().is_dir():
        return []
    found = [read_installed(folder) for folder in models_folder().iterdir() if (folder / MANIFEST).is_file()]
    return sorted((model for model in found if model is not None), key=lambda model: -model.last_use)


def find_installed(model: str | Path, target: str = "auto") -> InstalledModel | None:
    """The model that was prepared last from a hub id or a folder, for this target where one is asked for."""
    name = source_name(model)
    fitting = [
        item for item in installed_models() if item.source.model == name and target in ("auto", item.manifest.target)
    ]
    if fitting and Path(name).exists():  # and may have been trained on since; a base stands before it
        fitting = [item for item in fitting if item.source.commit.endswith(fingerprint(Path(name)))]
    return max(fitting, key=lambda item: (item.folder / MANIFEST).stat().st_mtime, default=None)


def source_name(model: str | Path) -> str:
    """What a model is called as a source: a hub id as it is, a folder or a file by its whole path."""
    place = paths.as_path(model)
    return str(place.resolve()) if place.exists() else str(model)


def named(word: str) -> list[InstalledModel]:
    """The prepared models that a word means: those of one hub id or folder, or one by its folder's name.

    Raises:
        FileNotFoundError: there is none.
    """
    models = installed_models()
    found = [item for item in models if word in (item.source.model, item.folder.name)]
    found = found or [item for item in models if item.source.model == source_name(word)]
    if not found:
        known = ", ".join(dict.fromkeys(item.source.model for item in models)) or "none"
        raise FileNotFoundError(f"no prepared model {word!r}; there are: {known}")
    return found


def fingerprint(folder: Path) -> str:
    """sha256 over name, size and both ends of every weights file: whole files of gigabytes would cost many seconds.

    folder: of a model or a transformer; or a single weights file.
    """
    digest = hashlib.sha256()
    top, inside = folder.parent, [folder]
    if folder.is_dir():
        top, inside = folder, sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")])
    for path in inside:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(top).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
            file.seek(max(0, size - 2**20))
            digest.update(file.read())
    return digest.hexdigest()


def note_use(folder: Path) -> None:
    """Remember that a prepared model was opened just now."""
    try:
        (folder / _USED).touch()
    except OSError:
        return  # on a disk that may not be written, the list shows when it was prepared


def remove(model: InstalledModel) -> None:
    """Delete a prepared model from the disk."""
    gone = model.folder.with_name(f".{model.folder.name}.gone")  # at once, so that no half of it is ever opened
    shutil.rmtree(gone, ignore_errors=True)
    model.folder.rename(gone)
    shutil.rmtree(gone)


def verify(model: InstalledModel) -> None:
    """Hash every file, without trusting an earlier time.

    Raises:
        FileNotFoundError, ValueError: see `open_bundle`.
    """
    open_bundle(model.folder, afresh=True)


def read_installed(folder: Path) -> InstalledModel | None:
    """The prepared model in a folder; None where there is none that could be read."""
    try:
        manifest = read_manifest(folder)
        said = manifest.options.get(_SOURCE)
        source = convert(said, Source, str(folder / MANIFEST), "pull the model again", closed=False)
    except (ValueError, OSError):
        return None
    return InstalledModel(folder, manifest, source)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]

"""What preparing a model will take, said before anything is done: downloads, disk, memory, time, and why so."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from amused_lite.bundle import MANIFEST
from amused_lite.console.terminal import size_text
from amused_lite.files.atomic import replace_text
from amused_lite.files.safetensors import open_tensors
from amused_lite.installed import fingerprint, models_folder, place_of, read_installed, source_name, work_folder
from amused_lite.prepare.machine import choose
from amused_lite.reading import read_json
from amused_lite.runtimes.hub import HubModel, arrived, blobs, count_weights, look_up, needed_files, wanted_files
from amused_lite.runtimes.open import BUNDLED, is_hub_id
from amused_lite.system.extras import require_extra
from amused_lite.system.paths import as_path

PARTS = ("transformer", "vqvae", "text_encoder")  # of a folder in diffusers' layout, with weights
BITS = (8, 4, 16)
TARGETS = ("onnx",)
_HALF = ".fp16"
_LISTING = "hub.json"  # in the folder where a model is prepared: what the hub said, for when it cannot be reached
# Bytes for one weight of the model, measured on amused-512: of the finished bundle, of the process at its peak.
_STORED = {16: 2.0, 8: 1.08, 4: 0.66}
_MEMORY = 2.4
_LIBRARIES = 4e8  # bytes: torch with nothing to do
_SECONDS = 2.2e-7  # of one core, for one weight
_ROOM = 1.1  # more than is computed, so that nothing ends on the last byte


class ReadyError(ValueError):
    """A model is a bundle already; there is nothing to prepare."""


@dataclass(frozen=True)
class Plan:
    """One model to prepare. Sizes are in bytes."""

    model: str  # hub id, or the whole path of a folder or a file
    hub: HubModel | None  # where it comes from the hub, or its base does: the files it needs
    commit: str  # of the hub, or the fingerprint of a folder's weights
    bits: int
    target: str
    method: str
    reason: str
    weights: int  # how many there are
    missing: int  # to download
    variant: str | None = None
    base: str | None = None  # where `model` is a transformer alone: the model that everything else comes from
    subfolder: str = ""  # of the hub's repository

    @property
    def transformer(self) -> Path | None:
        """What stands in for the base's transformer."""
        return Path(self.model) if self.base else None

    @property
    def place(self) -> Path:
        """The folder it will be in."""
        return place_of(self.model, self.bits, self.target)

    @property
    def is_done(self) -> bool:
        """Whether the same weights were prepared in the same way before."""
        found = read_installed(self.place)
        return found is not None and found.source.commit == self.commit

    @property
    def stored(self) -> int:
        """Bytes of the finished bundle."""
        return int(_STORED[self.bits] * self.weights)

    @property
    def disk(self) -> int:
        """Bytes that preparing takes at most, downloads left out."""
        float_bundle = int(_STORED[16] * self.weights)
        return float_bundle if self.bits == 16 else float_bundle + self.stored

    @property
    def memory(self) -> int:
        """Bytes of the process at its peak."""
        return int(_LIBRARIES + _MEMORY * self.weights)

    @property
    def minutes(self) -> float:
        """Of preparing, downloads left out, on the cores of this machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return _SECONDS * self.weights * (0.3 + 0.7 / cores) / 60  # some of it runs on one core

    def lines(self) -> Iterator[str]:
        """The plan, for people."""
        if self.hub is not None:
            whole = sum(file.size for file in self.hub.files)
            half = " in half precision," if any(_HALF in file.name for file in self.hub.files) else ""
            here = (
                f"{size_text(whole - self.missing)} of {size_text(whole)} are here"
                if self.missing < whole
                else size_text(whole)
            )
            yield f"download  {here},{half} to {blobs(self.hub.name).parent}"
        yield f"prepare   {self.bits} bits for ONNX Runtime ({self.method or 'float16'}): {self.reason}"
        yield f"          {size_text(self.stored)}, in {self.place}"
        yield f"disk      {size_text(self.disk)} while it is prepared, {size_text(_free(models_folder()))} are free"
        yield f"memory    about {size_text(self.memory)} at most"
        minutes = max(1, round(self.minutes))
        yield f"time      about {minutes} minute{'s' if minutes > 1 else ''} after the download"


def make_plan(
    model: str,
    bits: int = 8,
    target: str = "auto",
    revision: str | None = None,
    variant: str | None = None,
    base: str | None = None,
    subfolder: str | None = None,
) -> Plan:
    """Look at a model, here or on the hub, and say what preparing it will take. Downloads nothing.

    Args:
        model: hub id, or a folder in diffusers' layout; with `base` a transformer's folder or safetensors file.
        bits: one of `BITS`.
        target: the engine, one of `TARGETS`, or "auto".
        revision: branch, tag or commit on the hub.
        variant: such as "fp16"; half precision where every part has it when None.
        base: hub id or folder of the model that a transformer alone belongs to.
        subfolder: of the repository on the hub, where the model lies in one.

    Raises:
        FileNotFoundError, ConnectionError: see `hub.look_up`.
        ValueError: the model cannot be prepared, or the disk is too small.
        MissingExtraError: a library is not installed.
    """
    if bits not in BITS:
        raise ValueError(f"bits must be {', '.join(map(str, BITS))}, got {bits}")
    if target not in ("auto", *TARGETS):
        raise ValueError(f"models are prepared for {', '.join(TARGETS)}, got {target!r}; see amused-lite export")
    require_extra("export", "preparing a model", "torch", "safetensors", "onnx", "onnxscript")
    name, whole = source_name(model), base or model
    transformer = _transformer(model) if base else None
    if is_hub_id(whole):
        remembered = work_folder(place_of(name, bits, "onnx")) / _LISTING
        hub = _look_up(whole, revision, variant, subfolder, remembered)
        weights, commit = _count_on_hub(hub), f"{hub.commit} {subfolder or ''}".rstrip()
        missing = sum(file.size for file in hub.files) - arrived(hub)
    elif revision or subfolder:
        raise ValueError(f"{whole} is a folder; leave --revision and --subfolder out, and give the folder itself")
    else:
        folder, hub, missing = _folder(whole), None, 0
        needed_files(_names(folder), str(folder), PARTS, variant)
        weights, commit = _count(folder, variant), fingerprint(folder)
    if transformer:
        commit = f"{commit} {fingerprint(transformer)}"
    plan = Plan(
        name,
        hub,
        commit,
        bits,
        "onnx",
        *choose(bits),
        weights,
        missing,
        variant,
        source_name(base) if base else None,
        subfolder or "",
    )
    check_disk(plan)
    return plan


def check_disk(plan: Plan) -> None:
    """Raise ValueError when a disk has less room than the plan needs."""
    needs = [(models_folder(), plan.disk, "AMUSED_LITE_HOME")]
    if plan.hub is not None:
        needs.append((blobs(plan.hub.name), plan.missing, "HF_HOME"))
        if _device(needs[0][0]) == _device(needs[1][0]):
            needs = [(models_folder(), plan.disk + plan.missing, "AMUSED_LITE_HOME and HF_HOME")]
    for folder, needed, variable in needs:
        free = _free(folder)
        if free < _ROOM * needed:
            amount = size_text(int(_ROOM * needed))
            problem = f"{plan.model} needs {amount} on the disk of {folder}, {size_text(free)} are free"
            raise ValueError(f"{problem}; make room, or set {variable} to a folder on another disk")


def _folder(model: str) -> Path:
    """A folder in diffusers' layout.

    Raises:
        FileNotFoundError, ValueError: it is none.
    """
    folder = as_path(model)
    if model == BUNDLED or (folder / MANIFEST).is_file():
        raise ReadyError(f"{model} is a bundle, ready as it is: amused-lite generate PROMPT -m {model}")
    if folder.is_file() or (folder / "config.json").is_file():
        what = "a file" if folder.is_file() else "a transformer alone"
        raise ValueError(f"{folder} is {what}; say which model it belongs to, such as --base amused/amused-512")
    if not folder.is_dir():
        raise FileNotFoundError(f"model {model!r} not found; give a folder in diffusers' layout, or a hub id")
    return folder


def _transformer(model: str) -> Path:
    """A transformer alone: a file, or a folder with its weights.

    Raises:
        FileNotFoundError, ValueError: it is none.
    """
    place = as_path(model)
    if not place.exists():
        raise FileNotFoundError(f"{place} is missing; give a transformer's folder or safetensors file")
    if place.is_file() and place.suffix != ".safetensors":
        raise ValueError(f"{place} is no safetensors file, and others can run code when read; save it as one")
    if place.is_dir() and not (place / "config.json").is_file():
        inside = [name for name in ("ema_model", "transformer") if (place / name / "config.json").is_file()]
        advice = f"give {place / inside[0]}" if inside else "give the folder that holds it"
        has = ", ".join(sorted(path.name for path in place.iterdir())) or "nothing"
        raise ValueError(f"{place} has no transformer's config.json, only {has[:150]}; {advice}")
    return place


def _count(folder: Path, variant: str | None) -> int:
    """How many weights a folder's files hold."""
    from amused_lite.models.checkpoint import PublishedWeights

    files = PublishedWeights(folder, variant).files()
    return sum(
        entry.size // (4 if entry.dtype == "F32" else 2)
        for path in files
        for entry in open_tensors(path).entries.values()
    )


def _look_up(
    model: str, revision: str | None, variant: str | None, subfolder: str | None, remembered: Path
) -> HubModel:
    """What the hub has, or had when an earlier run asked it, where it cannot be reached now."""
    try:
        found = look_up(model, revision)
    except ConnectionError:
        if revision is not None or not remembered.is_file():
            raise
        return read_json(remembered, HubModel, "delete it and pull again")
    if any(file.name == MANIFEST for file in found.files):
        raise ReadyError(f"{model} is a bundle, ready as it is: amused-lite generate PROMPT -m {model}")
    return wanted_files(found, PARTS, variant, subfolder)


def _names(folder: Path) -> list[str]:
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def remember(plan: Plan) -> None:
    """Keep what the hub said, for a run that goes on where it cannot be reached."""
    if plan.hub is not None:
        replace_text(work_folder(plan.place) / _LISTING, json.dumps(asdict(plan.hub)))


def _count_on_hub(hub: HubModel) -> int:
    """How many weights there are; from the sizes of the files where the hub cannot be reached now."""
    try:
        return count_weights(hub)
    except ConnectionError:
        sizes = [(file.size, _HALF in file.name) for file in hub.files if file.name.endswith(".safetensors")]
        return sum(size // (2 if half else 4) for size, half in sizes)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _device(folder: Path) -> int:
    return _existing(folder).stat().st_dev


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free

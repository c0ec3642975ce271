"""A training as the page sees it: its process, its pictures, what it said last and how that looks. Knows no gradio.

The process's own half is `style_process`. What is being learned is written down beside the drawings that are under way,
and goes on from its last checkpoint when the server starts again.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amused_lite.analysis.contact_sheet import GAP, SIDE
from amused_lite.console.terminal import printable
from amused_lite.files.atomic import replace_text, slug

from . import job_view
from .app_state import AppState

_GRACE = 20.0  # s that a training gets to finish its step
_FOLDER, _SPEC = "training", "spec.json"  # of what is being learned
_BLANK = 6.0  # grey levels of deviation up to which a sample shows nothing


class Training:
    """A running process and the last things it said. One at a time on a page: it takes the whole machine."""

    def __init__(self, command: list[str], out: Path, visitor: str) -> None:
        """`out` is what it writes, for the browser with the key `visitor`."""
        self.out, self.visitor = out, visitor
        self.result: tuple[str, str, str] | None = None  # once it is over: HTML, words, and the name of the style
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C means the server; the training goes on with the next
        )
        self.last: dict[str, Any] = {"state": "opening"}
        self.samples: list[dict[str, Any]] = []
        self.version = 0
        self.asked_to_stop = False
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue  # the training's own words
            said = json.loads(line)
            if said["state"] == "sample":
                self.samples.append(said)
            else:
                self.last = said
            self.version += 1

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors = [*self._errors[-5:], line.strip()]

    def stop(self) -> None:
        """Let it finish its step; end it if it takes too long."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT if self.asked_to_stop is False else signal.SIGKILL)
        self.asked_to_stop = True
        last_word = threading.Timer(_GRACE, self.process.kill)
        last_word.daemon = True
        last_word.start()

    def ended(self) -> bool:
        """Whether it is over; then `last` says how."""
        if self.process.poll() is None:
            return False
        for thread in self._threads:
            thread.join(5)
        if self.last["state"] not in ("done", "failed", "cancelled"):
            why = self._errors[-1] if self._errors and not self.asked_to_stop else ""
            self.last = {"state": "failed", "error": why} if why else {"state": "cancelled"}
        return True


class Trainings:
    """The training of a page, one at a time: begun, taken up again after a restart, ended."""

    def __init__(self, app_state: AppState, command: Callable[[Path], list[str]] | None = None) -> None:
        """`command` makes the process's command line of the path of what it shall do."""
        self.latest: Training | None = None
        self._app_state, self._command = app_state, command or _command
        self._failed: Path | None = None  # what the last training would have made, if it failed
        self._lock = threading.Lock()

    def begin(self, pictures: list[tuple[bytes, str]], values: dict[str, Any], visitor: str) -> Training:
        """Start to learn. `values` are those of `style_process`, without pictures and what is made.

        Raises:
            ValueError: another one is under way.
            OSError: the disk is full.
        """
        with self._lock:
            if self.latest is not None and not self.latest.ended():
                raise ValueError("a style is being learned already; stop it, or wait until it is done")
            folder = self._folder()
            out = free_name(self._app_state.styles, values["style"], self._failed)
            out.parent.mkdir(parents=True, exist_ok=True)
            written = write_pictures(pictures, folder)
            replace_text(
                folder / _SPEC, json.dumps(values | {"pictures": written, "out": str(out), "visitor": visitor})
            )
            return self._start(folder / _SPEC, out, visitor)

    def take_up(self) -> None:
        """Go on with what the last run of the server was learning."""
        journal = self._app_state.journal
        if journal is None or not (journal.folder / _FOLDER / _SPEC).is_file() or not journal.own:
            return
        path = journal.folder / _FOLDER / _SPEC
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))
            out, visitor = Path(spec["out"]), str(spec["visitor"])
            if out.parent != self._app_state.styles:
                raise ValueError(f"its style goes to {out.parent}; start with --styles {out.parent}")
        except (ValueError, KeyError, TypeError, OSError) as error:
            print(f"amused-lite: note: a training is not taken up: {printable(str(error))}", file=sys.stderr)
            return
        if out.exists():  # it was done, and the server ended before it said so
            shutil.rmtree(path.parent, ignore_errors=True)
            return
        with self._lock:
            self._start(path, out, visitor)

    def stop(self) -> None:
        """End the training, if one runs; no restart takes it up."""
        if self.latest is not None:
            (self._folder() / _SPEC).unlink(missing_ok=True)
            self.latest.stop()

    def outcome(self, training: Training) -> tuple[str, str, str]:
        """What is left of a training that is over: how it looks, what to say, and the name of the style or ""."""
        with self._lock:
            if training.result is None:
                training.result = self._finish(training)
                shutil.rmtree(self._folder(), ignore_errors=True)
        return training.result

    def _folder(self) -> Path:
        journal = self._app_state.journal
        return (journal.folder if journal is not None and journal.own else self._app_state.scratch) / _FOLDER

    def _start(self, spec: Path, out: Path, visitor: str) -> Training:
        self.latest = training = Training(self._command(spec), out, visitor)
        self._app_state.children.append(training.process)
        return training

    def _finish(self, training: Training) -> tuple[str, str, str]:
        last, work = training.last, training.out.with_name(f"{training.out.stem}.work")
        self._failed = training.out if last["state"] == "failed" else None  # tried again, it goes on from there
        best, name = best_sample(training), ""
        if last["state"] != "done":
            text = last.get("error") or "Stopped before there was a first sample; nothing was kept."
            html = job_view.message(text, "error" if last.get("error") else "calm")
        elif best is not None and is_blank(Path(best["strip"])):
            Path(last["path"]).unlink()
            text = "The samples came out blank, so nothing was kept. Try fewer steps, or pictures with more in them."
            html = job_view.message(text)
        else:
            name = self._app_state.engine.model_cache.offer_adapter(last["path"])
            html, text = shown(training), f"The style {name} is learned"
        if last["state"] != "failed":
            shutil.rmtree(work, ignore_errors=True)
        return html, text, name


def _command(spec: Path) -> list[str]:
    return [sys.executable, "-m", "amused_lite.apps.demo.style_process", str(spec)]


def free_name(folder: Path, style: str, failed: Path | None) -> Path:
    """A file for a style that is not there yet; that of the training that failed, if it was of this name."""
    stem = slug(style, "style")
    number, path = 1, folder / f"{stem}.safetensors"
    while path.exists() or (path != failed and path.with_name(f"{path.stem}.work").exists()):
        number += 1
        path = folder / f"{stem}-{number}.safetensors"
    return path


def write_pictures(pictures: list[tuple[bytes, str]], folder: Path) -> list[tuple[str, str]]:
    """The pictures as files for the training's process, which end with the server."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for number, (data, caption) in enumerate(pictures):
        path = folder / f"{number:02d}.png"
        path.write_bytes(data)
        written.append((str(path), caption))
    return written


def shown(training: Training) -> str:
    """How it goes, as HTML."""
    last, samples = training.last, training.samples
    strips = []
    for sample in samples[-3:][::-1]:
        address = _strip(sample)
        words = f"Step {sample['step']}: style {sample['style']:.2f}, words {sample['text']:.2f} of the base's"
        strips.append(
            f'<figure style="margin:0"><img alt="Samples after step {sample["step"]}" src="{address}">'
            f'<figcaption class="foot">{words}</figcaption></figure>'
        )
    if last["state"] == "done":
        path = Path(last["path"])
        link = f'<a href="styles/{escape(path.name, quote=True)}" download>Save the file</a>'
        say = f"Say <b>{escape(last['trigger'])}</b> in your prompt. " if last["trigger"] else ""
        size = f"({last['bytes'] / 1e6:.1f} MB)"
        head = f'<p class="foot">Learned; step {last["best"]} was the best. {say}{link} {size}</p>'
        best = best_sample(training)
        if best is not None and round(best["style"], 2) <= 0:
            head = (
                f'<p class="message error">It learned nothing of the look: its samples are no nearer to your pictures '
                f"than before (style {best['style']:.2f}). Try more steps, or pictures that show the look more "
                f"plainly. Styles that were learned before stay as they are.</p>{head}"
            )
        head += '<p class="foot">Tick it under Create, and say how strongly it counts.</p>'
    elif last["state"] == "learning":
        share = last["step"] / last["steps"]
        head = (
            f'<div class="bar"><progress max="1" value="{share:.3f}" aria-label="Training"></progress>'
            f"<span>Step {last['step']} of {last['steps']}</span>"
            f"<span>{job_view.time_left(last['seconds_left'])}</span></div>"
        )
    elif last["state"] == "preparing":
        words = last["what"][0].upper() + last["what"][1:]
        head = (
            f'<div class="bar"><progress max="{last["total"]}" value="{last["done"]}" aria-label="Preparing">'
            f"</progress><span>{words}</span><span>{last['done']} of {last['total']}</span></div>"
        )
    else:
        words = "Opening the model"
        head = f'<div class="bar"><progress aria-label="Training"></progress><span>{words}</span><span></span></div>'
    return f'<div class="stage">{head}<div class="strip">{"".join(strips)}</div></div>'


def best_sample(training: Training) -> dict[str, Any] | None:
    """The samples of what was written, where some were drawn."""
    drawn = [sample for sample in training.samples if sample["step"] == training.last.get("best")]
    return drawn[-1] if drawn else None


def is_blank(strip: Path) -> bool:
    """Whether next to nothing is drawn on a strip of samples."""
    with Image.open(strip, formats=["PNG"]) as image:
        grey = np.asarray(image.convert("L"), np.float32)[GAP : GAP + SIDE]
    pictures = [grey[:, left : left + SIDE] for left in range(GAP, grey.shape[1] - SIDE + 1, SIDE + GAP)]
    return float(np.median([picture.std() for picture in pictures])) < _BLANK


def _strip(sample: dict[str, Any]) -> str:
    """A strip as an address of its own, read once."""
    if "address" not in sample:
        with Image.open(sample["strip"], formats=["PNG"]) as image:
            sample["address"] = job_view.data_url(image.convert("RGB"))
    return sample["address"]

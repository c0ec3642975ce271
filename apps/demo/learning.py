"""A training as the page sees it: its process, its pictures, what it said last and how that looks. Knows no gradio.

The process's own half is `style_process`.
"""

import json
import shutil
import signal
import subprocess
import threading
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amused_lite.analysis.contact_sheet import GAP, SIDE

from . import job_view

_GRACE = 20.0  # s that a training gets to finish its step
_BLANK = 6.0  # grey levels of deviation up to which a sample shows nothing


class Training:
    """A running process and the last things it said. One at a time on a page: it takes the whole machine."""

    def __init__(self, command: list[str], out: Path, visitor: str) -> None:
        """`out` is what it writes, for the browser with the key `visitor`."""
        self.out, self.visitor = out, visitor
        self.result: tuple[str, str, str] | None = None  # once it is over: HTML, words, and the name of the style
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
        head += '<p class="foot">Choose it under Create, Options, Own styles, and how strongly it counts.</p>'
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

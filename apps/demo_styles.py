"""Styles: drop pictures, say what they show, watch it learn, choose candidates for a second round, save the file."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr

from amused_lite.commands.style import sample_prompts
from amused_lite.picture_files import open_picture
from amused_lite.png import encode_png

from . import demo_stage
from .demo_adapters import AdapterPicker
from .demo_desk import Desk
from .engine import ClosingError, QueueFullError
from .jobs import Job, JobCancelledError, JobError
from .request import Request

_MOST, _CANDIDATES = 10, 12
_GRACE = 20.0  # s that a training gets to finish its step
_TICK = """
element.addEventListener('change', () => {
  const ticked = [...element.querySelectorAll('input:checked')].map((input) => Number(input.value));
  trigger('click', { ticked });
});
"""


class Training:
    """A running process and the last things it said. One at a time on a page: it takes the whole machine."""

    def __init__(self, command: list[str]) -> None:
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


class StylesTab:
    """Its components."""

    def __init__(self, desk: Desk, pickers: list[AdapterPicker]) -> None:
        self.desk, self._pickers = desk, pickers
        self._training: Training | None = None
        self._failed: Path | None = None  # what the last training would have made, if it failed
        self._lock = threading.Lock()
        self.adapter = gr.State("")  # name of the style that was trained last
        self.dropped = gr.State([])  # what was uploaded, as gradio's components say it
        self.candidates = gr.State([])  # [(key, caption)]
        self.ticked = gr.State([])
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.files = gr.File(
                    label="One to ten pictures of the look",
                    file_count="multiple",
                    file_types=["image"],
                    height=190,
                    elem_id="style-files",
                )
                self.name = gr.Textbox(label="Name of the style", placeholder="melting golden 3d", elem_id="style-name")
                self.captions = gr.Textbox(
                    label="What the pictures show, without the style",
                    lines=3,
                    elem_id="style-captions",
                    placeholder="a boat\na house",
                    info="One line for each picture, or one for all",
                )
                with gr.Accordion("How it learns", open=False):
                    self.steps = gr.Number(
                        None,
                        label="Steps",
                        precision=0,
                        minimum=1,
                        info="Empty: the model's own recipe",
                        elem_id="style-steps",
                    )
                    self.every = gr.Number(
                        None, label="Steps between samples", precision=0, minimum=1, elem_id="style-every"
                    )
                    self.model = gr.Dropdown(list(desk.engine.shelf.models), label="Model that learns")
                with gr.Row(elem_classes="row-tight"):
                    self.train = gr.Button("Learn this style", variant="primary", elem_id="train")
                    self.cancel = gr.Button("Stop learning", visible=False, elem_id="train-cancel")
            with gr.Column(scale=3, min_width=320):
                self.said = gr.HTML("", elem_classes="sr")
                self.stage = gr.HTML(
                    demo_stage.message("Samples appear here while it learns. Pictures can be made meanwhile.", "calm"),
                    elem_id="style-stage",
                )
                with gr.Column(visible=False) as self.feedback:
                    gr.Markdown(
                        "**A second round.** Draw candidates, tick those that have the look, and learn from them."
                    )
                    self.draw = gr.Button("Draw candidates", elem_id="candidates")
                    self.grid = gr.HTML("", js_on_load=_TICK, elem_id="candidate-grid")
                    self.again = gr.Button("Learn from the ticked ones", visible=False, elem_id="train-again")
        self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        names = [picker.names for picker in self._pickers]
        outputs = [self.stage, self.said, self.train, self.cancel, self.feedback, self.adapter, *names]
        recipe = [self.steps, self.every, self.model]
        # As it comes: gradio would look for the files on the disk.
        self.files.change(lambda files: files or [], self.files, self.dropped, preprocess=False, queue=False, **quiet)
        self.train.click(self._first, [self.dropped, self.name, self.captions, *recipe, *names], outputs, **quiet)
        self.cancel.click(self.stop, None, None, queue=False, **quiet)
        self.draw.click(
            self._draw, [self.adapter, self.model], [self.grid, self.again, self.candidates, self.ticked], **quiet
        )
        self.grid.click(self._tick, None, self.ticked, queue=False, **quiet)
        self.again.click(self._second, [self.candidates, self.ticked, self.adapter, *recipe, *names], outputs, **quiet)

    def stop(self) -> None:
        """End a training, if one runs."""
        if self._training is not None:
            self._training.stop()

    def _tick(self, event: gr.EventData) -> list[int]:
        return [int(number) for number in event._data["ticked"]]

    def _first(
        self,
        files: list[dict[str, Any]],
        name: str,
        captions: str,
        steps: int | None,
        every: int | None,
        model: str,
        *chosen: list[str],
    ) -> Iterator[list[Any]]:
        try:
            lines = _captions(len(files), captions or "")
            style = (name or "").strip()
            if not style:
                raise ValueError("give the style a name, such as melting golden 3d")
            pictures = [(self._picture(file), line) for file, line in zip(files, lines, strict=True)]
            yield from self._learn(pictures, style, steps, every, model, chosen)
        except (ValueError, OSError) as error:
            yield self._refused(str(error))

    def _second(
        self,
        candidates: list[tuple[str, str]],
        ticked: list[int],
        adapter: str,
        steps: int | None,
        every: int | None,
        model: str,
        *chosen: list[str],
    ) -> Iterator[list[Any]]:
        try:
            if not ticked:
                raise ValueError("tick at least one picture that has the look")
            chosen_ones = [candidates[number] for number in ticked]
            pictures = [(bytes(encode_png(self.desk.source(key).image, None)), caption) for key, caption in chosen_ones]
            from amused_lite.adapter_files import load_adapter

            record = load_adapter(self.desk.engine.shelf.adapters[adapter]).record
            style = str(record.recipe.get("style") or record.trigger)
            yield from self._learn(pictures, style, steps, every, model, chosen)
        except (ValueError, OSError, KeyError) as error:
            yield self._refused(str(error))

    def _picture(self, file: dict[str, Any]) -> bytes:
        """An upload as a PNG, whatever it was: the training opens files less carefully than this."""
        return bytes(encode_png(open_picture(BytesIO(self.desk.uploaded(file))).image, None))

    def _refused(self, text: str) -> list[Any]:
        text = f"{text[:1].upper()}{text[1:]}"
        return [
            demo_stage.message(text),
            text,
            gr.Button(interactive=True),
            gr.Button(visible=False),
            *[gr.skip()] * (2 + len(self._pickers)),
        ]

    def _learn(
        self,
        pictures: list[tuple[bytes, str]],
        style: str,
        steps: int | None,
        every: int | None,
        model: str,
        chosen: tuple[list[str], ...],
    ) -> Iterator[list[Any]]:
        """Train, showing how it goes; only one at a time."""
        with self._lock:
            if self._training is not None and not self._training.ended():
                raise ValueError("a style is being learned already; stop it, or wait until it is done")
            out = _free_name(self.desk.styles, style, self._failed)
            spec = self.desk.scratch / f"{out.stem}.json"
            prompts = sample_prompts(model)
            values = {
                "pictures": _written(pictures, spec.with_suffix(".pictures")),
                "style": style,
                "out": str(out),
                "prompts": prompts,
                "model": str(self.desk.engine.shelf.models[model]),
                "threads": self.desk.threads,
                "recipe": {"steps": steps and int(steps), "sample_every": every and int(every)},
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            spec.write_text(json.dumps(values), encoding="utf-8")
            training = self._training = Training([sys.executable, "-m", "amused_lite.apps.demo_training", str(spec)])
            self.desk.children.append(training.process)
        skip = gr.skip()
        rest = [skip] * (2 + len(self._pickers))
        yield [_shown(training), "Learning has begun", gr.Button(interactive=False), gr.Button(visible=True), *rest]
        seen = -1
        while not training.ended():
            if training.version != seen and training.last["state"] != "done":  # which is shown once its file is offered
                seen = training.version
                yield [_shown(training), skip, skip, skip, *rest]
            time.sleep(0.25)
        yield self._done(training, out, chosen)

    def _done(self, training: Training, out: Path, chosen: tuple[list[str], ...]) -> list[Any]:
        last, skip = training.last, gr.skip()
        work = out.with_name(f"{out.stem}.work")
        self._failed = out if last["state"] == "failed" else None  # tried again, it goes on from its work folder
        if last["state"] not in ("done", "failed"):
            shutil.rmtree(work, ignore_errors=True)
        buttons = [gr.Button(interactive=True), gr.Button(visible=False)]
        if last["state"] != "done":
            text = last.get("error") or "Stopped before there was a first sample; nothing was kept."
            kind = "error" if last.get("error") else "calm"
            return [demo_stage.message(text, kind), text, *buttons, skip, skip, *[skip] * len(self._pickers)]
        name = self.desk.engine.shelf.offer_adapter(last["path"])
        html = _shown(training)
        shutil.rmtree(work, ignore_errors=True)
        lists = [picker.offered(before) for picker, before in zip(self._pickers, chosen, strict=True)]
        return [html, f"The style {name} is learned", *buttons, gr.Column(visible=True), name, *lists]

    def _draw(self, adapter: str, model: str) -> Iterator[list[Any]]:
        """Candidates one after another, each a job of its own."""
        from amused_lite.adapter_files import load_adapter

        keys: list[tuple[str, str]] = []
        skip = gr.skip()
        try:
            trigger = load_adapter(self.desk.engine.shelf.adapters[adapter]).record.trigger
            prompts = sample_prompts(model)
            for number in range(_CANDIDATES):
                caption = prompts[number % len(prompts)]
                request = Request(
                    prompt=f"{caption} {trigger}".strip(),
                    seed=number,
                    model=model,
                    adapters=((adapter, 1.0),),
                    keep=False,
                )
                job: Job = self.desk.engine.submit(request, "page")
                job.wait()
                keys.append((f"{job.id}/0", caption))
                yield [_candidates(keys), gr.Button(visible=False), keys, []]
        except (ValueError, OSError, KeyError, JobError, JobCancelledError, QueueFullError, ClosingError) as error:
            yield [demo_stage.message(str(error)), skip, keys, []]
            return
        yield [skip, gr.Button(visible=True), keys, []]


def _captions(pictures: int, captions: str) -> list[str]:
    """One for each picture.

    Raises:
        ValueError: there are too few or too many, or their captions do not fit.
    """
    if not 1 <= pictures <= _MOST:
        raise ValueError(f"drop one to ten pictures of the look; there are {pictures}")
    lines = [line.strip() for line in captions.splitlines() if line.strip()]
    if len(lines) not in (1, pictures):
        raise ValueError(f"say what the pictures show: one line for all, or {pictures} lines; there are {len(lines)}")
    return lines * pictures if len(lines) == 1 else lines


def _written(pictures: list[tuple[bytes, str]], folder: Path) -> list[tuple[str, str]]:
    """The pictures as files for the training's process, which end with the server."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for number, (data, caption) in enumerate(pictures):
        path = folder / f"{number:02d}.png"
        path.write_bytes(data)
        written.append((str(path), caption))
    return written


def _free_name(folder: Path, style: str, failed: Path | None) -> Path:
    """A file for a style that is not there yet; that of the training that failed, if it was of this name."""
    stem = re.sub(r"[^\w]+", "-", style.lower(), flags=re.ASCII).strip("-")[:60] or "style"
    number, path = 1, folder / f"{stem}.safetensors"
    while path.exists() or (path != failed and path.with_name(f"{path.stem}.work").exists()):
        number += 1
        path = folder / f"{stem}-{number}.safetensors"
    return path


def _shown(training: Training) -> str:
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
        link = f'<a href="/styles/{escape(path.name, quote=True)}" download>Save the file</a>'
        say = f"Say <b>{escape(last['trigger'])}</b> in your prompt. " if last["trigger"] else ""
        size = f"({last['bytes'] / 1e6:.1f} MB)"
        head = f'<p class="foot">Learned; step {last["best"]} was the best. {say}{link} {size}</p>'
        head += '<p class="foot">Choose it under Create, Options, Own styles, and how strongly it counts.</p>'
    elif last["state"] == "learning":
        share = last["step"] / last["steps"]
        head = (
            f'<div class="bar"><progress max="1" value="{share:.3f}" aria-label="Training"></progress>'
            f"<span>Step {last['step']} of {last['steps']}</span>"
            f"<span>{demo_stage.time_left(last['seconds_left'])}</span></div>"
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


def _strip(sample: dict[str, Any]) -> str:
    """A strip as an address of its own, read once."""
    if "address" not in sample:
        from PIL import Image

        with Image.open(sample["strip"], formats=["PNG"]) as image:
            sample["address"] = demo_stage.data_url(image.convert("RGB"))
    return sample["address"]


def _candidates(keys: list[tuple[str, str]]) -> str:
    tiles = "".join(
        f'<label><input type="checkbox" value="{number}">'
        f'<img alt="Candidate {number + 1}: {escape(caption, quote=True)}" '
        f'src="/pictures/{key}.png"><span class="name">{number + 1}: {escape(caption)}</span></label>'
        for number, (key, caption) in enumerate(keys)
    )
    return f'<div class="gallery-own" role="group" aria-label="Candidates">{tiles}</div>'

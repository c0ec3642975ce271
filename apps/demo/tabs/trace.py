"""Look inside: every step of a picture, when and how surely each token was set, and what else it could have been."""

import json
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from amused_lite.analysis.trace import Trace, colours_of
from amused_lite.files.png import Recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.settings import GenerateOptions

from ...engine.engine import ClosingError, QueueFullError
from ...engine.jobs import JobCancelledError, JobError
from ...engine.request import Request
from .. import job_view
from ..app_state import AppState
from .events import said_number

_EDITED = "Only pictures that were drawn from nothing can be looked into; this one is an edit of another."
_NEIGHBOURS = 3  # tokens to each side that are shown around a token that is tried out
_PREVIEW = 384  # px

_MARKUP = """
<div class="look">
  <div class="canvas" tabindex="0" role="application"
    aria-label="The picture as tokens. Arrow keys move, Enter shows what else a token could have been."
    aria-describedby="look-where"><img alt="" class="under"><div class="mark" hidden></div></div>
  <label>Step <output class="number"></output><input type="range" class="step" min="1" value="1"></label>
</div>
"""
_SIDE = """
<fieldset class="modes"><legend>What to show</legend>
  <label><input type="radio" name="mode" value="frames" checked> The picture as it forms</label>
  <label><input type="radio" name="mode" value="when"> When each token was set</label>
  <label><input type="radio" name="mode" value="sure"> How surely</label></fieldset>
<div class="legend" hidden><div class="scale"></div><div class="ends"><span></span><span></span></div></div>
<p id="look-where" class="where" role="status">Click on the picture to ask about a token.</p>
<div class="table"></div>
"""
# The whole inspection happens in the browser: moving through the steps asks the server for nothing.
_SCRIPT = """
const start = () => {
  const source = element.querySelector('.look-data');
  const root = element.querySelector('.look');
  if (!source || !root || root.dataset.ready) return;
  root.dataset.ready = '1';
  const data = JSON.parse(source.textContent);
  const side = document.querySelector('#look-side');
  const one = (name) => root.querySelector(name) || side.querySelector(name);
  const image = one('.under'), mark = one('.mark'), range = one('.step'), legend = one('.legend');
  const canvas = one('.canvas');
  let mode = 'frames', cell = Math.floor(data.side * data.side / 2 + data.side / 2);
  range.max = data.frames.length; range.value = data.frames.length;
  const paint = () => {
    const step = Number(range.value);
    one('.number').textContent = step + ' of ' + data.frames.length;
    image.src = mode === 'frames' ? data.frames[step - 1] : data[mode];
    image.alt = mode === 'frames' ? 'The picture after step ' + step
      : mode === 'when' ? 'Map of the step that set each token' : 'Map of how likely each token was';
    range.disabled = mode !== 'frames';
    legend.hidden = mode === 'frames';
    const [low, high] = mode === 'when' ? ['first step', 'last step'] : ['unlikely', 'certain'];
    legend.querySelectorAll('span')[0].textContent = low;
    legend.querySelectorAll('span')[1].textContent = high;
  };
  const say = (ask) => {
    const size = 100 / data.side, row = Math.floor(cell / data.side), column = cell % data.side;
    mark.hidden = false;
    mark.style.cssText = `left:${column * size}%;top:${row * size}%;width:${size}%;height:${size}%`;
    const at = data.at[cell], share = (data.share[cell] * 100).toFixed(1);
    const place = `Row ${row + 1}, column ${column + 1}`;
    one('.where').textContent = `${place}: set in step ${at + 1}, when it was ${share} % likely.`;
    const rows = data.others[cell].map((code, k) => {
      const part = data.shares[cell][k] * 100, own = code === data.tokens[cell] ? ' (taken)' : '';
      const colour = data.colours[code] || 'transparent', width = Math.max(1, part);
      return `<tr><td><span class="swatch" style="background:${colour}"></span></td><td>${code}${own}</td>` +
        `<td>${part.toFixed(1)} %</td><td><span class="share" style="width:${width}px"></span></td></tr>`;
    }).join('');
    const heads = '<th>Colour</th><th>Code</th><th>Likely</th><th><span class="sr">Bar</span></th>';
    one('.table').innerHTML = `<table><thead><tr>${heads}</tr></thead><tbody>${rows}</tbody></table>`;
    if (ask) trigger('click', { cell });
  };
  range.addEventListener('input', paint);
  side.querySelectorAll('[name=mode]').forEach((input) => {
    input.checked = input.value === mode;
    input.onchange = () => { mode = input.value; paint(); };  // of the picture that is looked into now
  });
  one('.where').textContent = 'Click on the picture to ask about a token.';
  one('.table').replaceChildren();
  canvas.addEventListener('click', (event) => {
    const box = image.getBoundingClientRect();
    const place = (at, length) => Math.min(data.side - 1, Math.max(0, Math.floor(at / length * data.side)));
    cell = place(event.clientY - box.top, box.height) * data.side + place(event.clientX - box.left, box.width);
    say(true);
  });
  canvas.addEventListener('keydown', (event) => {
    const row = Math.floor(cell / data.side), column = cell % data.side, last = data.side - 1;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); say(true); return; }
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    cell = Math.min(last, Math.max(0, row + move[0])) * data.side + Math.min(last, Math.max(0, column + move[1]));
    say(false);
  });
  paint();
};
start();
new MutationObserver(start).observe(element, { childList: true, subtree: true });
"""
_TAKEN = """
element.addEventListener('click', (event) => {
  const { take } = event.target.closest('[data-take]')?.dataset ?? {};
  if (take) trigger('click', { take });
});
"""


class TraceMode:
    """Its components; `begin` draws a picture again and shows it, with `begun` as its outputs."""

    def __init__(self, app_state: AppState) -> None:
        self.app_state = app_state
        self.key = gr.State("")  # of the picture that is looked into
        self.cell = gr.State(-1)  # number of the token that was clicked
        self.tokens = gr.State(None)  # of the picture, and its model
        with gr.Row(elem_classes="mode", elem_id="look-mode", visible=False) as self.row:
            with gr.Column(elem_classes="ask", scale=0, min_width=320):
                self._side = gr.HTML(_SIDE, elem_id="look-side", padding=False)
                self.tries = gr.HTML("", js_on_load=_TAKEN, elem_id="tries", padding=False)
            with gr.Column(elem_classes="show", min_width=320):
                self.view = gr.HTML("", js_on_load=_SCRIPT, elem_id="look", padding=False)
                with gr.Row(elem_classes="row-tight edge"):
                    self.back = gr.Button("Back", elem_classes="back-button", elem_id="look-back")
                    self.redo = gr.Button("Redo this spot", interactive=False, elem_id="redo-spot")
        self.view.click(
            self._try,
            self.tokens,
            [self.tries, self.cell, self.redo],
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="always_last",
        )

    @property
    def begun(self) -> list[Any]:
        """Outputs of `begin`."""
        return [self.view, self.tries, self.tokens, self.key, self.cell, self.redo]

    def begin(self, key: str) -> Iterator[dict[Any, Any]]:
        """Draw a picture again with trace=True and show it.

        Raises:
            ValueError, QueueFullError, ClosingError: it cannot be drawn again.
        """
        request = _request(self.app_state, self.app_state.source(key).recipe, key)
        job = self.app_state.engine.submit(request, "page")
        nothing = {self.tries: "", self.tokens: None, self.cell: -1, self.redo: gr.Button(interactive=False)}
        for html, _ in job_view.follow(self.app_state, job):
            if job.over:
                break
            yield {self.view: html, self.key: key, **nothing}
        try:
            trace = job.outcome()[0].trace
            assert trace is not None
            view = self.app_state.engine.call(
                lambda amused: _view(amused, trace), request.model, request.runtime, request.adapters
            )
            view.wait(300)
        except (JobError, JobCancelledError, QueueFullError, ClosingError) as error:
            yield {self.view: job_view.message(str(error))}
            return
        short = replace(trace, frames=trace.frames[-1:], sampled_tokens=trace.sampled_tokens[-1:])
        yield {self.view: view.value, self.tokens: (short, request)}  # without the steps, which the browser has

    def spot(self, key: str, kept: tuple[Trace, Request] | None, cell: int, taken: int | None = None) -> dict[str, Any]:
        """Fields of the request that draws the place around a token anew; with one of its alternatives in its place.

        Raises:
            ValueError: no token was clicked, or the picture was forgotten.
        """
        if kept is None or not 0 <= cell < len(kept[0].tokens):
            raise ValueError("click on the picture first, to say which spot")
        trace, source = kept[0], self.app_state.source(key)
        side = round(len(trace.tokens) ** 0.5)
        row, column = divmod(cell, side)
        around = [slice(max(0, at - _NEIGHBOURS), at + _NEIGHBOURS + 1) for at in (row, column)]
        lock = np.full((side, side), 255, np.uint8)
        lock[around[0], around[1]] = 0
        if taken is not None and source.recipe is not None:
            tokens = trace.tokens.copy()
            tokens[cell] = trace.alternatives[cell][min(taken, len(trace.alternatives[cell]) - 1)]
            source = replace(source, recipe=replace(source.recipe, tokens=tokens))
            lock[row, column] = 255
        mask = Image.fromarray(lock).resize(source.image.size, Image.Resampling.NEAREST)
        return {"operation": "vary", "settings": {"strength": 1.0}, "source": source, "mask": mask, "parent": key}

    def _try(self, kept: tuple[Trace, Request] | None, event: gr.EventData) -> list[Any]:
        """The picture around a token with each of its alternatives in place, decoded."""
        if kept is None:
            return [gr.skip()] * 3
        (trace, request), cell = kept, said_number(event, "cell")
        try:
            job = self.app_state.engine.call(
                lambda amused: _alternatives(amused, trace, cell), request.model, request.runtime, request.adapters
            )
            job.wait(120)
        except (ValueError, JobError, JobCancelledError, QueueFullError, ClosingError) as error:
            return [job_view.message(str(error)), -1, gr.Button(interactive=False)]
        return [job.value, cell, gr.Button(interactive=True)]


def _request(app_state: AppState, recipe: Recipe | None, key: str) -> Request:
    """The same picture once more.

    Raises:
        ValueError: it is the result of an edit.
    """
    if recipe is None or recipe.edit is not None:
        raise ValueError(_EDITED)
    names = set(GenerateOptions.__dataclass_fields__) - {"seed", "micro_conditioning"}
    options = {name: getattr(recipe, name) for name in names if hasattr(recipe, name)}
    model, runtime, adapters = None, "auto", ()
    try:
        request = app_state.engine.job(key.partition("/")[0]).request
        model, runtime, adapters = request.model, request.runtime, request.adapters
    except KeyError:
        model = recipe.model if recipe.model in app_state.engine.model_cache.models else None
    return Request(
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        seed=recipe.seed,
        image_index=recipe.picture,
        options=options,
        model=model,
        runtime=runtime,
        adapters=adapters,
        trace=True,
        keep=False,
    )


def _view(amused: AmusedPipeline, trace: Trace) -> str:
    """Everything that the browser needs, inside the page."""
    mask = amused.runtime.config.uvit.mask_token_id
    side = round(len(trace.tokens) ** 0.5)
    frames = []
    for tokens, sampled_tokens in zip(trace.frames, trace.sampled_tokens, strict=True):
        image = amused.decode(sampled_tokens).resize((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
        veil = Image.fromarray(np.where(tokens == mask, 130, 0).astype(np.uint8).reshape(side, side))
        veil = veil.resize(image.size, Image.Resampling.NEAREST)
        frames.append(job_view.data_url(Image.composite(Image.new("RGB", image.size, (128, 128, 128)), image, veil)))
    picture = amused.decode(trace.tokens)
    seen = np.unique(trace.alternatives)
    data = {
        "side": side,
        "frames": frames,
        "when": job_view.data_url(_heat(picture, trace.fixed_at / max(1, len(frames) - 1))),
        "sure": job_view.data_url(_heat(picture, trace.probability)),
        "at": trace.fixed_at.tolist(),
        "share": [round(float(share), 4) for share in trace.probability],
        "tokens": trace.tokens.tolist(),
        "others": trace.alternatives.tolist(),
        "shares": np.round(trace.alternative_probability, 4).tolist(),
        "colours": _colours(amused, seen),
    }
    text = json.dumps(data, separators=(",", ":"))
    return f'{_MARKUP}<div class="look-data" hidden>{escape(text)}</div>'


def _heat(picture: Image.Image, shares: np.ndarray, strength: float = 0.65) -> Image.Image:
    side = round(len(shares) ** 0.5)
    heat = Image.fromarray(colours_of(shares.reshape(side, side))).resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(picture.convert("L").convert("RGB"), heat, strength).resize((_PREVIEW, _PREVIEW))


def _colours(amused: AmusedPipeline, codes: np.ndarray) -> dict[int, str]:
    """What each code looks like among its own kind: decoded in patches of 2x2, as many pictures as that takes."""
    config = amused.runtime.config
    side = config.uvit.grid
    per_picture = (side // 2) ** 2
    found: dict[int, str] = {}
    for first in range(0, len(codes), per_picture):
        part = codes[first : first + per_picture]
        cells = np.resize(part, per_picture).reshape(side // 2, side // 2).repeat(2, 0).repeat(2, 1)
        image = np.asarray(amused.decode(cells.ravel()), np.float32)
        step = len(image) // (side // 2)
        means = image.reshape(side // 2, step, side // 2, step, 3).mean((1, 3)).reshape(-1, 3)
        for code, mean in zip(part, means, strict=False):
            found[int(code)] = "#" + bytes(np.rint(mean).astype(np.uint8)).hex()
    return found


def _alternatives(amused: AmusedPipeline, trace: Trace, cell: int) -> str:
    side = round(len(trace.tokens) ** 0.5)
    if not 0 <= cell < len(trace.tokens):
        return ""
    row, column = divmod(cell, side)
    figures = []
    pairs = zip(trace.alternatives[cell], trace.alternative_probability[cell], strict=True)
    for number, (code, share) in enumerate(pairs):
        tokens = trace.tokens.copy()
        tokens[cell] = code
        image = amused.decode(tokens)
        step = image.width // side
        left, top, side_px = (column - _NEIGHBOURS) * step, (row - _NEIGHBOURS) * step, (2 * _NEIGHBOURS + 1) * step
        part = image.crop((left, top, left + side_px, top + side_px)).resize((160, 160), Image.Resampling.LANCZOS)
        taken = " (taken)" if code == trace.tokens[cell] else ""
        words = f"{code}{taken}, {100 * share:.1f} %"
        image = f'<img alt="With code {words}" src="{job_view.data_url(part)}">'
        figures.append(f'<button type="button" data-take="{number}">{image}<span>{words}</span></button>')
    title = '<p class="hint">The likeliest codes here. Take one, and what is around it is drawn to fit.</p>'
    return f'{title}<div class="tries">{"".join(figures)}</div>'

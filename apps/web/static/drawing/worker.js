// Everything that takes time, away from the page: downloading, opening the model, drawing.

import { download, fetchContents } from "./download.js";
import { Failure, sentence } from "./failure.js";
import { encodePng } from "./png.js";
import { packCells, recipeTexts } from "./recipe.js";

// The smallest module with a SIMD instruction, for browsers that are too old to say so themselves.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

let model;
let contents;
let drawing = null; // AbortController of the picture under way

const tell = (type, said = {}, transfer = []) => postMessage({ type, ...said }, transfer);
/** Lets messages in: a step keeps this thread from hearing any. */
const breath = () => new Promise((resolve) => setTimeout(resolve));

async function open({ base, threads }) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(Uint8Array.from(SIMD))) {
    throw new Failure("This browser is too old to draw (it has no WebAssembly SIMD); update it or use another.");
  }
  contents = await fetchContents(base);
  tell("contents", { contents });
  const files = await download(
    contents,
    new URL(base),
    (done, total) => tell("progress", { done, total }),
    (warning) => tell("warning", { warning }),
  );
  tell("opening");
  const { Model } = await import("./model.js");
  model = await Model.open(contents, files, threads);
  tell("ready", { threads });
}

/** One picture from a job, see sampling.js; the page gets its steps, and at last its file. */
async function draw(job, signal) {
  const { unmaskSteps } = await import("./sampling.js");
  const started = performance.now();
  const { edit } = job;
  if (edit?.operation === "inpaint") edit.settings = { ...edit.settings, cells: packCells(edit.cells) };
  let tokens;
  for await (const step of unmaskSteps(model, job)) {
    tokens = step.tokens;
    tell("step", { index: step.index, steps: step.steps, preview: model.preview(step.guess) });
    await breath();
    if (signal.aborted) return tell("cancelled");
  }
  if (tokens.includes(model.mask))
    throw new Failure("The model's predictions are no numbers; write the page again from a whole model.");
  const rgb = await model.decode(tokens);
  const file = await encodePng(rgb, contents.image_size, recipeTexts(contents, job, tokens));
  const dropped = model.tokenizer.dropped(job.prompt);
  return tell("picture", { file, tokens, dropped, seconds: (performance.now() - started) / 1000 });
}

const ACTIONS = {
  open,
  async draw({ job }) {
    drawing = new AbortController();
    await draw(job, drawing.signal);
    drawing = null;
  },
  cancel: () => drawing?.abort(),
};

addEventListener("message", async ({ data }) => {
  try {
    await ACTIONS[data.type](data);
  } catch (error) {
    drawing = null;
    tell("failed", { sentence: sentence(error), while: data.type });
  }
});

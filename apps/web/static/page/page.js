// The page: what a person sees and does. Drawing itself is in drawing/worker.js.

import { Drawer, WORTH } from "./drawer.js";
import { Painting } from "./painting.js";

const STRENGTH = 0.5; // of a variation
const KEPT = 48; // pictures in the strip
const byId = (id) => document.getElementById(id);
const [prompt, drawButton, stepsInput, seedInput] = ["prompt", "draw", "steps", "seed"].map(byId);

let contents; // model.json
let drawer;
let busy = false;
let stopped = false;
let chosen = null; // the picture on the stage: {url, name, tokens, job, button}
const pictures = [];
const painting = new Painting(byId("paint"));

/** A worker makes the page work offline, and may let it use several cores, once it is loaded again. */
async function prepare() {
  const done = "amused-lite-reloaded";
  try {
    const registered = navigator.serviceWorker?.register("service-worker.js", { updateViaCache: "none" });
    if (!registered || crossOriginIsolated || WORTH === 1 || sessionStorage.getItem(done)) return;
    await Promise.race([
      registered.then(() => navigator.serviceWorker.ready),
      new Promise((_, late) => setTimeout(late, 5000)),
    ]);
    sessionStorage.setItem(done, "1");
    location.reload();
    await new Promise(() => {});
  } catch {
    // no https, or a private window: the page draws all the same
  }
}

function say(words, wrong = false) {
  byId("message").textContent = words;
  byId("message").classList.toggle("wrong", wrong);
  byId("again").hidden = true;
}

function progress(share) {
  byId("bar").classList.toggle("on", share !== null);
  byId("bar").value = share ?? 0;
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

const HEARD = {
  contents(said) {
    contents = said.contents;
    stepsInput.value = contents.settings.steps;
    byId("steps-said").value = stepsInput.value;
    offerWords();
  },
  progress({ done, total }) {
    progress(done / total);
    say(`Getting the model, ${megabytes(done)} of ${megabytes(total)} MB`);
  },
  opening() {
    progress(1);
    say("Opening the model");
  },
  ready() {
    progress(null);
    document.body.dataset.ready = drawer.threads;
    if (!busy) say("");
    foot();
  },
  warning({ warning }) {
    byId("foot").textContent = warning;
    byId("foot").dataset.warned = "1";
  },
  failed(said) {
    progress(null);
    if (said.while !== "open") return; // whoever draws says so
    say(said.sentence, true);
    byId("again").hidden = false;
  },
  step({ index, steps, preview }) {
    const canvas = byId("forming");
    canvas.width = canvas.height = Math.sqrt(preview.length / 4);
    canvas.getContext("2d").putImageData(new ImageData(preview, canvas.width), 0, 0);
    showOnly("forming");
    progress((index + 1) / steps);
    document.title = `${index + 1}/${steps} amused-lite`;
  },
};

function foot() {
  const said = byId("foot");
  if (said.dataset.warned) return;
  const text = `Drawn here by a model of ${megabytes(modelSize())} MB; nothing you write leaves this device.`;
  said.textContent = text;
  // Never, where the browser refused the service worker or had no room for it.
  navigator.serviceWorker?.ready.then(() => {
    if (globalThis.caches && !said.dataset.warned) said.textContent = `${text} It works offline from now on.`;
  });
}

const modelSize = () => contents.files.reduce((sum, file) => sum + file.size, 0);

function showOnly(id) {
  for (const other of ["forming", "picture", "welcome"]) byId(other).hidden = other !== id;
}

/** Examples on the empty stage, and the words in groups; a tap writes them. */
function offerWords() {
  const chip = (words, act) => {
    const button = Object.assign(document.createElement("button"), {
      type: "button",
      className: "chip",
      textContent: words,
    });
    button.addEventListener("click", () => act(words));
    return button;
  };
  prompt.placeholder = contents.examples[0] ?? "";
  const examples = contents.examples.map((words) => {
    const item = document.createElement("li");
    item.append(chip(words, (example) => ((prompt.value = example), draw())));
    return item;
  });
  byId("examples").replaceChildren(...examples);
  const groups = Object.entries(contents.words).flatMap(([name, words]) => {
    const list = document.createElement("p");
    list.append(
      ...words.map((word) => chip(word, (added) => (prompt.value = `${prompt.value.trimEnd()} ${added} `.trimStart()))),
    );
    return [Object.assign(document.createElement("h2"), { textContent: name }), list];
  });
  byId("groups").replaceChildren(...groups);
  byId("words").hidden = groups.length === 0;
}

/** A whole number from the seed's field, or a new one; null where it is no seed. */
function readSeed() {
  const text = seedInput.value.trim();
  if (text === "") return crypto.getRandomValues(new Uint32Array(1))[0];
  return /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

/** What to do to the chosen picture, if anything. */
function editOf(operation) {
  if (!operation) return undefined;
  const box = { box: [0, 0, contents.image_size] };
  if (operation === "vary") {
    return { operation, settings: { strength: STRENGTH, locked: null, ...box }, tokens: chosen.tokens };
  }
  const settings = { cells: null, ...box, paste: false, feather: contents.image_size / painting.grid };
  return { operation, settings, tokens: chosen.tokens, cells: painting.cells };
}

/** Draw as many pictures as are asked for: new ones, or variations, or with the marked part anew. */
async function draw(operation) {
  if (busy) return;
  const words = prompt.value.trim() || (operation && chosen.job.prompt) || contents?.examples[0] || "";
  const seed = readSeed();
  if (words === "") return say("Say what the picture shall show.", true);
  if (seed === null)
    return say(`The seed is a whole number from 0 to ${Number.MAX_SAFE_INTEGER}; leave it empty for a new one.`, true);
  if (operation === "inpaint" && painting.empty) return say("Paint over the part that shall change, then draw.", true);
  prompt.value = words;
  setBusy(true);
  const count = Number(document.querySelector("[name=count]:checked").value);
  try {
    await drawer.ready;
    const settings = { ...contents.settings, seed, steps: Number(stepsInput.value) };
    if (operation === "inpaint") settings.mask_schedule = "linear";
    const edit = editOf(operation);
    setPainting(false);
    for (let picture = 0; picture < count && !stopped; picture++) {
      say(count > 1 ? `Drawing, ${picture + 1} of ${count}` : "Drawing");
      const job = { prompt: words, settings, picture, edit };
      const result = await drawer.draw(job);
      if (result) add(result, job);
    }
    if (stopped && pictures.length) choose(chosen ?? pictures.at(-1));
    if (stopped) say("Stopped.");
  } catch (failure) {
    say(failure.message, true);
    if (!pictures.length) showOnly("welcome");
    else choose(chosen);
    say(failure.message, true);
  }
  if (!pictures.length) showOnly("welcome");
  setBusy(false);
}

function setBusy(now) {
  busy = now;
  stopped = false;
  drawButton.textContent = now ? "Stop" : painting.canvas.hidden ? "Draw" : "Draw the marked part";
  drawButton.classList.toggle("stop", now);
  for (const button of byId("actions").querySelectorAll("button")) button.disabled = now;
  if (!now) {
    progress(null);
    document.title = "amused-lite";
  }
}

function add({ file, tokens, dropped, seconds }, job) {
  const url = URL.createObjectURL(file);
  const button = document.createElement("button");
  const words = job.prompt
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 60);
  const name = `${words}-${job.settings.seed}${job.picture ? `-${job.picture + 1}` : ""}.png`;
  const made = { url, file, name, tokens, dropped, job, button, seconds };
  button.append(Object.assign(new Image(), { src: url, alt: job.prompt }));
  button.addEventListener("click", () => busy || choose(made));
  pictures.push(made);
  if (pictures.length > KEPT) {
    const old = pictures.shift();
    old.button.remove();
    URL.revokeObjectURL(old.url);
  }
  byId("strip").append(button);
  byId("strip").scrollLeft = byId("strip").scrollWidth;
  choose(made);
}

function choose(made) {
  chosen = made;
  const { job } = made;
  Object.assign(byId("picture"), { src: made.url, alt: job.prompt });
  showOnly("picture");
  setPainting(false);
  for (const { button } of pictures) button.setAttribute("aria-pressed", button === made.button);
  byId("strip").hidden = pictures.length < 2;
  Object.assign(byId("save"), { href: made.url, download: made.name });
  byId("actions").hidden = false;
  const unread = made.dropped && `; too long, it did not read “${made.dropped}”`;
  say(`${job.settings.steps} steps, ${made.seconds.toFixed(1)} s${unread}`);
  Object.assign(byId("facts"), { hidden: false, textContent: `seed ${job.settings.seed}` });
  const shared = new File([made.file], made.name, { type: made.file.type });
  byId("share").hidden = !navigator.canShare?.({ files: [shared] });
  byId("share").onclick = () => navigator.share({ files: [shared] }).catch(() => {});
}

function setPainting(on) {
  byId("change").setAttribute("aria-pressed", on);
  if (on) {
    painting.open(contents.config.uvit.grid);
    prompt.value ||= chosen.job.prompt;
    say("Paint over what shall change, and say the whole new picture.");
  } else painting.close();
  if (!busy) drawButton.textContent = on ? "Draw the marked part" : "Draw";
}

function connect() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (busy) {
      stopped = true;
      drawer.cancel();
    } else draw(painting.canvas.hidden ? undefined : "inpaint");
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("ask").requestSubmit();
    }
  });
  stepsInput.addEventListener("input", () => (byId("steps-said").value = stepsInput.value));
  byId("vary").addEventListener("click", () => draw("vary"));
  byId("change").addEventListener("click", () => setPainting(painting.canvas.hidden));
  byId("facts").addEventListener("click", () => (seedInput.value = chosen.job.settings.seed));
  byId("again").addEventListener("click", () => {
    say("");
    drawer.restart();
  });
}

await prepare();
connect();
drawer = new Drawer();
for (const [type, act] of Object.entries(HEARD)) drawer.addEventListener(type, ({ detail }) => act(detail));

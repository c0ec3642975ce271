// The page's end of the worker: one picture at a time, and a new worker when the old one is of no more use.

import { Failure } from "../drawing/failure.js";

const IOS =
  /iP(hone|ad|od)/.test(navigator.userAgent) || (/Mac/.test(navigator.platform) && navigator.maxTouchPoints > 1);
const MOST_THREADS = 4;
// On iOS a tab ends after some hundred runs of a graph, and threads fill its memory (onnxruntime issues 27584, 22086).
const PICTURES_A_WORKER = IOS ? 24 : Infinity;
const SILENCE = 20_000; // ms without a sign after which a worker that was hidden is given up

/** How many threads this device is worth, were the page isolated. */
export const WORTH = IOS
  ? 1
  : Math.max(1, Math.min(MOST_THREADS, Math.floor((navigator.hardwareConcurrency || 2) / 2)));

export class Drawer extends EventTarget {
  constructor() {
    super();
    this.threads = globalThis.crossOriginIsolated ? WORTH : 1;
    document.addEventListener("visibilitychange", () => document.hidden || this.watch());
    this.restart();
  }

  /** Begin anew: what was being drawn is lost, what was downloaded is not. */
  restart() {
    this.worker?.terminate();
    this.drawn = 0;
    this.worker = new Worker(new URL("../drawing/worker.js", import.meta.url), { type: "module" });
    this.ready = new Promise((resolve, reject) => Object.assign(this, { opened: resolve, refused: reject }));
    this.ready.catch(() => {}); // whoever draws hears of it
    this.worker.addEventListener("message", ({ data }) => this.heard(data));
    const why = () => (this.settle ? "The drawing stopped, perhaps for lack of memory" : "The drawing could not start");
    this.worker.addEventListener("error", () => this.lose(`${why()}; try again.`));
    this.worker.postMessage({ type: "open", base: new URL(".", document.baseURI).href, threads: this.threads });
  }

  heard(said) {
    this.last = performance.now();
    if (said.type === "ready") this.opened();
    if (said.type === "failed" && said.while === "open") this.refused(new Failure(said.sentence));
    else if (said.type === "failed") this.settle?.reject(new Failure(said.sentence));
    if (said.type === "picture" || said.type === "cancelled")
      this.settle?.resolve(said.type === "picture" ? said : null);
    this.dispatchEvent(new CustomEvent(said.type, { detail: said }));
  }

  /** Draw a job (see sampling.js); null when it was cancelled. Rejects with a Failure. */
  async draw(job) {
    if (this.drawn >= PICTURES_A_WORKER) this.restart();
    await this.ready;
    this.drawn += 1;
    try {
      return await new Promise((resolve, reject) => {
        this.settle = { resolve, reject };
        this.worker.postMessage({ type: "draw", job });
      });
    } finally {
      this.settle = null;
    }
  }

  cancel() {
    this.worker.postMessage({ type: "cancel" });
  }

  /** A browser may end a hidden tab's work without a word. */
  watch() {
    const before = this.last;
    setTimeout(() => {
      if (this.settle && this.last === before && !document.hidden) {
        this.lose("The browser stopped the drawing while this tab was hidden; press Draw again.");
      }
    }, SILENCE);
  }

  lose(sentence) {
    const { settle } = this;
    const failure = new Failure(sentence);
    if (settle) {
      this.restart();
      settle.reject(failure);
    } else {
      this.worker.terminate();
      this.refused(failure);
      this.dispatchEvent(new CustomEvent("failed", { detail: { sentence, while: "open" } }));
    }
  }
}

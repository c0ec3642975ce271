// The loop of unmask steps (MaskGIT's parallel decoding), and the edits that are the same loop from another start. See
// amused_lite/sampling/loop.py and amused_lite/editing/token_operations.py.

import { MASK_STREAM, ORDER_STREAM } from "./noise.js";
import { lateStart, maskSchedule, maskTemperatures } from "./schedule.js";

const EDIT_NOISE = 2 ** 20; // an edit's noise begins here, so that a seed does not draw its own picture again

/**
 * @typedef {object} Job
 * @property {string} prompt
 * @property {object} settings as a recipe has them: steps, seed, guidance_scale, ...
 * @property {number} picture its number within the seed
 * @property {{operation: string, settings: object, tokens: Int32Array, cells?: boolean[]}} [edit]
 */

/** The tokens a job starts from, and where its schedule and its noise begin. */
function start(model, { settings, picture, edit }) {
  if (!edit) return { tokens: new Int32Array(model.count).fill(model.mask), firstStep: 0, noiseStep: 0 };
  const tokens = Int32Array.from(edit.tokens);
  if (edit.operation === "inpaint") {
    edit.cells.forEach((marked, i) => marked && (tokens[i] = model.mask));
    return { tokens, firstStep: 0, noiseStep: EDIT_NOISE };
  }
  const { firstStep, masked } = lateStart(edit.settings.strength, model.count, settings.steps, settings.mask_schedule);
  const chance = model.noise.gumbel(settings.seed, picture, 0, MASK_STREAM, model.count).slice();
  const order = Array.from(chance.keys()).sort((a, b) => chance[b] - chance[a]);
  order.slice(0, masked).forEach((place) => (tokens[place] = model.mask));
  return { tokens, firstStep, noiseStep: EDIT_NOISE + firstStep, open: model.count };
}

/**
 * Yields {index, steps, tokens, guess} after each step.
 * @param {Job} job
 */
export async function* unmaskSteps(model, job) {
  const { settings, picture } = job;
  const conditioning = await model.condition(job.prompt);
  let { tokens, firstStep, noiseStep, open } = start(model, job);
  const isMasked = () => Array.from(tokens, (token) => token === model.mask);
  const left = isMasked().filter(Boolean).length;
  const schedule = maskSchedule(left, settings.steps, settings.mask_schedule, firstStep, open);
  const temperatures = maskTemperatures(settings.mask_temperature, settings.steps).slice(firstStep);
  for (const [index, masked] of schedule.entries()) {
    const key = [settings.seed, picture, noiseStep + index];
    const orderNoise = model.noise.gumbel(...key, ORDER_STREAM, model.count).slice();
    const tokenNoise = model.noise.tokens(...key, isMasked(), model.codes);
    const controls = {
      scale: settings.guidance_scale,
      temperature: settings.token_temperature,
      maskTemperature: temperatures[index],
      masked,
    };
    const step = await model.unmask(tokens, conditioning, controls, { tokenNoise, orderNoise });
    tokens = step.tokens;
    yield { index, steps: schedule.length, ...step };
  }
}

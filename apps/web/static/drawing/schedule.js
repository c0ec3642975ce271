// How many tokens stay masked: MaskGIT's cosine and the linear schedule, in the arithmetic of
// amused_lite/sampling/schedule.py.

const f32 = Math.fround;
const SCHEDULES = {
  cosine: (t) => f32(Math.cos(f32(t * f32(Math.PI)) / 2)),
  linear: (t) => f32(1 - t),
};

/**
 * Tokens still masked after each step; the last is 0.
 * @param {number} masked tokens that are masked at first
 * @param {number} firstStep enter the schedule late; the entries of earlier steps are left out
 * @param {number} open what the schedule started with, where it is entered late
 */
export function maskSchedule(masked, steps, name, firstStep = 0, open = masked) {
  const counts = [];
  let left = open;
  for (let step = firstStep + 1; step < steps; step++) {
    const wanted = Math.floor(f32(open * SCHEDULES[name](f32(step / steps))));
    left = Math.max(1, Math.min(left - 1, wanted));
    counts.push(left);
  }
  left = masked;
  return [...counts.map((wanted) => (left = Math.max(1, Math.min(left - 1, wanted)))), 0];
}

/** Where a variation of this strength, 0 to 1, enters a schedule, and how many of `tokens` are masked then. */
export function lateStart(strength, tokens, steps, name) {
  const firstStep = steps - Math.max(1, Math.trunc(steps * strength));
  return { firstStep, masked: firstStep ? maskSchedule(tokens, steps, name, firstStep - 1)[0] : tokens };
}

/** The mask temperature of each step, from the first to the last. */
export function maskTemperatures([first, last], steps) {
  const change = (last - first) / (steps - 1);
  return Array.from({ length: steps }, (_, i) =>
    f32(i === steps - 1 && i > 0 ? last : (i && first + i * change) || first),
  );
}

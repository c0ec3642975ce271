// What the page's own modules make of the cases in a JSON file, as JSON; test_web_modules.py holds it to Python's.
import { readFileSync } from "node:fs";

const [, , folder, cases] = process.argv;
const load = (name) => import(`${folder}/drawing/${name}.js`);
const given = JSON.parse(readFileSync(cases));
const { Noise } = await load("noise");
const { Tokenizer } = await load("tokenizer");
const { plainSha256, sha256 } = await load("sha256");
const { lateStart, maskSchedule, maskTemperatures } = await load("schedule");
const { recipeTexts } = await load("recipe");
const { encodePng } = await load("png");

const tokenizer = new Tokenizer(JSON.parse(readFileSync(given.tokenizer)), given.text);
const noise = new Noise(readFileSync(`${folder}/drawing/noise.wasm`));
const bits = (floats) => Array.from(new Uint32Array(floats.slice().buffer));
const pixels = Uint8Array.from({ length: 3 * given.side ** 2 }, (_, i) => (i * 7919) % 251);
const file = await encodePng(
  pixels,
  given.side,
  recipeTexts(given.contents, given.job, Int32Array.from(given.job.tokens)),
);

console.log(
  JSON.stringify({
    ids: given.prompts.map((prompt) => Array.from(tokenizer.encode(prompt))),
    dropped: given.prompts.map((prompt) => tokenizer.dropped(prompt) !== ""),
    noise: given.noise.map(([seed, ...key]) => bits(noise.gumbel(BigInt(seed), ...key))),
    rows: bits(noise.tokens(...given.rows.key, given.rows.needed, given.rows.codes)),
    schedules: given.schedules.map((schedule) => maskSchedule(...schedule)),
    starts: given.starts.map((start) => lateStart(...start)),
    temperatures: given.temperatures.map((steps) => maskTemperatures([2, 0], steps)),
    digests: await Promise.all(
      given.texts.map(async (text) => {
        const bytes = new TextEncoder().encode(text);
        return [plainSha256(bytes), await sha256(bytes)];
      }),
    ),
    png: Buffer.from(await file.arrayBuffer()).toString("base64"),
  }),
);

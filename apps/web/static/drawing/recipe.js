// What a picture's file remembers, as amused_lite/files/png.py writes and reads it.

/** bool (N) or numbers -> base64 of their bits, the most significant first. */
function packBits(values, bits) {
  const bytes = new Uint8Array(Math.ceil((values.length * bits) / 8));
  values.forEach((value, i) => {
    for (let bit = 0; bit < bits; bit++) {
      const place = i * bits + bit;
      if ((value >> (bits - 1 - bit)) & 1) bytes[place >> 3] |= 0x80 >> (place & 7);
    }
  });
  return btoa(String.fromCharCode(...bytes));
}

/** Marked cells (N) as an edit's record has them. */
export const packCells = (cells) => packBits(Array.from(cells, Number), 1);

function packTokens(tokens, codebookSize) {
  const bits = Math.max(1, Math.ceil(Math.log2(codebookSize)));
  return `${tokens.length}:${packBits(Array.from(tokens), bits)}`;
}

/**
 * The texts of a picture's PNG file: [keyword, text, whether it is always UTF-8].
 * @param {object} contents model.json
 * @param {import("./sampling.js").Job} job
 * @param {Int32Array} tokens the picture's
 */
export function recipeTexts(contents, { prompt, settings, picture, edit }, tokens) {
  const codes = contents.config.uvit.codebook_size;
  const side = contents.image_size;
  const recipe = {
    schema: contents.recipe_schema,
    prompt,
    negative_prompt: "",
    picture,
    ...settings,
    width: side,
    height: side,
    model: contents.name,
    model_hash: contents.model_hash,
    runtime: contents.runtime,
    codebook_size: codes,
    tokens: packTokens(tokens, codes),
    edit: edit ? { operation: edit.operation, settings: edit.settings, tokens: packTokens(edit.tokens, codes) } : null,
    adapters: [],
    version: contents.version,
  };
  const line = {
    Steps: settings.steps,
    Sampler: "amused",
    "CFG scale": settings.guidance_scale,
    Seed: settings.seed,
    Size: `${side}x${side}`,
    "Model hash": contents.model_hash.slice(0, 10),
    Model: contents.name,
    Version: `amused-lite ${contents.version}`,
  };
  const parameters = Object.entries(line).map(([name, value]) => `${name}: ${value}`);
  return [
    ["parameters", `${prompt}\n${parameters.join(", ")}`, false],
    ["amused_lite", JSON.stringify(recipe), true],
    ["XML:com.adobe.xmp", contents.xmp[edit?.operation === "inpaint" ? "composite" : "trained"], true],
  ];
}

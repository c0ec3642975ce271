// The bundle's graphs on ONNX Runtime Web. Sizes come from model.json; nothing here knows a model.

import * as ort from "../onnxruntime/ort.wasm.bundle.min.js";
import { Noise } from "./noise.js";
import { Tokenizer } from "./tokenizer.js";

const MODULES = ["encode_prompt", "unmask", "decode_image"];
const WEIGHTS = /\.safetensors$/;
const ERRORS_ONLY = 3;

const floats = (data, dims = [data.length]) => new ort.Tensor("float32", Float32Array.from(data), dims);
const integers = (data, dims = [data.length]) => new ort.Tensor("int32", Int32Array.from(data), dims);

/** Two tensors of one row each as one of two. */
function pair(first, second) {
  const data = new Float32Array(2 * first.data.length);
  data.set(first.data);
  data.set(second.data, first.data.length);
  return new ort.Tensor("float32", data, [2, ...first.dims.slice(1)]);
}

export class Model {
  /**
   * @param {object} contents model.json
   * @param {Object<string, Uint8Array>} files by name, from `download`
   */
  static async open(contents, files, threads) {
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmBinary = files["onnxruntime.wasm"];
    ort.env.logLevel = "error";
    const model = new Model();
    const text = new TextDecoder();
    const { uvit, text: encoder } = contents.config;
    Object.assign(model, {
      contents,
      uvit,
      codes: uvit.codebook_size,
      count: uvit.grid ** 2,
      mask: contents.mask_token_id,
    });
    model.noise = new Noise(files["noise.wasm"]);
    model.tokenizer = new Tokenizer(JSON.parse(text.decode(files["tokenizer.json"])), encoder);
    model.colours = files["colours.rgb"];
    model.sessions = {};
    const externalData = Object.entries(files)
      .filter(([name]) => WEIGHTS.test(name))
      .map(([path, data]) => ({ path, data }));
    for (const name of MODULES) {
      model.sessions[name] = await ort.InferenceSession.create(files[`${name}.onnx`], {
        executionProviders: ["wasm"],
        externalData,
        logSeverityLevel: ERRORS_ONLY,
      });
    }
    return model;
  }

  /** Everything the steps need of a prompt, beside the same of the empty one; both are remembered. */
  async condition(prompt) {
    if (this.prompted?.prompt !== prompt) {
      this.empty ??= await this.encode("");
      const row = await this.encode(prompt);
      const names = Object.keys(row);
      const both = Object.fromEntries(names.map((name) => [name, pair(this.empty[name], row[name])]));
      this.prompted = { prompt, row, both };
    }
    return this.prompted;
  }

  async encode(prompt) {
    const ids = this.tokenizer.encode(prompt);
    return this.sessions.encode_prompt.run({
      text_ids: integers(ids, [1, ids.length]),
      micro_conditioning: floats(this.contents.settings.micro_conditioning, [1, 5]),
    });
  }

  /** One step: tokens (N) -> {tokens, guess}, both Int32Array (N); guess is every token as drawn. */
  async unmask(tokens, { row, both }, { scale, temperature, maskTemperature, masked }, { tokenNoise, orderNoise }) {
    const noise = { token_noise: new ort.Tensor("float32", tokenNoise, [1, this.count, this.codes]) };
    const result = await this.sessions.unmask.run(
      {
        tokens: integers(tokens, [1, this.count]),
        ...(scale === 1 ? row : both),
        guidance_scale: floats([scale]),
        token_temperature: floats([temperature]),
        mask_temperature: floats([maskTemperature]),
        num_masked: integers([masked]),
        ...noise,
        order_noise: floats(orderNoise, [1, this.count]),
      },
      ["next_tokens", "guess"],
    );
    return { tokens: result.next_tokens.data, guess: result.guess.data };
  }

  /** Tokens (N) without masks -> RGB bytes, row by row. */
  async decode(tokens) {
    const { image } = await this.sessions.decode_image.run({ tokens: integers(tokens, [1, this.count]) });
    const plane = image.data.length / 3;
    const rgb = new Uint8ClampedArray(3 * plane); // which rounds as NumPy does
    for (let channel = 0; channel < 3; channel++) {
      for (let i = 0; i < plane; i++) rgb[3 * i + channel] = image.data[channel * plane + i] * 255;
    }
    return rgb;
  }

  /** Tokens (N) -> RGBA bytes of a picture with a pixel for each, its mean colour. */
  preview(tokens) {
    const rgba = new Uint8ClampedArray(4 * tokens.length).fill(255);
    tokens.forEach((token, i) => rgba.set(this.colours.subarray(3 * token, 3 * token + 3), 4 * i));
    return rgba;
  }
}

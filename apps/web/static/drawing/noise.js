// The only randomness of sampling; see amused_lite/sampling/noise.py. noise.wat holds the arithmetic.

export const TOKEN_STREAM = 0;
export const ORDER_STREAM = 1;
export const MASK_STREAM = 2;

const WORDS = 8; // numbers that one count of the generator gives
const FLOAT = 4; // bytes
const PAGE = 65536;

/** Standard Gumbel noise, keyed by seed, picture, step and stream. */
export class Noise {
  /** @param {BufferSource} kernel the bytes of noise.wasm */
  constructor(kernel) {
    const { gumbel, memory } = new WebAssembly.Instance(new WebAssembly.Module(kernel)).exports;
    Object.assign(this, { fill: gumbel, memory });
  }

  /**
   * `count` numbers from number `first` on, which is a multiple of 8. The result is overwritten by the next call.
   * @param {bigint|number} seed 0 to 2**64 - 1
   * @param {number} picture from 0
   * @param {number} step from 0
   */
  gumbel(seed, picture, step, stream, count, first = 0, offset = 0) {
    const missing = (offset + count + WORDS) * FLOAT - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE));
    const key = (BigInt(picture) << 32n) | (BigInt(step) << 1n) | BigInt(stream & 1);
    const top = BigInt(stream >> 1);
    this.fill(BigInt(seed), key, BigInt(first / WORDS), top, offset * FLOAT, Math.ceil(count / WORDS));
    return new Float32Array(this.memory.buffer, offset * FLOAT, count);
  }

  /** (N * K) noise of a step's tokens; the rows of tokens that are not `needed` hold anything. */
  tokens(seed, picture, step, needed, codebookSize) {
    if (codebookSize % WORDS) return this.gumbel(seed, picture, step, TOKEN_STREAM, needed.length * codebookSize);
    let first = 0;
    while (first < needed.length) {
      let end = first;
      while (end < needed.length && needed[end]) end++;
      const start = first * codebookSize;
      if (end > first) this.gumbel(seed, picture, step, TOKEN_STREAM, (end - first) * codebookSize, start, start);
      first = end + 1;
    }
    return new Float32Array(this.memory.buffer, 0, needed.length * codebookSize);
  }
}

// Prompts to text ids: CLIP's lower-cased byte-level BPE (Radford et al. 2021), as amused_lite/tokenizer.py has it.

const SPECIAL = /<\|startoftext\|>|<\|endoftext\|>/;
const SPACES = /\p{White_Space}+/gu; // JavaScript's \s is another set
const VISIBLE = "[^\\p{White_Space}\\p{L}\\p{N}]";
// The published pattern, and the one of byte-level BPE that runs on each of its words.
const WORDS = new RegExp(`${SPECIAL.source}|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|${VISIBLE}+`, "gu");
const PARTS = new RegExp(`'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}+|${VISIBLE}+`, "gu");
const WORD_END = "</w>";

/** The letter that stands for each byte: itself where it can be seen, else one from U+0100 on. */
function byteLetters() {
  const seen = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(seen(byte) ? byte : next++));
}

const LETTERS = byteLetters();
const utf8 = new TextEncoder();

/** Lower case letter by letter: a whole word's would end a Greek one with another sigma. */
function normalized(text) {
  return Array.from(text.normalize("NFC").replace(SPACES, " "), (letter) => letter.toLowerCase()).join("");
}

export class Tokenizer {
  /**
   * @param {object} file a parsed tokenizer.json
   * @param {{context_length: number, start_token_id: number, end_token_id: number}} text of the model's config
   */
  constructor(file, { context_length: length, start_token_id: start, end_token_id: end }) {
    Object.assign(this, { length, start, end, vocab: new Map(Object.entries(file.model.vocab)), words: new Map() });
    const pairs = file.model.merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : pair));
    this.ranks = new Map(pairs.map((pair, rank) => [pair, rank]));
  }

  /** A prompt as (T) ids: start, the words, end, and end again as padding. */
  encode(text) {
    const ids = this.pieces(text)
      .flatMap((piece) => piece.ids)
      .slice(0, this.length - 2);
    const row = new Int32Array(this.length).fill(this.end);
    row.set([this.start, ...ids]);
    return row;
  }

  /** The end of a prompt that does not fit, usually empty. */
  dropped(text) {
    let room = this.length - 2;
    const pieces = this.pieces(text);
    const first = pieces.findIndex((piece) => (room -= piece.ids.length) < 0);
    return first < 0
      ? ""
      : pieces
          .slice(first)
          .map((piece) => piece.word)
          .join(" ");
  }

  pieces(text) {
    const found = [];
    for (const part of text.split(new RegExp(`(${SPECIAL.source})`))) {
      if (SPECIAL.test(part)) found.push({ word: part, ids: [part.includes("start") ? this.start : this.end] });
      else {
        const words = (normalized(part).match(WORDS) ?? []).flatMap((word) => word.match(PARTS));
        found.push(...words.map((word) => ({ word, ids: this.word(word) })));
      }
    }
    return found;
  }

  /** The ids of one word, remembered. */
  word(word) {
    if (!this.words.has(word))
      this.words.set(
        word,
        this.merged(word).map((piece) => this.vocab.get(piece) ?? this.end),
      );
    return this.words.get(word);
  }

  merged(word) {
    const pieces = Array.from(utf8.encode(word), (byte) => LETTERS[byte]);
    pieces.push(pieces.pop() + WORD_END);
    for (;;) {
      let best = -1;
      let rank = Infinity;
      for (let i = 0; i + 1 < pieces.length; i++) {
        const found = this.ranks.get(`${pieces[i]} ${pieces[i + 1]}`);
        if (found < rank) [best, rank] = [i, found];
      }
      if (best < 0) return pieces;
      pieces.splice(best, 2, pieces[best] + pieces[best + 1]);
    }
  }
}

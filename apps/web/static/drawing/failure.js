// What went wrong, in one sentence that a person can act on.

export class Failure extends Error {
  /** @param {string} sentence what happened and what to do */
  constructor(sentence, cause) {
    super(sentence, { cause });
    this.name = "Failure";
  }
}

/** The sentence for any error; the browser's own words are kept where nothing better is known. */
export function sentence(error) {
  if (error instanceof Failure) return error.message;
  const words = String(error?.message ?? error);
  if (error instanceof RangeError || /memory|allocation/i.test(words)) {
    return "There is not enough memory; close other tabs and reload this page.";
  }
  return `Something went wrong (${words.slice(0, 120)}); reload this page.`;
}

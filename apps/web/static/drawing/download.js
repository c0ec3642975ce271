// The model's files: from the browser's cache or the network, and never used before size and hash were compared.

import { Failure } from "./failure.js";
import { sha256 } from "./sha256.js";

const CACHE = "amused-lite-model";

/** The cache, or null where the browser has none (pages without https). */
async function openCache() {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return null; // switched off, as in some private windows
  }
}

/** What the page knows of its model. */
export async function fetchContents(base) {
  try {
    return await (await fetch(new URL("model.json", base))).json();
  } catch (error) {
    throw new Failure("The page could not be read whole; check the connection and reload it.", error);
  }
}

/**
 * Everything that model.json lists, as {name: Uint8Array}. What has arrived whole is kept, so that another try goes on.
 * @param {object} contents model.json
 * @param {URL} base where it lies
 * @param {(done: number, total: number) => void} report bytes so far
 * @param {(sentence: string) => void} warn
 */
export async function download(contents, base, report, warn) {
  const cache = await openCache();
  const total = contents.files.reduce((sum, file) => sum + file.size, 0);
  const found = Object.fromEntries(
    Object.entries(contents.lengths).map(([name, size]) => [name, new Uint8Array(size)]),
  );
  let before = 0;
  let room = true;
  for (const file of contents.files) {
    const url = new URL(file.path, base).href;
    let bytes = await kept(cache, url, file);
    if (!bytes) {
      bytes = await fetched(url, file, (done) => report(before + done, total));
      room = room && (await keep(cache, url, bytes));
    }
    report((before += file.size), total);
    const plain = file.gzip ? await unzipped(bytes) : bytes;
    if (file.name in contents.lengths) found[file.name].set(plain, file.offset);
    else found[file.name] = plain;
  }
  if (!room) warn("There is no room left to keep the model, so it will be downloaded again next time.");
  await forget(cache, contents, base);
  return found;
}

async function kept(cache, url, file) {
  const answer = await cache?.match(url);
  if (!answer) return null;
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes.length === file.size && (await sha256(bytes)) === file.sha256) return bytes;
  await cache.delete(url);
  return null;
}

async function fetched(url, file, report) {
  const bytes = new Uint8Array(file.size);
  let length = 0;
  try {
    const answer = await fetch(url);
    if (!answer.ok) {
      throw new Failure(
        `A file of the model is missing on the server (${answer.status}); copy the whole folder there.`,
      );
    }
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (length + value.length <= file.size) bytes.set(value, length);
      report(Math.min((length += value.length), file.size));
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("The model could not be downloaded; check the connection and try again.", error);
  }
  if (length < file.size) throw new Failure("The download of the model was cut short; try again.");
  if (length > file.size || (await sha256(bytes)) !== file.sha256) {
    throw new Failure("The model arrived damaged and is not used; try again, or copy the folder to the server anew.");
  }
  return bytes;
}

/** Whether there was room for it, or is no cache at all. */
async function keep(cache, url, bytes) {
  try {
    await cache?.put(url, new Response(bytes, { headers: { "Content-Length": bytes.length } }));
    return true;
  } catch {
    return false; // storage is full
  }
}

async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Drop files of an earlier model. */
async function forget(cache, contents, base) {
  const wanted = new Set(contents.files.map((file) => new URL(file.path, base).href));
  for (const request of (await cache?.keys()) ?? []) if (!wanted.has(request.url)) await cache.delete(request);
}

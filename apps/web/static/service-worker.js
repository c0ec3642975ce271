// Offline after the first visit. `amused-lite web` writes BUILD and SHELL above this: the page's own files and their
// state. The model's parts have a cache of their own, see drawing/download.js.

/* global BUILD, SHELL */
const PREFIX = "amused-lite-page-";
const CACHE = PREFIX + BUILD;
// A page with these may use several processor cores (cross-origin isolation), whatever its host sends.
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

function isolated(answer) {
  if (answer.type === "opaque" || answer.status === 0) return answer;
  const headers = new Headers(answer.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

async function filled() {
  const cache = await caches.open(CACHE);
  await cache.addAll(SHELL.map((path) => new Request(path, { cache: "no-cache" })));
}

async function cleared() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answered(request) {
  const kept = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
  return isolated(kept ?? (await fetch(request)));
}

addEventListener("install", (event) => event.waitUntil(filled()));
addEventListener("activate", (event) => event.waitUntil(cleared()));
addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) {
    event.respondWith(answered(request));
  }
});

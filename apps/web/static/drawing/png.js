// PNG files of 8-bit RGB with texts (W3C PNG, third edition). A canvas would add colour management, and some browsers
// noise to it.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const RGB = 2;
const UP = 2; // the filter that keeps differences from the row above
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});
const utf8 = new TextEncoder();

function chunk(kind, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(utf8.encode(kind), 4);
  bytes.set(data, 8);
  let crc = -1;
  for (let i = 4; i < data.length + 8; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(data.length + 8, ~crc);
  return bytes;
}

/** tEXt where Latin-1 holds it, else iTXt, which is UTF-8. */
function textChunk([keyword, text, always]) {
  if (!always && /^[\x00-\xff]*$/.test(text)) {
    return chunk(
      "tEXt",
      Uint8Array.from(`${keyword}\0${text}`, (letter) => letter.charCodeAt(0)),
    );
  }
  return chunk("iTXt", utf8.encode(`${keyword}\0\0\0\0\0${text}`));
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A square picture's file. `rgb` row by row, `texts` from `recipeTexts`. */
export async function encodePng(rgb, side, texts) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, side);
  view.setUint32(4, side);
  header.set([8, RGB], 8);
  const row = 3 * side;
  const rows = new Uint8Array(side * (row + 1));
  for (let y = 0; y < side; y++) {
    const at = y * (row + 1);
    rows[at] = UP;
    for (let x = 0; x < row; x++) rows[at + 1 + x] = rgb[y * row + x] - (y ? rgb[(y - 1) * row + x] : 0);
  }
  const pixels = chunk("IDAT", await deflated(rows));
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), ...texts.map(textChunk), pixels, chunk("IEND", [])];
  return new Blob(parts, { type: "image/png" });
}

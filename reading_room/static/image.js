// An image as the server sends it, and as the viewer keeps it. Knows nothing of the page.
//
// The message: "CXF1", uint32 length of the JSON head, the head (padded to a multiple of 8), the
// display table (65536 bytes), the codes (uint8 or uint16, little endian), and where the image has
// hidden pixels (outside the shutter, padding) a bit for each, lowest bit first.

const MAGIC = "CXF1";
export const CODES = 65536;

/** Parse a message of `reading_room.image_panel`. */
export function readImage(buffer) {
  const start = new Uint8Array(buffer, 0, 8);
  if (String.fromCharCode(...start.subarray(0, 4)) !== MAGIC) throw new Error("not an image");
  const length = new DataView(buffer).getUint32(4, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const [rows, columns] = head.stored; // fewer than height and width in a preview
  const count = rows * columns;
  let at = 8 + length;
  const table = new Uint8Array(buffer, at, CODES);
  at += CODES;
  const Codes = head.bytes === 1 ? Uint8Array : Uint16Array;
  const codes = new Codes(buffer, at, count);
  at += count * head.bytes;
  const hidden = head.hidden ? unpackBits(new Uint8Array(buffer, at), count) : null;
  return { ...head, table, codes, hidden };
}

/** Bits, lowest first, to one byte each. */
export function unpackBits(packed, count) {
  const bits = new Uint8Array(count);
  for (let i = 0; i < count; i++) bits[i] = (packed[i >> 3] >> (i & 7)) & 1;
  return bits;
}

/**
 * Half-size levels of an image, until one is smaller than 64 pixels: what is seen from afar. A preview
 * stands for the levels that it lacks.
 */
export function pyramid(image) {
  const [height, width] = image.stored;
  const first = { width, height, codes: image.codes, hidden: image.hidden };
  const levels = new Array(1 + Math.round(Math.log2(image.width / width))).fill(first);
  while (Math.min(levels.at(-1).width, levels.at(-1).height) >= 64) {
    levels.push(halved(levels.at(-1)));
  }
  return levels;
}

/** Means of two by two pixels. Hidden ones do not count; where all are hidden, the mean is too. */
export function halved({ width, height, codes, hidden }) {
  const w = width >> 1;
  const h = height >> 1;
  const out = new Uint16Array(w * h);
  const mask = hidden && new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    let at = 2 * y * width;
    for (let x = 0, to = y * w; x < w; x++, to++, at += 2) {
      if (hidden) {
        out[to] = shown([at, at + 1, at + width, at + width + 1], codes, hidden);
        mask[to] = hidden[at] & hidden[at + 1] & hidden[at + width] & hidden[at + width + 1];
      } else {
        out[to] = (codes[at] + codes[at + 1] + codes[at + width] + codes[at + width + 1] + 2) >> 2;
      }
    }
  }
  return { width: w, height: h, codes: out, hidden: mask };
}

function shown(places, codes, hidden) {
  const seen = places.filter((place) => !hidden[place]);
  if (!seen.length) return 0;
  return Math.round(seen.reduce((sum, place) => sum + codes[place], 0) / seen.length);
}

// Reads an image as the server sends it, and builds its resolution pyramid. Knows nothing of the page.
//
// The format: "CXF1", uint32 length of the JSON header, the header (padded to a multiple of 8), the
// display table (65536 bytes), the codes (uint8 or uint16, little endian), and, if the image has hidden
// pixels (outside the shutter, or padding), one bit for each pixel, lowest bit first.

const MAGIC = "CXF1";
export const CODES = 65536;

/** Parse what `reading_room.image_panel` encoded. */
export function readImage(buffer) {
  const start = new Uint8Array(buffer, 0, 8);
  if (String.fromCharCode(...start.subarray(0, 4)) !== MAGIC) throw new Error("not an image");
  const length = new DataView(buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const [rows, columns] = header.stored; // fewer than height and width in a preview
  const count = rows * columns;
  let offset = 8 + length;
  const table = new Uint8Array(buffer, offset, CODES);
  offset += CODES;
  const Codes = header.bytes === 1 ? Uint8Array : Uint16Array;
  const codes = new Codes(buffer, offset, count);
  offset += count * header.bytes;
  const hidden = header.hidden ? unpackBits(new Uint8Array(buffer, offset), count) : null;
  return { ...header, table, codes, hidden };
}

/** Bits, lowest first, to one byte each. */
function unpackBits(packed, count) {
  const bits = new Uint8Array(count);
  for (let i = 0; i < count; i++) bits[i] = (packed[i >> 3] >> (i & 7)) & 1;
  return bits;
}

/** Levels of an image, each half the size of the one before, to below 64 pixels. A preview also
 * stands in for the larger levels that it lacks. */
export function pyramid(image) {
  const [height, width] = image.stored;
  const first = { width, height, codes: image.codes, hidden: image.hidden };
  const levels = new Array(1 + Math.round(Math.log2(image.width / width))).fill(first);
  while (Math.min(levels.at(-1).width, levels.at(-1).height) >= 64) {
    levels.push(halve(levels.at(-1)));
  }
  return levels;
}

/** Means of two by two pixels. Hidden pixels do not count; if all four are hidden, so is the mean. */
function halve({ width, height, codes, hidden }) {
  const w = width >> 1;
  const h = height >> 1;
  const out = new Uint16Array(w * h);
  const mask = hidden && new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    let i = 2 * y * width;
    for (let x = 0, to = y * w; x < w; x++, to++, i += 2) {
      if (hidden) {
        out[to] = meanOfVisible([i, i + 1, i + width, i + width + 1], codes, hidden);
        mask[to] = hidden[i] & hidden[i + 1] & hidden[i + width] & hidden[i + width + 1];
      } else {
        out[to] = (codes[i] + codes[i + 1] + codes[i + width] + codes[i + width + 1] + 2) >> 2;
      }
    }
  }
  return { width: w, height: h, codes: out, hidden: mask };
}

function meanOfVisible(indices, codes, hidden) {
  const visible = indices.filter((i) => !hidden[i]);
  if (!visible.length) return 0;
  return Math.round(visible.reduce((sum, i) => sum + codes[i], 0) / visible.length);
}

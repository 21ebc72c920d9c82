// Renders the visible part of an image: codes, through a viewport and a lookup table, to screen pixels.
//
// Plain loops over typed arrays: WebGL would be faster, but a hospital's remote desktops have no GPU.

import { inverse } from "./viewport.js";

export const BLACK = 0xff000000;

/** Little-endian RGBA of every grey of a table. */
export function colourTable(table) {
  const colours = new Uint32Array(table.length);
  for (let i = 0; i < table.length; i++) colours[i] = BLACK | (table[i] * 0x010101);
  return colours;
}

/** The coarsest level that still has a pixel for every screen pixel. */
export function pyramidLevel(scale, count) {
  return Math.min(Math.max(Math.floor(Math.log2(1 / scale)), 0), count - 1);
}

/**
 * Fill `pixels` (Uint32, width by height) with the image as seen in this viewport.
 * Between image pixels it is interpolated, in codes, so that the window acts on what was measured.
 */
export function render(pixels, screen, { levels, image: full }, viewport, colours) {
  const at = pyramidLevel(viewport.scale, levels.length);
  const level = levels[at];
  const [sx, sy] = [level.width / full.width, level.height / full.height];
  const [a, b, c, d, e, f] = inverse(viewport, screen);
  const steps = { du: a * sx, dv: d * sy };
  for (let row = 0; row < screen.height; row++) {
    const u = (a * 0.5 + b * (row + 0.5) + c) * sx - 0.5;
    const v = (d * 0.5 + e * (row + 0.5) + f) * sy - 0.5;
    const line = pixels.subarray(row * screen.width, (row + 1) * screen.width);
    renderRow(line, level, { u, v, ...steps }, colours);
  }
}

function renderRow(line, { width, height, codes, hidden }, { u, v, du, dv }, colours) {
  const right = width - 1;
  const bottom = height - 1;
  for (let i = 0; i < line.length; i++, u += du, v += dv) {
    if (u < -0.5 || v < -0.5 || u > right + 0.5 || v > bottom + 0.5) {
      line[i] = BLACK;
      continue;
    }
    const x = u < 0 ? 0 : u > right ? right : u;
    const y = v < 0 ? 0 : v > bottom ? bottom : v;
    const x0 = x | 0;
    const y0 = y | 0;
    const at = y0 * width + x0;
    if (hidden !== null && hidden[Math.round(y) * width + Math.round(x)]) {
      line[i] = BLACK;
      continue;
    }
    const east = x0 < right ? 1 : 0;
    const south = y0 < bottom ? width : 0;
    const fx = x - x0;
    const north = codes[at] + (codes[at + east] - codes[at]) * fx;
    const below = codes[at + south] + (codes[at + south + east] - codes[at + south]) * fx;
    line[i] = colours[(north + (below - north) * (y - y0) + 0.5) | 0];
  }
}

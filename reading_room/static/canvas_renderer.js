// Renders the visible part of an image: codes to screen pixels, by a viewport and a colour table.
//
// Plain loops over typed arrays: WebGL would be faster, but remote desktops in hospitals have no GPU.

import { screenToImageCoefficients } from "./viewport.js";

const BLACK = 0xff000000;

/** Little-endian RGBA for every grey value of a table. */
export function colourTable(table) {
  const colours = new Uint32Array(table.length);
  for (let i = 0; i < table.length; i++) colours[i] = BLACK | (table[i] * 0x010101);
  return colours;
}

/** Index of the coarsest level with at least one pixel per screen pixel. */
function pyramidLevel(scale, count) {
  return Math.min(Math.max(Math.floor(Math.log2(1 / scale)), 0), count - 1);
}

/**
 * Fill `pixels` (Uint32, width by height) with the image as seen in this viewport. Codes are
 * interpolated, not grey values, so that the window acts on what was measured.
 */
export function render(pixels, screen, { levels, image: full }, viewport, colours) {
  const level = levels[pyramidLevel(viewport.scale, levels.length)];
  const [sx, sy] = [level.width / full.width, level.height / full.height];
  const [a, b, c, d, e, f] = screenToImageCoefficients(viewport, screen);
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
    const topLeft = y0 * width + x0;
    if (hidden !== null && hidden[Math.round(y) * width + Math.round(x)]) {
      line[i] = BLACK;
      continue;
    }
    const toRight = x0 < right ? 1 : 0;
    const bottomLeft = topLeft + (y0 < bottom ? width : 0);
    const fx = x - x0;
    const above = codes[topLeft] + (codes[topLeft + toRight] - codes[topLeft]) * fx;
    const below = codes[bottomLeft] + (codes[bottomLeft + toRight] - codes[bottomLeft]) * fx;
    line[i] = colours[(above + (below - above) * (y - y0) + 0.5) | 0];
  }
}

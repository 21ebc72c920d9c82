// From codes to brightness: windows, presets, and what a drag does to a window. Pure functions.
//
// A window is {centre, width, shape}, in values of the modality LUT's output: code * slope +
// intercept. The formulas are those of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, as in
// encoders/images/exposure.py, and a test holds the two together.

import { CODES } from "./image.js";

/** Brightness in [0, 1] of one modality value. */
export function brightness(value, { centre, width, shape }) {
  if (shape === "SIGMOID") return 1 / (1 + Math.exp((-4 * (value - centre)) / width));
  const [c, w] = shape === "LINEAR" ? [centre - 0.5, width - 1] : [centre, width];
  if (w <= 0) return value <= c ? 0 : 1;
  return Math.min(Math.max((value - c) / w + 0.5, 0), 1);
}

/** Brightness 0 to 255 of every code. `negative` inverts the image's own polarity. */
export function windowTable(window, { slope, intercept, invert }, negative = false) {
  const table = new Uint8Array(CODES);
  const inverted = invert !== negative;
  for (let code = 0; code < CODES; code++) {
    const grey = brightness(code * slope + intercept, window);
    table[code] = Math.round(255 * (inverted ? 1 - grey : grey));
  }
  return table;
}

/** The file's own table, or its negative. */
export function storedTable(table, negative) {
  return negative ? table.map((grey) => 255 - grey) : table;
}

/** How often each code occurs among the pixels that are image; every `step`th is counted. */
export function histogram({ codes, hidden }, step = 1) {
  const counts = new Uint32Array(CODES);
  for (let i = 0; i < codes.length; i += step) if (!hidden?.[i]) counts[codes[i]]++;
  return counts;
}

/** The smallest code with at least `percent` % of the pixels at or below it. */
export function percentile(counts, percent) {
  const wanted = (counts.reduce((sum, count) => sum + count, 0) * percent) / 100;
  let seen = 0;
  for (let code = 0; code < counts.length; code++) {
    seen += counts[code];
    if (counts[code] && seen >= wanted) return code;
  }
  return 0;
}

/** Shares of the image, darkest first as it is shown, that each preset spreads over the grey scale. */
export const PRESETS = { whole: [0, 100], lungs: [1, 62], mediastinum: [38, 99.8] };

/** The window of a preset on this image; computed radiographs have no absolute units. */
export function presetWindow(name, counts, { slope, intercept, invert }) {
  const [dark, light] = PRESETS[name];
  const darkIsLow = invert === slope < 0;
  const [a, b] = darkIsLow ? [dark, light] : [100 - light, 100 - dark];
  const ends = [percentile(counts, a), percentile(counts, b)].map((c) => c * slope + intercept);
  const width = Math.max(Math.abs(ends[1] - ends[0]), Math.abs(slope));
  return { centre: (ends[0] + ends[1]) / 2, width, shape: "LINEAR_EXACT" };
}

/**
 * The window after a drag: to the right less contrast, up brighter, whatever the polarity.
 * `reach` is the drag in pixels that moves the centre by one whole width.
 */
export function dragged(window, dx, dy, { invert, negative = false, reach = 600, minWidth = 1 }) {
  const width = Math.max(window.width * Math.exp((2 * dx) / reach), minWidth);
  const up = invert === negative ? 1 : -1;
  return { ...window, width, centre: window.centre + (up * dy * window.width) / reach };
}

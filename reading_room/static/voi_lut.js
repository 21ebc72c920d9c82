// From stored codes to brightness: windows, presets, and dragging a window. Pure functions.
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

/** Brightness of every code, 0 to 255; `negative` inverts the image's own polarity. */
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

/** Count of each code among the visible pixels; only every `step`th pixel is counted. */
export function histogram({ codes, hidden }, step = 1) {
  const counts = new Uint32Array(CODES);
  for (let i = 0; i < codes.length; i += step) if (!hidden?.[i]) counts[codes[i]]++;
  return counts;
}

/** The smallest code with at least `percent` % of the pixels at or below it. */
function percentile(counts, percent) {
  const target = (counts.reduce((sum, count) => sum + count, 0) * percent) / 100;
  let total = 0;
  for (let code = 0; code < counts.length; code++) {
    total += counts[code];
    if (counts[code] && total >= target) return code;
  }
  return 0;
}

/** Percentiles of brightness that each preset spreads over the grey scale. */
const PRESETS = { whole: [0, 100], lungs: [1, 62], mediastinum: [38, 99.8] };

/** The window of a preset, from the image's histogram: radiographs have no absolute units. */
export function presetWindow(name, counts, { slope, intercept, invert }) {
  const [dark, bright] = PRESETS[name];
  const darkIsLow = invert === slope < 0;
  const percents = darkIsLow ? [dark, bright] : [100 - bright, 100 - dark];
  const [a, b] = percents.map((percent) => percentile(counts, percent) * slope + intercept);
  const width = Math.max(Math.abs(b - a), Math.abs(slope));
  return { centre: (a + b) / 2, width, shape: "LINEAR_EXACT" };
}

/**
 * The window after a drag: right for less contrast, up for brighter, whatever the polarity.
 * A drag of `pixelsPerWidth` pixels moves the centre by one window width.
 */
export function dragWindow(window, dx, dy, { invert, negative = false, pixelsPerWidth = 600, minWidth = 1 }) {
  const width = Math.max(window.width * Math.exp((2 * dx) / pixelsPerWidth), minWidth);
  const up = invert === negative ? 1 : -1;
  return { ...window, width, centre: window.centre + (up * dy * window.width) / pixelsPerWidth };
}

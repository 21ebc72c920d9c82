// Parses a table of fixations (CSV) to [x, y, seconds], in fractions of the image. Pure.
//
// Columns are found by name: those of EGD-CXR and REFLACX, or plain x, y, duration. Coordinates are
// taken as fractions if all of them can be, else as pixels of the stored image.

const X = ["x", "x_original", "x_position", "fpogx"];
const Y = ["y", "y_original", "y_position", "fpogy"];
const SECONDS = ["duration", "seconds", "fpogd"];
const [START, END] = ["timestamp_start_fixation", "timestamp_end_fixation"];
const IMAGE = ["dicom_id", "image_id", "image"];
const MAX_SECONDS = 60; // of a fixation; larger values are milliseconds

/** The fixations; null if it is not a table of fixations, or covers several images. */
export function parseGaze(text, { width, height }) {
  const rows = text.split(/\r?\n/).filter((line) => line.trim()).map(cells);
  const names = (rows.shift() ?? []).map((name) => name.toLowerCase());
  const column = (candidates) => names.indexOf(candidates.find((name) => names.includes(name)));
  const [x, y, image] = [column(X), column(Y), column(IMAGE)];
  const seconds = secondsReader(names, column(SECONDS));
  if (x < 0 || y < 0 || !seconds || !rows.length) return null;
  if (image >= 0 && new Set(rows.map((row) => row[image])).size > 1) return null;
  const points = rows
    .map((row) => [Number(row[x] || NaN), Number(row[y] || NaN), seconds(row)])
    .filter((point) => point.every(Number.isFinite) && point[2] > 0);
  if (!points.length) return null;
  const fractions = points.every(([a, b]) => Math.max(Math.abs(a), Math.abs(b)) <= 1.5);
  const [w, h] = fractions ? [1, 1] : [width, height];
  const unit = Math.max(...points.map((point) => point[2])) > MAX_SECONDS ? 1000 : 1;
  return points.map(([a, b, s]) => [a / w, b / h, s / unit]);
}

/** A function from a row to its duration; null without such columns. */
function secondsReader(names, column) {
  if (column >= 0) return (row) => Number(row[column] || NaN);
  const [start, end] = [names.indexOf(START), names.indexOf(END)];
  if (start < 0 || end < 0) return null;
  return (row) => Number(row[end]) - Number(row[start]);
}

function cells(line) {
  return line.split(/[,;\t]/).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
}

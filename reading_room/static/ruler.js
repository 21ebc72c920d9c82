// Lengths on an image: in millimetres where the header allows it, else in image pixels.

/** {value, unit}; `spacing` is [row, column] distance of two pixel centres in mm, or null. */
export function lengthOf({ from, to }, spacing) {
  const [row, column] = spacing ?? [1, 1];
  const value = Math.hypot((to.x - from.x) * column, (to.y - from.y) * row);
  return { value, unit: spacing ? "mm" : "px" };
}

/** As it stands beside the line: "123 mm", "1.4 mm", "512 px". */
export function lengthText(line, spacing) {
  const { value, unit } = lengthOf(line, spacing);
  return `${value < 10 && unit === "mm" ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** Shorter over longer of two lines, as for heart and chest; null unless there are two. */
export function ratioText(lines, spacing) {
  if (lines.length !== 2) return null;
  const [a, b] = lines.map((line) => lengthOf(line, spacing).value);
  return Math.max(a, b) > 0 ? (Math.min(a, b) / Math.max(a, b)).toFixed(2) : null;
}

/** A scale bar of a round length, at most `most` screen pixels: {length, pixels}; null without mm. */
export function scaleBar(spacing, scale, most) {
  if (!spacing) return null;
  const pixelsPerMm = scale / spacing[1];
  const length = [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm * pixelsPerMm <= most);
  return length ? { length, pixels: length * pixelsPerMm } : null;
}

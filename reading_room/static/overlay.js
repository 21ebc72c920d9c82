// What is drawn over an image: the reader's regions, contours of findings, measured lines.
//
// Lengths are in millimetres where the header allows it, else in image pixels.

import { toScreen } from "./viewport.js";

const SVG = "http://www.w3.org/2000/svg";

/** SVG elements for `regions`; `name` keeps the gradients of several panes apart. */
export function regionElements(regions, { image, viewport, screen, name }) {
  const all = regions.pending ? [...regions.boxes, regions.pending] : regions.boxes;
  const edges = all.map((box) => svg("rect", { class: "region", ...onScreen(box, image, viewport, screen) }));
  if (!regions.shown) return edges;
  const clip = svg("clipPath", { id: `${name}-image` }); // no heat beside the image
  clip.append(svg("rect", onScreen([0, 0, 1, 1], image, viewport, screen)));
  const heat = regions.heatEllipses(image).map((each) => ellipse(each, viewport, screen, name));
  return [clip, gradient(name), ...heat, ...edges];
}

/** Contours of findings; their `edges` are counted in `side` parts of the image's sides. */
export function findingElements(findings, { image, viewport, screen }) {
  return findings.map(({ side, edges }) => {
    const place = (x, y) => {
      const at = toScreen(viewport, screen, { x: (x / side) * image.width, y: (y / side) * image.height });
      return `${at.x} ${at.y}`;
    };
    const lines = edges.map(([x1, y1, x2, y2]) => `M${place(x1, y1)}L${place(x2, y2)}`);
    return svg("path", { class: "finding", d: lines.join("") });
  });
}

function gradient(name) {
  const fade = svg("radialGradient", { id: name });
  for (const [offset, opacity] of [[0, 0.42], [0.25, 0.36], [0.5, 0.23], [0.75, 0.11], [1, 0]]) {
    fade.append(svg("stop", { offset, "stop-color": "#ff9a3c", "stop-opacity": opacity }));
  }
  return fade;
}

function ellipse({ x, y, across, down, strength }, viewport, screen, name) {
  const middle = toScreen(viewport, screen, { x, y });
  const [rx, ry] = viewport.turn % 2 ? [down, across] : [across, down];
  return svg("ellipse", {
    class: "heat", cx: middle.x, cy: middle.y, rx: rx * viewport.scale, ry: ry * viewport.scale,
    fill: `url(#${name})`, "clip-path": `url(#${name}-image)`, opacity: strength,
  });
}

/** A box of fractions as a rectangle on the screen. */
function onScreen([x, y, w, h], { width, height }, viewport, screen) {
  const a = toScreen(viewport, screen, { x: x * width, y: y * height });
  const b = toScreen(viewport, screen, { x: (x + w) * width, y: (y + h) * height });
  return {
    x: Math.min(a.x, b.x), y: Math.min(a.y, b.y),
    width: Math.abs(b.x - a.x), height: Math.abs(b.y - a.y),
  };
}

/** A measured line with its length. */
export function lineElements({ from, to }, words, { viewport, screen }) {
  const [a, b] = [from, to].map((point) => toScreen(viewport, screen, point));
  const size = 14 * devicePixelRatio;
  const text = svg("text", { x: b.x + size / 2, y: b.y - size / 2, "font-size": size });
  text.textContent = words;
  return [svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y }), text];
}

/** {value, unit}; `spacing` is [row, column] distance of two pixel centres in mm, or null. */
function lengthOf({ from, to }, spacing) {
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
export function scaleBar(spacing, { scale, turn }, most) {
  if (!spacing) return null;
  const pixelsPerMm = scale / spacing[turn % 2 ? 0 : 1]; // turned, rows of the image run across
  const length = [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm * pixelsPerMm <= most);
  return length ? { length, pixels: length * pixelsPerMm } : null;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

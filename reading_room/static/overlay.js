// The overlay of an image: the reader's regions, contours of findings, measured lines.
//
// Lengths are in millimetres if the header has a pixel spacing, else in image pixels.

import { toScreen } from "./viewport.js";

const SVG = "http://www.w3.org/2000/svg";

/** SVG elements of the regions; `name` is unique to the pane, for the ids. */
export function regionElements(regions, { image, viewport, screen, name }) {
  const boxes = regions.pending ? [...regions.boxes, regions.pending] : regions.boxes;
  const edges = boxes.map((box) => svg("rect", { class: "region", ...screenRect(box, image, viewport, screen) }));
  if (!regions.shown) return edges;
  const clip = svg("clipPath", { id: `${name}-image` }); // no heat outside the image
  clip.append(svg("rect", screenRect([0, 0, 1, 1], image, viewport, screen)));
  const ellipses = regions.heatEllipses(image).map((heat) => ellipse(heat, viewport, screen, name));
  return [clip, gradient(name), ...ellipses, ...edges];
}

/** SVG contours of findings; their `edges` are on a grid of `side` by `side` cells over the image. */
export function findingElements(findings, { image, viewport, screen }) {
  return findings.map(({ side, edges }) => {
    const point = (column, row) => {
      const onImage = { x: (column / side) * image.width, y: (row / side) * image.height };
      const { x, y } = toScreen(viewport, screen, onImage);
      return `${x} ${y}`;
    };
    const lines = edges.map(([x1, y1, x2, y2]) => `M${point(x1, y1)}L${point(x2, y2)}`);
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
  const centre = toScreen(viewport, screen, { x, y });
  const [rx, ry] = viewport.turn % 2 ? [down, across] : [across, down];
  return svg("ellipse", {
    class: "heat", cx: centre.x, cy: centre.y, rx: rx * viewport.scale, ry: ry * viewport.scale,
    fill: `url(#${name})`, "clip-path": `url(#${name}-image)`, opacity: strength,
  });
}

/** A box in fractions of the image as a rectangle on the screen. */
function screenRect([x, y, w, h], { width, height }, viewport, screen) {
  const a = toScreen(viewport, screen, { x: x * width, y: y * height });
  const b = toScreen(viewport, screen, { x: (x + w) * width, y: (y + h) * height });
  return {
    x: Math.min(a.x, b.x), y: Math.min(a.y, b.y),
    width: Math.abs(b.x - a.x), height: Math.abs(b.y - a.y),
  };
}

/** SVG elements of a measured line, with its length as text. */
export function lineElements({ from, to }, label, { viewport, screen }) {
  const [a, b] = [from, to].map((point) => toScreen(viewport, screen, point));
  const size = 14 * devicePixelRatio;
  const text = svg("text", { x: b.x + size / 2, y: b.y - size / 2, "font-size": size });
  text.textContent = label;
  return [svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y }), text];
}

/** {value, unit}; `spacing` is the [row, column] pixel spacing in mm, or null. */
function lengthOf({ from, to }, spacing) {
  const [row, column] = spacing ?? [1, 1];
  const value = Math.hypot((to.x - from.x) * column, (to.y - from.y) * row);
  return { value, unit: spacing ? "mm" : "px" };
}

/** The text beside a line: "123 mm", "1.4 mm", "512 px". */
export function lengthText(line, spacing) {
  const { value, unit } = lengthOf(line, spacing);
  return `${value < 10 && unit === "mm" ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** The shorter of two lines over the longer (cardiothoracic ratio); null unless there are two. */
export function ratioText(lines, spacing) {
  if (lines.length !== 2) return null;
  const [a, b] = lines.map((line) => lengthOf(line, spacing).value);
  return Math.max(a, b) > 0 ? (Math.min(a, b) / Math.max(a, b)).toFixed(2) : null;
}

/** The longest round scale bar within `maxPixels`: {length in mm, pixels}; null without a spacing. */
export function scaleBar(spacing, { scale, turn }, maxPixels) {
  if (!spacing) return null;
  const pixelsPerMm = scale / spacing[turn % 2 ? 0 : 1]; // rotated: the bar crosses image rows
  const length = [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm * pixelsPerMm <= maxPixels);
  return length ? { length, pixels: length * pixelsPerMm } : null;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

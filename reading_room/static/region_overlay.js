// SVG over an image: the reader's regions as a heatmap and boxes, and the contours of findings.

import { toScreen } from "./viewport.js";
import { svg } from "./svg.js";

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

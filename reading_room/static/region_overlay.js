// The reader's regions as SVG over an image: the soft heat, and the edge of each box.

import { toScreen } from "./viewport.js";
import { svg } from "./svg.js";

/** Elements of `regions` for a pane of this pose; `name` tells the panes' gradients apart. */
export function regionMarks(regions, { image, pose, screen, name }) {
  const all = regions.growing ? [...regions.boxes, regions.growing] : regions.boxes;
  const edges = all.map((box) => svg("rect", { class: "region", ...onScreen(box, image, pose, screen) }));
  if (!regions.shown) return edges;
  const clip = svg("clipPath", { id: `${name}-image` }); // no heat beside the image
  clip.append(svg("rect", onScreen([0, 0, 1, 1], image, pose, screen)));
  const spots = regions.spots(image).map((each) => spot(each, pose, screen, name));
  return [clip, gradient(name), ...spots, ...edges];
}

function gradient(name) {
  const fade = svg("radialGradient", { id: name });
  for (const [offset, opacity] of [[0, 0.42], [0.25, 0.36], [0.5, 0.23], [0.75, 0.11], [1, 0]]) {
    fade.append(svg("stop", { offset, "stop-color": "#ff9a3c", "stop-opacity": opacity }));
  }
  return fade;
}

function spot({ x, y, across, down, strength }, pose, screen, name) {
  const middle = toScreen(pose, screen, { x, y });
  const [rx, ry] = pose.turn % 2 ? [down, across] : [across, down];
  return svg("ellipse", {
    class: "heat", cx: middle.x, cy: middle.y, rx: rx * pose.scale, ry: ry * pose.scale,
    fill: `url(#${name})`, "clip-path": `url(#${name}-image)`, opacity: strength,
  });
}

/** A box of fractions as a rectangle on the screen. */
function onScreen([x, y, w, h], { width, height }, pose, screen) {
  const a = toScreen(pose, screen, { x: x * width, y: y * height });
  const b = toScreen(pose, screen, { x: (x + w) * width, y: (y + h) * height });
  return {
    x: Math.min(a.x, b.x), y: Math.min(a.y, b.y),
    width: Math.abs(b.x - a.x), height: Math.abs(b.y - a.y),
  };
}

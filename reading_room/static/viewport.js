// Maps image points to screen points and back. Pure functions.
//
// A viewport is {x, y, scale, turn, mirror}: the image's point (x, y) is at the middle of the screen, one
// image pixel is `scale` screen pixels wide, mirrored left to right first, then turned by `turn`
// quarters clockwise. Screen points are in device pixels.

const COSINE = [1, 0, -1, 0];
const SINE = [0, 1, 0, -1];
export const MIN_SCALE = 0.02;
export const MAX_SCALE = 32;

/** The whole image, upright or as it was turned. */
export function fitted(image, screen, { turn = 0, mirror = false } = {}) {
  const [w, h] = turn % 2 ? [image.height, image.width] : [image.width, image.height];
  const scale = Math.min(screen.width / w, screen.height / h);
  return { x: image.width / 2, y: image.height / 2, scale, turn, mirror };
}

/** Image point to screen point. */
export function toScreen(viewport, screen, { x, y }) {
  const dx = (viewport.mirror ? -1 : 1) * (x - viewport.x);
  const dy = y - viewport.y;
  const [c, s] = [COSINE[viewport.turn], SINE[viewport.turn]];
  return {
    x: screen.width / 2 + viewport.scale * (c * dx - s * dy),
    y: screen.height / 2 + viewport.scale * (s * dx + c * dy),
  };
}

/** Screen point to image point. */
export function toImage(viewport, screen, { x, y }) {
  const dx = (x - screen.width / 2) / viewport.scale;
  const dy = (y - screen.height / 2) / viewport.scale;
  const [c, s] = [COSINE[viewport.turn], SINE[viewport.turn]];
  return {
    x: viewport.x + (viewport.mirror ? -1 : 1) * (c * dx + s * dy),
    y: viewport.y + (-s * dx + c * dy),
  };
}

/** Coefficients of screen to image: x = a u + b v + c, y = d u + e v + f. */
export function inverse(viewport, screen) {
  const origin = toImage(viewport, screen, { x: 0, y: 0 });
  const right = toImage(viewport, screen, { x: 1, y: 0 });
  const down = toImage(viewport, screen, { x: 0, y: 1 });
  return [
    right.x - origin.x, down.x - origin.x, origin.x,
    right.y - origin.y, down.y - origin.y, origin.y,
  ];
}

/** Zoom; the image's point under the screen point `at` stays under it. */
export function zoomed(viewport, screen, at, factor) {
  const scale = Math.min(Math.max(viewport.scale * factor, MIN_SCALE), MAX_SCALE);
  const before = toImage(viewport, screen, at);
  const after = toImage({ ...viewport, scale }, screen, at);
  return { ...viewport, scale, x: viewport.x + before.x - after.x, y: viewport.y + before.y - after.y };
}

/** Moved by screen pixels; the middle of the screen stays on the image, so it cannot get lost. */
export function panned(viewport, screen, dx, dy, image) {
  const middle = { x: screen.width / 2 - dx, y: screen.height / 2 - dy };
  const { x, y } = toImage(viewport, screen, middle);
  return {
    ...viewport,
    x: Math.min(Math.max(x, 0), image.width),
    y: Math.min(Math.max(y, 0), image.height),
  };
}

/** Turned by quarters, clockwise on the screen, about its middle. */
export function turned(viewport, quarters) {
  return { ...viewport, turn: (((viewport.turn + quarters) % 4) + 4) % 4 };
}

/** Flipped left to right as it is seen. */
export function mirrored(viewport) {
  return { ...viewport, mirror: !viewport.mirror, turn: (4 - viewport.turn) % 4 };
}

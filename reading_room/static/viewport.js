// Maps image points to screen points and back. Pure functions.
//
// A viewport is {x, y, scale, turn, mirror}: the image point (x, y) is at the centre of the screen, one
// image pixel is `scale` screen pixels wide; the image is mirrored left to right first, then rotated
// clockwise by `turn` quarter turns. Screen points are in device pixels.

const COSINE = [1, 0, -1, 0];
const SINE = [0, 1, 0, -1];
const MIN_SCALE = 0.02;
const MAX_SCALE = 32;

/** A viewport that shows the whole image. */
export function fitViewport(image, screen, { turn = 0, mirror = false } = {}) {
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
export function screenToImageCoefficients(viewport, screen) {
  const origin = toImage(viewport, screen, { x: 0, y: 0 });
  const right = toImage(viewport, screen, { x: 1, y: 0 });
  const down = toImage(viewport, screen, { x: 0, y: 1 });
  return [
    right.x - origin.x, down.x - origin.x, origin.x,
    right.y - origin.y, down.y - origin.y, origin.y,
  ];
}

/** Zoom; the image point under the screen point `at` stays there. */
export function zoomViewport(viewport, screen, at, factor) {
  const scale = Math.min(Math.max(viewport.scale * factor, MIN_SCALE), MAX_SCALE);
  const before = toImage(viewport, screen, at);
  const after = toImage({ ...viewport, scale }, screen, at);
  return { ...viewport, scale, x: viewport.x + before.x - after.x, y: viewport.y + before.y - after.y };
}

/** Pan by screen pixels; the centre of the screen stays on the image, so it cannot get lost. */
export function panViewport(viewport, screen, dx, dy, image) {
  const centre = { x: screen.width / 2 - dx, y: screen.height / 2 - dy };
  const { x, y } = toImage(viewport, screen, centre);
  return {
    ...viewport,
    x: Math.min(Math.max(x, 0), image.width),
    y: Math.min(Math.max(y, 0), image.height),
  };
}

/** Rotate clockwise by quarter turns, about the centre of the screen. */
export function rotateViewport(viewport, quarters) {
  return { ...viewport, turn: (((viewport.turn + quarters) % 4) + 4) % 4 };
}

/** Flip left to right, as seen on the screen. */
export function flipViewport(viewport) {
  return { ...viewport, mirror: !viewport.mirror, turn: (4 - viewport.turn) % 4 };
}

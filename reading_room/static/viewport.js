// Where the image lies on the screen. Pure functions.
//
// A pose is {x, y, scale, turn, mirror}: the image's point (x, y) is at the middle of the screen, one
// image pixel is `scale` screen pixels wide, mirrored left to right first, then turned by `turn`
// quarters clockwise. Screen points are in device pixels.

const COSINE = [1, 0, -1, 0];
const SINE = [0, 1, 0, -1];
export const LEAST_SCALE = 0.02;
export const MOST_SCALE = 32;

/** The whole image, upright or as it was turned. */
export function fitted(image, screen, { turn = 0, mirror = false } = {}) {
  const [w, h] = turn % 2 ? [image.height, image.width] : [image.width, image.height];
  const scale = Math.min(screen.width / w, screen.height / h);
  return { x: image.width / 2, y: image.height / 2, scale, turn, mirror };
}

/** Image point to screen point. */
export function toScreen(pose, screen, { x, y }) {
  const dx = (pose.mirror ? -1 : 1) * (x - pose.x);
  const dy = y - pose.y;
  const [c, s] = [COSINE[pose.turn], SINE[pose.turn]];
  return {
    x: screen.width / 2 + pose.scale * (c * dx - s * dy),
    y: screen.height / 2 + pose.scale * (s * dx + c * dy),
  };
}

/** Screen point to image point. */
export function toImage(pose, screen, { x, y }) {
  const dx = (x - screen.width / 2) / pose.scale;
  const dy = (y - screen.height / 2) / pose.scale;
  const [c, s] = [COSINE[pose.turn], SINE[pose.turn]];
  return {
    x: pose.x + (pose.mirror ? -1 : 1) * (c * dx + s * dy),
    y: pose.y + (-s * dx + c * dy),
  };
}

/** Coefficients of screen to image: x = a u + b v + c, y = d u + e v + f. */
export function inverse(pose, screen) {
  const origin = toImage(pose, screen, { x: 0, y: 0 });
  const right = toImage(pose, screen, { x: 1, y: 0 });
  const down = toImage(pose, screen, { x: 0, y: 1 });
  return [
    right.x - origin.x, down.x - origin.x, origin.x,
    right.y - origin.y, down.y - origin.y, origin.y,
  ];
}

/** Zoom; the image's point under the screen point `at` stays under it. */
export function zoomed(pose, screen, at, factor) {
  const scale = Math.min(Math.max(pose.scale * factor, LEAST_SCALE), MOST_SCALE);
  const before = toImage(pose, screen, at);
  const after = toImage({ ...pose, scale }, screen, at);
  return { ...pose, scale, x: pose.x + before.x - after.x, y: pose.y + before.y - after.y };
}

/** Moved by screen pixels; the middle of the screen stays on the image, so it cannot get lost. */
export function panned(pose, screen, dx, dy, image) {
  const middle = { x: screen.width / 2 - dx, y: screen.height / 2 - dy };
  const { x, y } = toImage(pose, screen, middle);
  return {
    ...pose,
    x: Math.min(Math.max(x, 0), image.width),
    y: Math.min(Math.max(y, 0), image.height),
  };
}

/** Turned by quarters, clockwise on the screen, about its middle. */
export function turned(pose, quarters) {
  return { ...pose, turn: (((pose.turn + quarters) % 4) + 4) % 4 };
}

/** Flipped left to right as it is seen. */
export function mirrored(pose) {
  return { ...pose, mirror: !pose.mirror, turn: (4 - pose.turn) % 4 };
}

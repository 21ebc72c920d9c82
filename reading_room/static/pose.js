// Where the film lies on the screen. Pure functions.
//
// A pose is {x, y, scale, turn, mirror}: the film's point (x, y) is at the middle of the screen, one
// film pixel is `scale` screen pixels wide, mirrored left to right first, then turned by `turn`
// quarters clockwise. Screen points are in device pixels.

const COSINE = [1, 0, -1, 0];
const SINE = [0, 1, 0, -1];
export const LEAST_SCALE = 0.02;
export const MOST_SCALE = 32;

/** The whole film, upright or as it was turned. */
export function fitted(film, screen, { turn = 0, mirror = false } = {}) {
  const [w, h] = turn % 2 ? [film.height, film.width] : [film.width, film.height];
  const scale = Math.min(screen.width / w, screen.height / h);
  return { x: film.width / 2, y: film.height / 2, scale, turn, mirror };
}

/** Film point to screen point. */
export function toScreen(pose, screen, { x, y }) {
  const dx = (pose.mirror ? -1 : 1) * (x - pose.x);
  const dy = y - pose.y;
  const [c, s] = [COSINE[pose.turn], SINE[pose.turn]];
  return {
    x: screen.width / 2 + pose.scale * (c * dx - s * dy),
    y: screen.height / 2 + pose.scale * (s * dx + c * dy),
  };
}

/** Screen point to film point. */
export function toFilm(pose, screen, { x, y }) {
  const dx = (x - screen.width / 2) / pose.scale;
  const dy = (y - screen.height / 2) / pose.scale;
  const [c, s] = [COSINE[pose.turn], SINE[pose.turn]];
  return {
    x: pose.x + (pose.mirror ? -1 : 1) * (c * dx + s * dy),
    y: pose.y + (-s * dx + c * dy),
  };
}

/** Coefficients of screen to film: x = a u + b v + c, y = d u + e v + f. */
export function inverse(pose, screen) {
  const origin = toFilm(pose, screen, { x: 0, y: 0 });
  const right = toFilm(pose, screen, { x: 1, y: 0 });
  const down = toFilm(pose, screen, { x: 0, y: 1 });
  return [
    right.x - origin.x, down.x - origin.x, origin.x,
    right.y - origin.y, down.y - origin.y, origin.y,
  ];
}

/** Zoom; the film's point under the screen point `at` stays under it. */
export function zoomed(pose, screen, at, factor) {
  const scale = Math.min(Math.max(pose.scale * factor, LEAST_SCALE), MOST_SCALE);
  const before = toFilm(pose, screen, at);
  const after = toFilm({ ...pose, scale }, screen, at);
  return { ...pose, scale, x: pose.x + before.x - after.x, y: pose.y + before.y - after.y };
}

/** Moved by screen pixels; the middle of the screen stays on the film, so it cannot get lost. */
export function panned(pose, screen, dx, dy, film) {
  const middle = { x: screen.width / 2 - dx, y: screen.height / 2 - dy };
  const { x, y } = toFilm(pose, screen, middle);
  return {
    ...pose,
    x: Math.min(Math.max(x, 0), film.width),
    y: Math.min(Math.max(y, 0), film.height),
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
